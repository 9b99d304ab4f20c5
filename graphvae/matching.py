r"""Where the nodes of a graph stand among the numbered places of a decoder: max-pooling matching and its rounding.

A decoder to k places gives probabilities that a place is taken, \(\tilde A_{aa}\), that two are joined,
\(\tilde A_{ab}\), and of the types of edges and nodes. The similarity of "nodes i, j at places a, b" is a product of a
part of i, j and a part of a, b, so that the k⁴ similarities of a graph are never written down: all neighbours of a node
by edges of one type see the same maxima over its places, and an update costs k² for each node and type of its edges.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from graphvae.neighbour_maxima import NeighbourMaxima
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive

# Products compared at a time: they stay in the cache of a CPU; a GPU needs more to be busy.
_CHUNK, _DEVICE_CHUNK = 2**18, 2**25


@torch.no_grad()
def max_pooling_matching(
    adjacency: Tensor,
    node_similarity: Tensor,
    existence: Tensor,
    edges: Tensor,
    mask: Tensor,
    iterations: int = 75,
    chunk_size: int | None = None,
) -> Tensor:
    r"""Soft assignment of the nodes of graphs to the places of a decoder, for likelihoods under a matched order.

    Max-pooling matching (Cho et al. 2014, CVPR) as GraphVAE uses it (Simonovsky & Komodakis 2018, arXiv:1802.03480).

    With \(S_{ia,jb} = A_{ij} \langle E_{ij}, \tilde E_{ab}\rangle \tilde A_{ab} \tilde A_{aa} \tilde A_{bb}\) for
    i ≠ j, a ≠ b, and \(S_{ia,ia} = \langle F_i, \tilde F_a\rangle \tilde A_{aa}\), repeats from a uniform start

    .. math:: x_{ia} \leftarrow x_{ia} S_{ia,ia} + \sum_{j \neq i} \max_b x_{jb} S_{ia,jb}

    and scales x to unit norm. Exact, in time O(k²) for each node and type of its edges, and memory O(T k²) for a graph.

    No gradient goes through it. Nodes that an automorphism exchanges have equal rows, and places that the decoder does
    not tell apart equal columns: which goes where is left open, and `rounded` decides by their numbers, for each node
    alone. Where all similarities of a graph are zero nothing speaks for any place, and its rows stay uniform.

    Args:
        adjacency: `(B, T, n, n)` the graphs, by type of edge: 1 where i and j are joined by an edge of type t, else 0.
            A pair has one type at most. Diagonals are not read; T is 1 without types.
        node_similarity: `(B, n, k)` the products of node types with their probabilities at a place; without types
            `degree_similarity`, or ones.
        existence: `(B, k)` probabilities that places are taken.
        edges: `(B, T, k, k)` probabilities of an edge of type t between two places. Diagonals are not read.
        mask: `(B, n)` which rows are nodes; the others are padding.
        iterations: Of the update.
        chunk_size: About how many products are held at a time, 32 k² at least; a matter of memory and speed alone.

    Returns:
        `(B, n, k)` nonnegative, of unit norm for each graph that has a node; zero in rows of padding.

    Raises:
        TypeError: `iterations` or `chunk_size` is no integer.
        ValueError: Shapes do not fit, a pair of nodes has two types, or a number is not positive.
    """
    _check(adjacency, node_similarity, existence, edges, mask)
    check_positive(iterations=iterations, chunk_size=chunk_size)
    if chunk_size is None:
        chunk_size = _CHUNK if edges.device.type == "cpu" else _DEVICE_CHUNK
    nodes = torch.arange(mask.size(1), device=mask.device)
    joined = adjacency.bool() & mask[:, None, None] & mask[:, None, :, None] & (nodes != nodes[:, None])
    # Large graphs first, so that those that have an i-th node are the first ones.
    order = joined.any(2).any(1).mul(nodes + 1).amax(1).argsort(descending=True, stable=True)
    joined, adjacency, mask = joined[order], adjacency[order], mask[order]
    edges = at_least_single(edges)[order]
    node_similarity, existence = (tensor[order].to(edges) for tensor in (node_similarity, existence))
    x = _uniform(mask, existence.size(1), edges.dtype)
    own = (node_similarity * existence[:, None]).permute(2, 1, 0).contiguous()
    pooled = NeighbourMaxima(x, joined, adjacency, _between_places(existence, edges), chunk_size)
    with torch.autocast(x.device.type, enabled=False):
        _iterate(x, own, pooled, iterations)
    return _unit(x.permute(2, 1, 0), mask)[order.argsort()]


@torch.no_grad()
def degree_similarity(adjacency: Tensor, existence: Tensor, edges: Tensor) -> Tensor:
    r"""How alike the degrees of nodes and places are, \(1 / (1 + \lvert d_i - \tilde d_a \rvert)\): without node types.

    \(\tilde d_a = \sum_{b \neq a} \tilde A_{ab} \tilde A_{bb}\) is the expected degree of a place that is taken. With a
    node similarity of ones the matching cannot tell one place from another if each has one good neighbour: of the
    asymmetric graphs of six nodes, whose decoder knows them, it finds none; with this one all.

    Args:
        adjacency: `(B, T, n, n)` as for `max_pooling_matching`.
        existence: `(B, k)`.
        edges: `(B, T, k, k)`.

    Returns:
        `(B, n, k)` in (0, 1].
    """
    joined = at_least_single(edges).sum(1)
    joined = joined - torch.diag_embed(joined.diagonal(dim1=1, dim2=2))
    expected = (joined * existence[:, None]).sum(2)[:, None]
    degrees = adjacency.sum((1, 3), dtype=joined.dtype) - adjacency.diagonal(dim1=2, dim2=3).sum(1, dtype=joined.dtype)
    return 1 / (1 + (degrees[:, :, None] - expected).abs())


def rounded(scores: Tensor, mask: Tensor) -> Tensor:
    """The places of nodes whose scores have the largest sum, each place taken once (Hungarian algorithm, by scipy).

    The likelihood at these places is that of one order of the nodes, whatever the scores: a bound stays a bound. With a
    soft assignment in their stead it would not.

    Ties, for instance between nodes that an automorphism exchanges, are decided by the numbers of rows and columns.

    Args:
        scores: `(B, n, k)` finite, with n ≤ k; moved to the CPU in one piece.
        mask: `(B, n)` which rows are nodes.

    Returns:
        `(B, n)` int64 on the device of `scores`. Rows of padding get places that are left over, so that no place comes
        twice in a row; with n = k each row is a permutation.
    """
    if scores.dim() != 3 or scores.size(1) > scores.size(2) or mask.shape != scores.shape[:2]:
        shapes = f"{tuple(scores.shape)} and {tuple(mask.shape)}"
        raise ValueError(f"'scores' must be (B, n, k) with n at most k, and 'mask' (B, n), got {shapes}")
    # Rows of zeros add nothing, wherever they are put.
    gains = scores.detach().double().masked_fill(~mask[:, :, None], 0).cpu().numpy()
    places = np.empty(gains.shape[:2], dtype=np.int64)
    for b, gain in enumerate(gains):
        places[b] = linear_sum_assignment(gain, maximize=True)[1]
    return torch.from_numpy(places).to(scores.device)


def _check(adjacency: Tensor, node_similarity: Tensor, existence: Tensor, edges: Tensor, mask: Tensor) -> None:
    if adjacency.dim() != 4 or existence.dim() != 2:
        found = f"{tuple(adjacency.shape)} and {tuple(existence.shape)}"
        raise ValueError(f"'adjacency' must be (B, T, n, n) and 'existence' (B, k), got {found}")
    (B, T, n, _), k = adjacency.shape, existence.size(1)
    named = {"adjacency": adjacency, "node_similarity": node_similarity, "existence": existence}
    named |= {"edges": edges, "mask": mask}
    fitting = {"adjacency": (B, T, n, n), "node_similarity": (B, n, k), "existence": (B, k)}
    fitting |= {"edges": (B, T, k, k), "mask": (B, n)}
    for name, tensor in named.items():
        if tuple(tensor.shape) != fitting[name]:
            sizes = f"for B, T, n, k = {B}, {T}, {n}, {k}"
            raise ValueError(f"{name!r} must have shape {fitting[name]} {sizes}, got {tuple(tensor.shape)}")
    if mask.dtype != torch.bool:
        raise ValueError(f"'mask' must be boolean, got {mask.dtype}; use mask.bool()")
    if T > 1 and bool((adjacency.bool().sum(1) > 1).any()):
        raise ValueError("'adjacency' must give each pair of nodes one type at most, a pair has two")


def _uniform(mask: Tensor, places: int, dtype: torch.dtype) -> Tensor:
    """`(k, n, B)` ones, and zeros in rows of padding; graphs last, because all that follows runs along them."""
    return mask.T.to(dtype).expand(places, -1, -1).contiguous()


def _between_places(existence: Tensor, edges: Tensor) -> Tensor:
    """`(T, k, k, B)` the part of the similarities that does not depend on the nodes."""
    taken = existence[:, None] * existence[:, :, None]
    taken.diagonal(dim1=1, dim2=2).zero_()
    return (edges * taken[:, None]).permute(1, 2, 3, 0).contiguous()


def _iterate(x: Tensor, own: Tensor, pooled: Callable[[Tensor], object], iterations: int) -> None:
    """Updates `x` `(k, n, B)` in place, scaled to a largest entry of one: an update of c x is c times that of x."""
    new, largest, tiny = torch.empty_like(x), x.new_empty(x.size(2)), torch.finfo(x.dtype).tiny
    for _ in range(iterations):
        pooled(new)
        new.addcmul_(x, own)
        torch.amax(new, (0, 1), out=largest)
        torch.div(new, largest.clamp_(min=tiny), out=x)


def _unit(x: Tensor, mask: Tensor) -> Tensor:
    """`(B, n, k)` scaled to unit norm for each graph; uniform over the nodes where it is zero."""
    x = torch.where((x > 0).any(2).any(1)[:, None, None], x, mask[:, :, None].to(x.dtype))
    return x / x.square().sum((1, 2), keepdim=True).sqrt().clamp(min=torch.finfo(x.dtype).tiny)
