r"""Where the nodes of a graph stand among the numbered places of a decoder: max-pooling matching and its rounding.

A decoder to k places gives probabilities that a place is taken, \(\tilde A_{aa}\), that two are joined, \(\tilde A_{ab}\),
and of the types of edges and nodes. The similarity of "nodes i, j at places a, b" factorises into a part of the pair i, j
and a part of the pair a, b, so that the k⁴ similarities of a graph are never written down: a pair of nodes of type t sees
the same maximum over b whichever node i is, and an update costs k² for each node and type of its edges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from graphvae.sparse import at_least_single, compressed
from graphvae.validation import check_positive

# Products compared at a time: they fit the second-level cache of a CPU core; a GPU needs more to be busy.
_CHUNK, _DEVICE_CHUNK = 2**17, 2**25


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
    r"""Soft assignment of the nodes of graphs to the places of a decoder (Cho et al. 2014), in the form of GraphVAE.

    With \(S_{ia,jb} = A_{ij} \langle E_{ij}, \tilde E_{ab}\rangle \tilde A_{ab} \tilde A_{aa} \tilde A_{bb}\) for
    i ≠ j, a ≠ b, and \(S_{ia,ia} = \langle F_i, \tilde F_a\rangle \tilde A_{aa}\), repeats from a uniform start

    .. math:: x_{ia} \leftarrow x_{ia} S_{ia,ia} + \sum_{j \neq i} \max_b x_{jb} S_{ia,jb}

    and scales x to unit norm. Exact, in time O(k²) for each node and type of its edges, and memory O(T k²) for a graph.

    No gradient goes through it. Nodes that an automorphism exchanges have equal rows, and so do places that the decoder
    does not tell apart: the assignment leaves open which of them goes where, and `rounded` then decides by their numbers.
    Where all similarities of a graph are zero nothing speaks for any place, and its rows stay uniform.

    Args:
        adjacency: `(B, T, n, n)` the graphs, by type of edge: 1 where i and j are joined by an edge of type t, else 0. A
            pair has one type at most. Diagonals are not read; T is 1 without types.
        node_similarity: `(B, n, k)` the products of node types with their probabilities at a place; ones without types.
        existence: `(B, k)` probabilities that places are taken.
        edges: `(B, T, k, k)` probabilities of an edge of type t between two places. Diagonals are not read.
        mask: `(B, n)` which rows are nodes; the others are padding.
        iterations: Of the update.
        chunk_size: Products held at a time, of at least k² for a graph; a matter of memory and speed alone.

    Returns:
        `(B, n, k)` nonnegative, of unit norm for each graph that has a node; zero in rows of padding.

    Raises:
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
    node_similarity, existence, edges = (
        at_least_single(t.detach())[order] for t in (node_similarity, existence, edges)
    )
    x = _uniform(mask, existence.size(1), edges.dtype)
    own = (node_similarity * existence[:, None]).permute(2, 1, 0).contiguous()
    pooled = _NeighbourMaxima(x, joined, adjacency, _between_places(existence, edges), chunk_size)
    _iterate(x, own, pooled, iterations)
    return _unit(x.permute(2, 1, 0), mask)[order.argsort()]


@torch.no_grad()
def degree_similarity(adjacency: Tensor, existence: Tensor, edges: Tensor) -> Tensor:
    r"""How alike the degrees of nodes and places are, \(1 / (1 + |d_i - \tilde d_a|)\): for graphs without node types.

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
    joined = edges.detach().sum(1)
    joined = joined - torch.diag_embed(joined.diagonal(dim1=1, dim2=2))
    expected = (joined @ existence.detach()[:, :, None]).mT
    degrees = adjacency.sum((1, 3), dtype=joined.dtype) - adjacency.diagonal(dim1=2, dim2=3).sum(1, dtype=joined.dtype)
    return 1 / (1 + (degrees[:, :, None] - expected).abs())


def rounded(scores: Tensor, mask: Tensor) -> Tensor:
    """The places of nodes whose scores have the largest sum, each place taken once (Hungarian algorithm, by scipy).

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


@dataclass(frozen=True)
class _Slots:
    """Where the maxima of the nodes with edges of one type are kept: a row of graphs for the first node of each, ...

    Args:
        counts: Of each graph that has a row, in descending order.
        rank: `(B, n)` the row in which a node is.
        position: `(B,)` the column in which a graph is.
        graphs: `(W,)` the graph of each column; None if all graphs stay in order, and a node's row is its number.
    """

    counts: list[int]
    rank: Tensor
    position: Tensor
    graphs: Tensor | None

    @property
    def size(self) -> int:
        return self.counts[0] * len(self.counts) if self.counts else 0

    def numbers(self) -> Tensor:
        """`(B, n)` the slots of nodes; without meaning where a node has none."""
        return self.rank * len(self.counts) + self.position[:, None]


def _slots(has: Tensor) -> list[_Slots]:
    """For each type, of `has` `(B, T, n)`: which nodes have an edge of it; graphs in descending order of their last."""
    B, _, n = has.shape
    graphs, nodes = torch.arange(B, device=has.device), torch.arange(n, device=has.device)
    extents = (has.any(1) * (nodes + 1)).amax(1)
    ordered, orders = has.sum(2).T.sort(descending=True, stable=True)  # (T, B)
    counts = torch.cat([extents[None], ordered]).tolist()
    slots = []
    for t, (count, order) in enumerate(zip(counts[1:], orders, strict=True)):
        if 2 * sum(count) > sum(counts[0]):  # To leave out the few nodes without this type would cost more.
            slots.append(_Slots(counts[0], nodes.expand(B, n), graphs, None))
        else:
            filled = order[: sum(c > 0 for c in count)]
            slots.append(_Slots(count[: len(filled)], has[:, t].cumsum(1) - 1, order.argsort(), filled))
    return slots


def _blocks(counts: list[int], most: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of slots to work on at a time, `most` of them or one row of one graph, few of them empty."""
    width = -(-len(counts) // -(-len(counts) // most)) if counts else 1
    for start in range(0, len(counts), width):
        part = np.asarray(counts[start : start + width])
        # How many graphs have an r-th node.
        left = np.searchsorted(-part, -np.arange(part[0])).tolist()
        first = 0
        while first < len(left):
            end = first + 1
            while end < len(left) and (end - first + 1) * left[first] <= most and 2 * left[end] > left[first]:
                end += 1
            yield slice(first, end), slice(start, start + left[first])
            first = end


class _NeighbourMaxima:
    """The sums over the neighbours j of a node, by type of edge, of the maxima over places b; all memory is made once.

    Args:
        x: `(k, n, B)`, to be updated in place between calls.
        joined: `(B, T, n, n)` boolean; graphs in descending order of their last node with an edge.
        adjacency: `(B, T, n, n)` the weights of edges.
        similarity: `(T, k, k, B)` what `x` is multiplied by before the maximum over the second k.
        chunk_size: Products at a time.
    """

    def __init__(self, x: Tensor, joined: Tensor, adjacency: Tensor, similarity: Tensor, chunk_size: int) -> None:
        slots = _slots(joined.any(2))
        ends = np.cumsum([0] + [s.size for s in slots]).tolist()
        self._x, most = x.flatten(1), max(1, chunk_size // x.size(0) ** 2)
        self._maxima = x.new_empty(x.size(0), ends[-1])
        self._products = x.new_empty(most * x.size(0) ** 2)
        self._matrix = _neighbour_matrix(joined, adjacency, slots, ends, x.dtype)
        self._gathers: list[tuple[Tensor, Tensor]] = []
        self._steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        for t, (slot, has) in enumerate(zip(slots, joined.any(2).unbind(1), strict=True)):
            if slot.size:
                source = x if slot.graphs is None else self._gathered(slot, has)
                target = self._maxima[:, ends[t] : ends[t + 1]].unflatten(1, (-1, len(slot.counts)))
                between = similarity[t] if slot.graphs is None else similarity[t].index_select(2, slot.graphs)
                self._plan(source, between, target, _blocks(slot.counts, most))

    def _gathered(self, slot: _Slots, has: Tensor) -> Tensor:
        """Memory `(k, R, W)` for the columns of x in the slots, filled anew in every call."""
        B, n = has.shape
        graphs, nodes = has.nonzero().unbind(1)
        columns = graphs.new_zeros(slot.size)  # What stands in a slot of no node is not read.
        columns[slot.numbers()[graphs, nodes]] = nodes * B + graphs
        room = self._x.new_empty(self._x.size(0), slot.size)
        self._gathers.append((columns, room))
        return room.unflatten(1, (-1, len(slot.counts)))

    def _plan(self, source: Tensor, between: Tensor, target: Tensor, blocks: Iterator[tuple[slice, slice]]) -> None:
        k = source.size(0)
        for rows, columns in blocks:
            x, maxima = source[:, rows, columns], target[:, rows, columns]
            products = self._products[: k * x.numel()].view(k, *x.shape)
            self._steps.append((between[:, :, None, columns], x, products, maxima))

    def __call__(self, out: Tensor) -> None:
        """Writes the sums to `out` `(k, n, B)`."""
        for columns, room in self._gathers:
            torch.index_select(self._x, 1, columns, out=room)
        for between, x, products, maxima in self._steps:
            torch.mul(between, x, out=products)
            torch.amax(products, 1, out=maxima)
        if not self._steps:
            out.zero_()
            return
        sums = out.flatten(1).T
        torch.addmm(sums, self._matrix, self._maxima.T, beta=0, out=sums)


def _neighbour_matrix(
    joined: Tensor, adjacency: Tensor, slots: list[_Slots], ends: list[int], dtype: torch.dtype
) -> Tensor:
    """CSR `(n B, slots)`: the row of node i has the weight of edge i, j of type t in the column of j's slot for t."""
    B, _, n, _ = joined.shape
    numbers = torch.stack([slot.numbers() + start for slot, start in zip(slots, ends[:-1], strict=True)])
    i, b, t, j = joined.permute(2, 0, 1, 3).nonzero().unbind(1)
    return compressed(i * B + b, numbers[t, b, j], adjacency[b, t, i, j].to(dtype), (n * B, ends[-1]))
