"""Sums over the neighbours of a node of maxima over places, many graphs at once: the inside of max-pooling matching."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphvae.sparse import compressed

_LANES, _CALL = 32, 2**15  # Of a vector loop; products that take as long as to begin with a block.


@dataclass(frozen=True)
class _Ranks:
    """The nodes with edges of one type, numbered within their graphs, and the graphs with the most of them first.

    Args:
        counts: Of the nodes of each graph that has any, in descending order.
        rank: `(B, n)` the number of a node; without meaning where it has no such edge.
        position: `(B,)` the place of a graph in this order.
        graphs: `(G,)` the graphs in order; None if nodes and graphs just keep their own numbers.
    """

    counts: list[int]
    rank: Tensor
    position: Tensor
    graphs: Tensor | None


def _ranks(has: Tensor) -> list[_Ranks]:
    """For each type, of `has` `(B, T, n)`: which nodes have an edge of it; graphs in descending order of their last."""
    B, _, n = has.shape
    graphs, nodes = torch.arange(B, device=has.device), torch.arange(n, device=has.device)
    extents = (has.any(1) * (nodes + 1)).amax(1)
    ordered, orders = has.sum(2).T.sort(descending=True, stable=True)  # (T, B)
    counts = torch.cat([extents[None], ordered]).tolist()
    ranks = []
    for t, (count, order) in enumerate(zip(counts[1:], orders, strict=True)):
        if 2 * sum(count) > sum(counts[0]):  # To leave out the few nodes without this type would cost more.
            ranks.append(_Ranks(counts[0], nodes.expand(B, n), graphs, None))
        else:
            filled = order[: sum(c > 0 for c in count)]
            ranks.append(_Ranks(count[: len(filled)], has[:, t].cumsum(1) - 1, order.argsort(), filled))
    return ranks


@dataclass(frozen=True)
class _Block:
    """Nodes of some ranks, of graphs at some positions, whose maxima stand in the first slots from `start` to `end`."""

    ranks: slice
    positions: slice
    start: int
    end: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.ranks.stop - self.ranks.start, self.positions.stop - self.positions.start


def _blocks(counts: list[int], most: int, spare: int, start: int) -> Iterator[_Block]:
    """Blocks of about `most` nodes at most, of which about `spare` are not there; slots are counted from `start`."""
    pieces = max(1, -(-len(counts) // most))
    width = _whole(max(1, -(-len(counts) // pieces)))
    for column in range(0, len(counts), width):
        part = np.asarray(counts[column : column + width])
        # How many graphs have an r-th node.
        left, first = np.searchsorted(-part, -np.arange(part[0])).tolist(), 0
        while first < len(left):
            end, graphs = first + 1, min(_whole(left[first]), len(part))
            while end < len(left) and (end - first + 1) * graphs <= min(most, spare + sum(left[first : end + 1])):
                end += 1
            size = _whole((end - first) * graphs)
            yield _Block(slice(first, end), slice(column, column + graphs), start, start + size)
            first, start = end, start + size


def _whole(number: int) -> int:
    """Rounded up to what a loop over vector registers takes at a time; the rest would be done one by one, slowly."""
    return -(-number // _LANES) * _LANES


def _slots(ranks: _Ranks, blocks: list[_Block]) -> Tensor:
    """`(B, n)` the slots of nodes; without meaning where a node has none."""
    B, n = ranks.rank.shape
    table = ranks.rank.new_zeros(n, B)
    for block in blocks:
        numbers = block.start + torch.arange(math.prod(block.shape), device=table.device)
        table[block.ranks, block.positions] = numbers.view(block.shape)
    return table[ranks.rank, ranks.position[:, None]]


class NeighbourMaxima:
    """The sums over the neighbours j of a node, by type of edge, of the maxima over places b; all memory is made once.

    A maximum is kept in a slot for each node and type, block by block: a reduction is fast where its result is dense.

    Args:
        x: `(k, n, B)`, to be updated in place between calls.
        joined: `(B, T, n, n)` boolean; graphs in descending order of their last node with an edge.
        adjacency: `(B, T, n, n)` the weights of edges.
        similarity: `(T, k, k, B)` what `x` is multiplied by before the maximum over the second k.
        chunk_size: Products at a time.
    """

    def __init__(self, x: Tensor, joined: Tensor, adjacency: Tensor, similarity: Tensor, chunk_size: int) -> None:
        has, k = joined.any(2), x.size(0)
        ranks, blocks, end = _ranks(has), [], 0
        for of_type in ranks:
            blocks.append(list(_blocks(of_type.counts, max(1, chunk_size // k**2), _CALL // k**2, end)))
            end = blocks[-1][-1].end if blocks[-1] else end
        slots = torch.stack([_slots(*pair) for pair in zip(ranks, blocks, strict=True)])
        self._matrix = _neighbour_matrix(joined, adjacency, slots, end, x.dtype)
        largest = max((block.end - block.start for of_type in blocks for block in of_type), default=0)
        self._x, self._maxima, self._products = x.flatten(1), x.new_zeros(k, end), x.new_zeros(largest * k**2)
        self._gathers: list[tuple[Tensor, Tensor]] = []
        self._steps: list[tuple[Tensor, ...]] = []
        for t, of_type in enumerate(ranks):
            if of_type.graphs is None:
                for block in blocks[t]:
                    self._plan(block, similarity[t], x[:, block.ranks, block.positions])
            elif blocks[t]:
                between, first = similarity[t].index_select(2, of_type.graphs), blocks[t][0].start
                room = self._gathered(slots[t] - first, has[:, t], blocks[t][-1].end - first)
                for block in blocks[t]:
                    source = room.narrow(1, block.start - first, math.prod(block.shape)).unflatten(1, block.shape)
                    self._plan(block, between, source)

    def _gathered(self, slots: Tensor, has: Tensor, number: int) -> Tensor:
        """Memory `(k, number)` for the columns of x of the nodes in these slots, filled anew in every call."""
        graphs, nodes = has.nonzero().unbind(1)
        columns = graphs.new_zeros(number)  # What stands in a slot of no node is not read.
        columns[slots[graphs, nodes]] = nodes * len(has) + graphs
        self._gathers.append((columns, self._x.new_empty(self._x.size(0), number)))
        return self._gathers[-1][1]

    def _plan(self, block: _Block, between: Tensor, source: Tensor) -> None:
        k, size = source.size(0), block.end - block.start
        products = self._products[: k * k * size].view(k, k, size)
        filled = products[:, :, : math.prod(block.shape)].unflatten(2, block.shape)
        maxima = self._maxima[:, block.start : block.end]
        self._steps.append((between[:, :, None, block.positions], source, filled, products, maxima))

    def __call__(self, out: Tensor) -> None:
        """Writes the sums to `out` `(k, n, B)`."""
        if not self._steps:
            out.zero_()
            return
        for columns, room in self._gathers:
            torch.index_select(self._x, 1, columns, out=room)
        for between, x, filled, products, maxima in self._steps:
            torch.mul(between, x, out=filled)
            torch.amax(products, 1, out=maxima)
        sums = out.flatten(1).T
        torch.addmm(sums, self._matrix, self._maxima.T, beta=0, out=sums)


def _neighbour_matrix(joined: Tensor, adjacency: Tensor, slots: Tensor, number: int, dtype: torch.dtype) -> Tensor:
    """CSR `(n B, number)`: the row of node i has the weight of edge i, j of type t in the column of j's slot for t.

    With `joined` and `adjacency` `(B, T, n, n)`, and `slots` `(T, B, n)`.
    """
    B, _, n, _ = joined.shape
    i, b, t, j = joined.permute(2, 0, 1, 3).nonzero().unbind(1)
    return compressed(i * B + b, slots[t, b, j], adjacency[b, t, i, j].to(dtype), (n * B, number))
