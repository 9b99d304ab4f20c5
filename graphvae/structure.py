"""What a batch of graphs looks like, whatever its nodes are called: components, core numbers, ranks by several keys.

Edges are taken as undirected throughout. Nothing depends on the numbering of the nodes but the numbering of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.layout import Layout, counted


class Neighbors:
    """The neighbours of every node of a batch, one list after another.

    Args:
        graphs: Checked; of a directed graph the directions are forgotten.

    Attributes:
        edge_index: `(2, E)`, both directions of every edge, sorted by the first row.
        degree: `(N,)`.
        first: `(N,)` first column of each node.
        layout: Of the nodes.
    """

    def __init__(self, graphs: Batch) -> None:
        self.layout: Layout = graphs.layout
        edges, num_nodes = graphs.edge_index, self.layout.num_rows
        codes = edges[0] * num_nodes + edges[1]
        if graphs.directed:
            codes = torch.unique(torch.cat([codes, edges[1] * num_nodes + edges[0]]))
        elif bool((codes.diff() < 0).any()):
            codes = codes.sort().values
        self.edge_index = torch.stack([codes // num_nodes, codes % num_nodes]) if num_nodes else edges
        self.degree = torch.bincount(self.edge_index[0], minlength=num_nodes)
        self.first = self.degree.cumsum(0) - self.degree

    def of(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """For each of `(m,)` nodes its neighbours, one node after another: `(M,)` which of the m, `(M,)` neighbours."""
        owner, place = counted(self.degree.index_select(0, nodes))
        place += self.first.index_select(0, nodes).index_select(0, owner)
        return owner, self.edge_index[1].index_select(0, place)

    @cached_property
    def with_self(self) -> tuple[Tensor, Tensor]:
        """Each node and its neighbours, one node after another: `(N + E,)` of which node, `(N + E,)` the neighbours."""
        itself = torch.arange(self.degree.numel(), device=self.degree.device).expand(2, -1)
        pairs = torch.cat([itself, self.edge_index], 1)
        owner, order = pairs[0].sort(stable=True)
        return owner, pairs[1][order]

    def reduce(self, rows: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The extreme, `torch.minimum` or `torch.maximum`, over each list of `with_self`: `(N + E, K)` to `(N, K)`.

        Halves of the lists meet until each has one row: contiguous rows, several times as fast as to scatter.
        """
        return _reduced(rows, self._halvings, extreme)

    def extreme(self, rows: Tensor, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The extreme, as in `reduce`, of the rows `(N, K)` of each node and its neighbours: `(N, K)`."""
        if not self._halvings:
            return rows
        # Without a row for every edge.
        left, right = (self.with_self[1].index_select(0, half) for half in self._halvings[0])
        return _reduced(rows, [(left, right), *self._halvings[1:]], extreme)

    @cached_property
    def _halvings(self) -> list[tuple[Tensor, Tensor]]:
        lengths, halvings = self.degree + 1, []
        for _ in range(int(self.degree.max()).bit_length()):
            half = (lengths + 1) // 2
            owner, place = counted(half)
            left = (lengths.cumsum(0) - lengths)[owner] + place
            other = torch.minimum(place + half[owner], lengths[owner] - 1)
            halvings.append((left, left - place + other))
            lengths = half
        return halvings


def _reduced(
    rows: Tensor, halvings: list[tuple[Tensor, Tensor]], extreme: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    for left, right in halvings:
        rows = extreme(rows.index_select(0, left), rows.index_select(0, right))
    return rows


def lexicographic(*keys: Tensor) -> Tensor:
    """The rank, 0, 1, ... without gaps, of each row among the distinct rows of `keys`, each `(N,)`, first one first."""
    rank = torch.zeros_like(keys[0], dtype=torch.long)
    for key in keys:
        values, place = torch.unique(key, return_inverse=True)
        rank = torch.unique(rank * values.numel() + place, return_inverse=True)[1]
    return rank


def components(neighbors: Neighbors) -> Tensor:
    """`(N,)` number of the connected component of each node, without gaps; those of a graph are numbered in a row."""
    lowest = lowest_connected(neighbors.edge_index, neighbors.layout.num_rows)
    return torch.unique(lowest, return_inverse=True)[1]


def lowest_connected(edge_index: Tensor, num_nodes: int) -> Tensor:
    """`(N,)` the lowest node of the connected component of each node.

    Labels sink to the lowest within reach, along edges and then along the labels themselves, which makes the rounds
    about the logarithm of the diameter.

    Args:
        edge_index: `(2, E)` with both directions of every edge.
        num_nodes: N.

    References:
        Zhang, Azad & Hu, "FastSV", 2020, arXiv:1910.05971.
    """
    source, target = edge_index
    label = torch.arange(num_nodes, device=source.device)
    while True:
        lower = label.scatter_reduce(0, label[target], label[source], "amin")
        lower.scatter_reduce_(0, target, label[source], "amin")
        lower = lower[lower]
        if torch.equal(lower, label):
            return label
        label = lower


def core_numbers(neighbors: Neighbors) -> Tensor:
    """`(N,)` the largest k for which a node is in the k-core: a subgraph in which every node has k neighbours.

    Nodes of at most k neighbours are taken away, all at once, until none is left, and k raised.

    References:
        Seidman, "Network structure and minimum degree", 1983.
    """
    degree, core = neighbors.degree.clone(), torch.zeros_like(neighbors.degree)
    left = torch.arange(degree.numel(), device=degree.device)
    k = 0
    while left.numel():
        k = max(k, int(degree[left].min()))
        peeled = degree[left] <= k
        gone, left = left[peeled], left[~peeled]
        core[gone] = k
        touched = neighbors.of(gone)[1]
        degree.index_add_(0, touched, touched.new_full(touched.shape, -1))
    return core
