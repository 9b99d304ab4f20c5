"""Edges of graphs whose nodes are numbered places: one row of scores per graph, one score per pair of places."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from graphvae.edge_distributions import IndependentEdges
from graphvae.graphs import ranks
from graphvae.layout import Layout
from graphvae.pairs import softplus
from graphvae.sparse import at_least_single


class FixedOrderEdges(IndependentEdges):
    r"""Independent undirected edges between numbered places: `p(A | z)` of a decoder that gives each pair a logit.

    The pair of places i < j has the score j(j - 1)/2 + i, so that a graph of n nodes takes the first n(n - 1)/2. Node
    i of a graph is at place i: to relabel a graph changes its probability.

    Convention: labelled graphs without self loops. Probabilities of all graphs of a size sum to one.

    Args:
        scores: `(B, P)` log-odds, one row per graph; half precision is taken as float32.
        layout: Of the nodes; no graph has more than P pairs.
    """

    directed: bool = False

    def __init__(self, scores: Tensor, layout: Layout) -> None:
        if scores.dim() != 2 or scores.size(0) != layout.num_graphs:
            raise ValueError(
                f"'scores' must be (B, P) with one row for each of the {layout.num_graphs} graphs of 'layout', "
                f"got shape {tuple(scores.shape)}"
            )
        self.scores = at_least_single(scores)
        self.layout = layout

    def logits(self, pairs: Tensor) -> Tensor:
        """Log-odds of `pairs` `(2, P)` of different nodes of one graph: `(P,)`."""
        graphs = self.layout.batch.index_select(0, pairs[0])
        first, second = pairs - self.layout.ptr.index_select(0, graphs)
        return self._flat.index_select(0, graphs * self.scores.size(1) + pair_number(first, second))

    def log_normalizer(self) -> Tensor:
        """The sum over all pairs of softplus(s), `(B,)`: minus the log-probability of the graph without edges."""
        return torch.where(self._counts, softplus(self.scores), 0).sum(1)

    def log_probs(self, edge_index: Tensor, orders: Tensor) -> Tensor:
        """Log-probability of the edges in K orders: `(K, B)`; time and memory O(K·E).

        It is that of `graphs.relabelled(graphs, orders)`, whose edges are looked up at their new places; the sum over
        all pairs is the same for every order.

        Args:
            edge_index: `(2, E)`, both directions of an undirected edge present.
            orders: `(K, N)`; in relabelled graph k new node i is old node `orders[k, i]`, of the same graph.
        """
        once = edge_index.index_select(1, (edge_index[0] < edge_index[1]).nonzero().squeeze(1))
        graphs = self.layout.batch.index_select(0, once[0])
        # A row for each node, of its K places: whole rows are gathered and added much faster than columns.
        places = places_of(orders, self.layout).T.to(self._index).contiguous()
        numbers = pair_number(places.index_select(0, once[0]), places.index_select(0, once[1]))
        numbers += (graphs * self.scores.size(1)).to(self._index)[:, None]
        scores = self._flat.index_select(0, numbers.flatten()).view_as(numbers)
        total = scores.new_zeros(self.layout.num_graphs, len(orders)).index_add(0, graphs, scores)
        return total.T - self.log_normalizer()

    def expected_edges(self) -> Tensor:
        """The mean number of edges, `(B,)`; without gradient."""
        return torch.where(self._counts, self.scores.detach().sigmoid(), 0).sum(1)

    def all_logits(self) -> Iterator[Tensor]:
        """The log-odds of every pair, without gradient, in one piece."""
        yield self.scores.detach()[self._counts]

    def double(self) -> FixedOrderEdges:
        """The same edges in float64."""
        return FixedOrderEdges(self.scores.double(), self.layout)

    def shifted(self, log_odds: float) -> FixedOrderEdges:
        """The same edges with `log_odds` added to every logit."""
        return FixedOrderEdges(self.scores + log_odds, self.layout)

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw of all pairs, as `edge_index` `(2, E)` with both directions of an edge."""
        chance = torch.where(self._counts, self.scores.sigmoid(), 0)
        graphs, numbers = torch.bernoulli(chance, generator=generator).nonzero(as_tuple=True)
        places = (1 + math.isqrt(1 + 8 * self.scores.size(1))) // 2
        # Below the diagonal, row by row: the order in which pairs are numbered.
        later, earlier = torch.tril_indices(places, places, -1, device=self.scores.device)
        edges = torch.stack([earlier[numbers], later[numbers]]) + self.layout.ptr[graphs]
        return torch.cat([edges, edges.flip(0)], 1)

    @property
    def _index(self) -> torch.dtype:
        # The arithmetic on them is what many orders cost.
        return torch.int32 if self.scores.numel() < 2**31 else torch.int64

    @property
    def _flat(self) -> Tensor:
        # Not kept: what is made without gradient must not serve a later call with it.
        return self.scores.flatten()

    @property
    def _counts(self) -> Tensor:
        """`(B, P)`: which scores belong to a pair of the graph."""
        return torch.arange(self.scores.size(1), device=self.scores.device) < self.layout.num_pairs[:, None]


def places_of(orders: Tensor, layout: Layout) -> Tensor:
    """`(K, N)` the place of each node in the graphs that `orders` `(K, N)` make of its own."""
    return ranks(orders) - layout.first_rows


def pair_number(first: Tensor, second: Tensor) -> Tensor:
    """The number j(j - 1)/2 + i of pairs of places i < j, given in either order."""
    later = torch.maximum(first, second)
    # Shifted, because to divide integers takes eight times as long.
    return (later * (later - 1) >> 1) + torch.minimum(first, second)
