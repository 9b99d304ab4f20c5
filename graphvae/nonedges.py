"""Pairs of nodes that are not joined, by their rank: drawn uniformly without rejection, without an N×N matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from graphvae.layout import Layout, counted


class NonEdges:
    r"""The pairs within a graph, i < j or i != j if `directed`, that `edge_index` lacks; they are numbered.

    All pairs of all graphs have linear indices. Let \(e_k\) be those of the sorted edges; \(e_k - k\) pairs below
    \(e_k\) are absent, a non-decreasing sequence, so the r-th absent pair has the index \(r + \#\{k: e_k - k \le r\}\):
    one binary search. Needs float64 on the device. Only that sequence is kept until more is asked for.

    Args:
        edge_index: `(2, E)` without duplicates or self loops; undirected edges in both directions.
        layout: Of the nodes.
        directed: Ordered pairs.

    Attributes:
        count: Absent pairs in all graphs.
    """

    def __init__(self, edge_index: Tensor, layout: Layout, directed: bool = False) -> None:
        self.layout, self.directed = layout, directed
        sizes = layout.sizes
        self._offsets = torch.nn.functional.pad((layout.num_pairs * (2 if directed else 1)).cumsum(0), (1, 0))
        keys = self.index(once(edge_index, directed)).sort().values
        self._gaps = keys - torch.arange(keys.numel(), device=sizes.device)
        every = sum(size * (size - 1) for size in layout.host_sizes) // (1 if directed else 2)
        self.count = every - keys.numel()

    @cached_property
    def present(self) -> Tensor:
        """`(2, E)` the edges, sorted; undirected ones once, the smaller node first."""
        return self._pairs(self._keys)

    @cached_property
    def _keys(self) -> Tensor:
        return self._gaps + torch.arange(self._gaps.numel(), device=self._gaps.device)

    @classmethod
    def every(cls, layout: Layout, directed: bool = False) -> NonEdges:
        """All pairs: the non-edges of graphs without edges."""
        return cls(layout.ptr.new_empty(2, 0), layout, directed)

    def at(self, ranks: Tensor) -> Tensor:
        """`(2, M)` absent pairs of the given `(M,)` ranks in 0, ..., `count` - 1; each pair has one rank."""
        return self._pairs(ranks + torch.searchsorted(self._gaps, ranks, right=True))

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """`(2, num)` independent uniform draws, with replacement.

        Raises:
            ValueError: Every pair is joined.
        """
        if num == 0:
            return self._gaps.new_empty(2, 0)
        if self.count == 0:
            raise ValueError("'edge_index' must lack some pair, the graphs are complete: there is nothing to draw")
        ranks = torch.randint(self.count, (num,), generator=generator, device=self._gaps.device)
        return self.at(ranks)

    def contains(self, pairs: Tensor) -> Tensor:
        """`(M,)` whether pairs `(2, M)`, of different nodes of one graph, are absent."""
        if self._keys.numel() == 0:
            return torch.ones_like(pairs[0], dtype=torch.bool)
        keys = self.index(pairs)
        place = torch.searchsorted(self._keys, keys).clamp(max=self._keys.numel() - 1)
        return self._keys[place] != keys

    def index(self, pairs: Tensor) -> Tensor:
        """`(M,)` numbers of `(2, M)` pairs among all of them, joined or not; undirected, j(j - 1)/2 + i in a graph."""
        first, second = pairs
        graph = 0 if self.layout.num_graphs == 1 else self.layout.batch[first]
        start = self.layout.ptr[graph]
        first, second = first - start, second - start
        if self.directed:
            return self._offsets[graph] + second * (self.layout.sizes[graph] - 1) + first - (first > second).long()
        high = torch.maximum(first, second)
        return self._offsets[graph] + _below(high) + torch.minimum(first, second)

    def _pairs(self, index: Tensor) -> Tensor:
        if self.layout.num_graphs == 1:
            graph: int | Tensor = 0
        else:
            graph = torch.searchsorted(self._offsets[1:], index, right=True)
            index = index - self._offsets[graph]
        start = self.layout.ptr[graph]
        if self.directed:
            width = self.layout.sizes[graph] - 1
            second = index // width
            first = index - second * width
            return torch.stack([start + first + (first >= second).long(), start + second])
        high = ((1 + (1 + 8 * index.double()).sqrt()) / 2).long()
        high -= (_below(high) > index).long()
        high += (_below(high + 1) <= index).long()
        return torch.stack([start + index - _below(high), start + high])


def once(edge_index: Tensor, directed: bool) -> Tensor:
    """`(2, E)`, of an undirected edge the direction upwards."""
    return edge_index if directed else edge_index[:, edge_index[0] < edge_index[1]]


def _below(node: Tensor) -> Tensor:
    """The number of pairs i < j with j below `node`."""
    return (node * (node - 1)) >> 1


@dataclass(frozen=True)
class Parted:
    """All pairs in two parts: near ones, which hold all edges, and the rest.

    Attributes:
        far: The rest; its `present` are the near pairs.
        joined: `(P,)` which of the near pairs are edges, None for all.
    """

    far: NonEdges
    joined: Tensor | None

    @classmethod
    def by_hops(cls, edge_index: Tensor, layout: Layout, directed: bool, hops: int) -> Parted:
        """Near are pairs joined by a walk of at most `hops` edges."""
        if hops == 1:
            return cls(NonEdges(edge_index, layout, directed), None)
        far = NonEdges(_walks(edge_index, layout.num_rows, hops), layout, directed)
        return cls(far, ~NonEdges(edge_index, layout, directed).contains(far.present))


def _walks(edge_index: Tensor, num_nodes: int, hops: int) -> Tensor:
    """The pairs of different nodes joined by a walk of 1 to `hops` edges, `(2, P)`."""
    source, target = edge_index[:, edge_index[0].argsort()]
    degree = torch.bincount(source, minlength=num_nodes)
    first = degree.cumsum(0) - degree
    reached = step = source * num_nodes + target
    for _ in range(hops - 1):
        start, end = reached // num_nodes, reached % num_nodes
        walk, offset = counted(degree[end])
        reached = torch.cat([step, start[walk] * num_nodes + target[first[end[walk]] + offset]]).unique()
    pairs = torch.stack([reached // num_nodes, reached % num_nodes])
    return pairs[:, pairs[0] != pairs[1]]


_Key = tuple[int, int, bool, int, int, int]
_parted: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def parted(edge_index: Tensor, layout: Layout, directed: bool, hops: int) -> Parted:
    """`Parted.by_hops`, remembered for as long as the tensor `edge_index` lives and is not written to."""
    if edge_index.is_inference() or edge_index.numel() == 0:
        return Parted.by_hops(edge_index, layout, directed, hops)
    key: _Key = (edge_index._version, edge_index.data_ptr(), directed, hops, layout.num_rows, layout.num_graphs)
    known = _parted.get(edge_index)
    same = known is not None and known[0] == key
    if not same or (layout.num_graphs > 1 and known[1].far.layout.ptr is not layout.ptr):
        known = key, Parted.by_hops(edge_index, layout, directed, hops)
        _parted[edge_index] = known
    return known[1]
