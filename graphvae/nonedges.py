"""Pairs of nodes that are not joined, drawn exactly uniformly: by rank, so that no draw is rejected."""

from __future__ import annotations

import torch
from torch import Tensor


class NonEdges:
    r"""The pairs of different nodes that no edge joins, in an order that gives each a rank.

    Number the pairs; let \(e_0 < e_1 < \dots\) be the numbers of the edges. Before the pair of number \(e_k\) there are
    \(g_k = e_k - k\) non-edges, so the non-edge of rank r has the number r + (how many \(g_k\) are at most r).

    Args:
        edge_index: `(2, E)` without self loops and duplicates; undirected, with both directions or with one of each.
        num_nodes: Of the one graph; memory is 8 bytes per edge, whatever the number of pairs.
        directed: Pairs are ordered.
    """

    def __init__(self, edge_index: Tensor, num_nodes: int, directed: bool = False) -> None:
        self.num_nodes, self.directed = num_nodes, directed
        if directed:
            source, target = edge_index
            numbers = source * (num_nodes - 1) + target - (target > source).long()
        else:
            low, high = _once(edge_index)
            numbers = high * (high - 1) // 2 + low
        numbers = numbers.sort().values
        self._non_edges_before = numbers.sub_(torch.arange(numbers.numel(), device=numbers.device))

    @property
    def num_edges(self) -> int:
        """Pairs that are joined."""
        return self._non_edges_before.numel()

    def __len__(self) -> int:
        pairs = self.num_nodes * (self.num_nodes - 1)
        return (pairs if self.directed else pairs // 2) - self.num_edges

    def __getitem__(self, ranks: Tensor) -> Tensor:
        """The non-edges of `ranks` `(P,)` in 0 to len - 1: `(2, P)`, the smaller node first unless directed."""
        numbers = ranks + torch.searchsorted(self._non_edges_before, ranks, right=True)
        if not self.directed:
            return _pair(numbers)
        source, rest = numbers // (self.num_nodes - 1), numbers % (self.num_nodes - 1)
        return torch.stack([source, rest + (rest >= source).long()])

    def sample(self, num: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws `num` non-edges independently and uniformly: `(2, num)`.

        Raises:
            ValueError: Every pair is joined.
        """
        if len(self) == 0:
            raise ValueError(f"'edge_index' must leave a pair unjoined, it joins all pairs of {self.num_nodes} nodes")
        ranks = torch.randint(len(self), (num,), generator=generator, device=self._non_edges_before.device)
        return self[ranks]


def _once(edge_index: Tensor) -> Tensor:
    """`(2, E)` undirected edges once, the smaller node first."""
    upward = edge_index[:, edge_index[0] < edge_index[1]]
    return upward if 2 * upward.size(1) == edge_index.size(1) else edge_index.sort(0).values


def _pair(numbers: Tensor) -> Tensor:
    """The pair i < j of number j(j - 1)/2 + i; a square root in floating point, made exact in integers."""
    high = ((1 + (8 * numbers + 1).double().sqrt()) / 2).long()
    high = high - (high * (high - 1) // 2 > numbers).long()
    high = high + (high * (high + 1) // 2 <= numbers).long()
    return torch.stack([numbers - high * (high - 1) // 2, high])
