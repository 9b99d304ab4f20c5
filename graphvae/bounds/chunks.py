"""Particles and orderings as one batch, or as several where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric.data import Batch

from graphvae.graphs import copies
from graphvae.model import GraphVAE
from graphvae.validation import check_positive


def in_chunks(function: Callable[..., Tensor], chunk: int | None, *stacks: Tensor) -> Tensor:
    """`function(*stacks)`, for at most `chunk` rows of each stack at a time; all at once if None.

    What is kept for the gradient is then that of one chunk, computed again in the backward pass.

    Args:
        function: Of stacks of K rows, to `(K, ...)`, row by row.
        chunk: The most rows at a time.
        stacks: `(K, ...)` each.

    Raises:
        TypeError, ValueError: `chunk` is no positive integer.
    """
    check_positive(chunk=chunk)
    if chunk is None or chunk >= len(stacks[0]):
        return function(*stacks)
    step = partial(checkpoint, function, use_reentrant=False) if torch.is_grad_enabled() else function
    return torch.cat([step(*parts) for parts in zip(*(stack.split(chunk) for stack in stacks), strict=True)])


def log_likelihoods(model: GraphVAE, graphs: Batch, z: Tensor, chunk: int | None = None, exact: bool = False) -> Tensor:
    """Log p(G | z_k) of K latents, decoded as one batch of K·B graphs: `(K, B)`.

    Args:
        model: What decodes.
        graphs: From `model.batch`.
        z: `(K, R, D)`, of any floating-point type.
        chunk: As for `in_chunks`.
        exact: Refuse a log p(A | z) that is only estimated.
    """

    def decoded(z: Tensor) -> Tensor:
        return model.log_likelihood(copies(graphs, len(z)), z.flatten(0, 1), exact).view(len(z), -1)

    return in_chunks(decoded, chunk, z.to(graphs.x.dtype))
