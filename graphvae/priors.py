"""p(n) and p(Z): how many nodes a graph has, and where its latents come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, OneHotCategorical

from graphvae.distributions import PerGraph, TableOfSizes
from graphvae.layout import Layout
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive


class StandardNormal(nn.Module):
    """Independent standard normal latents, p(Z) = N(Z | 0, I).

    Args:
        latent: Dimension D of the latents.
    """

    zero: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"'latent' must be positive, got {latent}")
        self.latent = latent
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` latents with this layout."""
        loc = self.zero.expand(layout.num_rows, self.latent)
        return PerGraph(Normal(loc, torch.ones_like(self.zero).expand_as(loc), validate_args=False), layout)


class BernoulliPrior(nn.Module):
    r"""Independent binary latents, \(p(z_{id} = 1) = \sigma(\ell_d)\): fair bits, unless learned.

    Args:
        latent: Number D of bits in a row.
        learned: Train the logits, the same for every row.
    """

    def __init__(self, latent: int, learned: bool = False) -> None:
        super().__init__()
        self.latent, self.learned = latent, learned
        self.logits = _even(latent, learned)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` zeros and ones with this layout."""
        logits = at_least_single(self.logits).expand(layout.num_rows, -1)
        return PerGraph(Bernoulli(logits=logits, validate_args=False), layout)


class CategoricalPrior(nn.Module):
    """One of D classes for every row, one-hot: all alike, unless learned.

    Args:
        latent: Number D of classes.
        learned: Train the logits, the same for every row.
    """

    def __init__(self, latent: int, learned: bool = False) -> None:
        super().__init__()
        self.latent, self.learned = latent, learned
        self.logits = _even(latent, learned)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` one-hot rows with this layout."""
        logits = at_least_single(self.logits).expand(layout.num_rows, -1)
        return PerGraph(OneHotCategorical(logits=logits, validate_args=False), layout)


def _even(latent: int, learned: bool) -> nn.Parameter:
    check_positive(latent=latent)
    return nn.Parameter(torch.zeros(latent), requires_grad=learned)


class EmpiricalSizes(nn.Module):
    """p(n) as the frequencies of the sizes seen, with Laplace smoothing over 1 to the largest.

    Args:
        sizes: Numbers of nodes of the training graphs, at least one, all positive.
        smoothing: Pseudo-count of every size, so that an unseen one is unlikely rather than impossible.
    """

    log_probs: Tensor

    def __init__(self, sizes: Sequence[int] | Tensor, smoothing: float = 1.0) -> None:
        super().__init__()
        sizes = torch.as_tensor(sizes)
        if sizes.numel() == 0 or int(sizes.min()) < 1:
            raise ValueError("'sizes' must be positive numbers of nodes, at least one")
        if smoothing < 0:
            raise ValueError(f"'smoothing' must not be negative, got {smoothing}")
        self.sizes = [int(size) for size in sizes]
        self.smoothing = smoothing
        counts = torch.bincount(sizes).to(torch.get_default_dtype())
        counts[1:] += smoothing
        self.register_buffer("log_probs", (counts / counts.sum()).log())

    def forward(self) -> TableOfSizes:
        """The distribution of the number of nodes."""
        return TableOfSizes(self.log_probs)
