"""Log-weights of orders, what every bound over orderings sums: with latents that orders share, or one for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.bounds.chunks import in_chunks
from graphvae.bounds.importance import draws
from graphvae.fixed_order import places_of
from graphvae.graphs import copies, relabelled
from graphvae.model import GraphVAE


def shared_weights(
    model: GraphVAE, graphs: Batch, orders: Tensor, particles: int, noise: Tensor | None, chunk: int | None
) -> Tensor:
    """`(K, B)` log of the mean over M latents of p(order G, z) / q(z | G), the same latents for every order."""
    drawn = draws(model, model.posterior(graphs), particles, noise)
    whole, z = copies(graphs, particles), drawn.z.to(graphs.x.dtype)
    shifts = graphs.layout.num_rows * torch.arange(particles, device=orders.device)
    moved = (orders[:, None] + shifts[:, None]).flatten(1)
    score = _scorer(model, z, whole)
    if score is not None:
        found = in_chunks(score, chunk, moved)
        found = found if model.sizes is None else found + model.sizes().log_prob(whole.layout.sizes)
    else:
        found = _decoded(model, whole, z.expand(len(orders), *z.shape), moved, chunk)
    return (found.view(len(orders), particles, -1) + drawn.log_ratio).logsumexp(1) - math.log(particles)


def paired_weights(
    model: GraphVAE, graphs: Batch, orders: Tensor, noise: Tensor | None, chunk: int | None, encode_each: bool
) -> Tensor:
    """`(K, B)` log p(order G, z) / q(z), a latent for each order."""
    if noise is not None and len(noise) != len(orders):
        raise ValueError(f"'noise' must have one draw for each of the {len(orders)} orders, got {tuple(noise.shape)}")
    if not encode_each:
        drawn = draws(model, model.posterior(graphs), len(orders), noise)
        z = drawn.z.to(graphs.x.dtype).view(len(orders), -1, *drawn.z.shape[1:])
        return _decoded(model, graphs, z, orders, chunk) + drawn.log_ratio

    def weights(orders: Tensor, noise: Tensor | None = None) -> Tensor:
        moved = relabelled(graphs, orders)
        drawn = draws(model, model.posterior(moved), 1, None if noise is None else noise.flatten(0, 1)[None])
        z = drawn.z.to(graphs.x.dtype)
        return (model.log_likelihood(moved, z, exact=True) + drawn.log_ratio[0]).view(len(orders), -1)

    return in_chunks(weights, chunk, orders, *([] if noise is None else [noise]))


def _decoded(model: GraphVAE, graphs: Batch, z: Tensor, orders: Tensor, chunk: int | None) -> Tensor:
    """`(K, B)` log p(order G | z) of K orders and `(K, R, D)` latents, which are relabelled if they are of nodes."""

    def decoded(orders: Tensor, z: Tensor) -> Tensor:
        if _of_nodes(z[0], graphs):
            z = z.gather(1, orders[:, :, None].expand(-1, -1, z.size(2)))
        return model.log_likelihood(relabelled(graphs, orders), z.flatten(0, 1), exact=True).view(len(orders), -1)

    return in_chunks(decoded, chunk, orders, z)


def _scorer(model: GraphVAE, z: Tensor, graphs: Batch) -> Callable[[Tensor], Tensor] | None:
    """Scores orders `(K, N)` with what is decoded once, if the decoder can and what it decodes is all there is."""
    if model.decoder is not None:
        decoded, layout = model.decoder(z), graphs.layout
        return lambda orders: decoded.log_probs(graphs, places_of(orders, layout))
    if model.edges is None or model.features is not None or _of_nodes(z, graphs):
        return None
    edges = model.edges(z, graphs.layout)
    model.check_exact(edges)
    log_probs = None if model.edge_types else getattr(edges, "log_probs", None)
    return None if log_probs is None else partial(log_probs, graphs.edge_index)


def _of_nodes(z: Tensor, graphs: Batch) -> bool:
    return z.size(0) == graphs.layout.num_rows
