"""Whole graphs at numbered places: which places hold a node, of which type, and how each two of them are joined."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch_geometric.data import Batch

from graphvae.fixed_order import pair_number
from graphvae.graphs import batch_of, field
from graphvae.layout import Layout
from graphvae.pair_scores import all_pairs
from graphvae.sparse import at_least_single


class PlacedGraphs:
    r"""A probabilistic graph on k places for each of B graphs: existence, node types and edge types, independent.

    \(p(G | z) = \prod_a \pi_a^{e_a} (1 - \pi_a)^{1 - e_a} \prod_{a: e_a = 1} p_a(f_a)
    \prod_{a < b: e_a e_b = 1} p_{ab}(t_{ab})\), where e says which places exist, f the types of their nodes, and t
    those of the pairs of existing places, class 0 being no edge. Pairs with a place that does not exist take no part:
    nobody has an edge there, and to count the probability of none, as the paper does, only lowers the bound.

    Convention: labelled, by place: which nodes are at which places is part of what has a probability. They add to one
    over all graphs with nodes at any places, that without a node among them. A graph that is drawn loses its places,
    so each numbering of a graph collects the probability of all \(k! / (k - n)!\) assignments of nodes to places.

    Args:
        existence: `(B, k)` log-odds that a place holds a node; half precision is taken as float32, here and below.
        edges: `(B, k(k - 1)/2, 1 + T)` scores of no edge and of each of T types, for the pair of places i < j at
            j(j - 1)/2 + i; their softmax are probabilities.
        nodes: `(B, k, C)` scores of the types of nodes, or None if nodes have none.

    References:
        Simonovsky & Komodakis, "GraphVAE", 2018, arXiv:1802.03480.
    """

    def __init__(self, existence: Tensor, edges: Tensor, nodes: Tensor | None = None) -> None:
        self.existence = at_least_single(existence)
        self.edges = at_least_single(edges).log_softmax(-1)
        self.nodes = None if nodes is None else at_least_single(nodes).log_softmax(-1)

    @property
    def num_graphs(self) -> int:
        """B."""
        return self.existence.size(0)

    @property
    def max_nodes(self) -> int:
        """Places k."""
        return self.existence.size(1)

    def log_prob(self, graphs: Batch, places: Tensor | None = None) -> Tensor:
        """Log-probability of graphs at places: `(B,)`.

        Args:
            graphs: A checked batch of B graphs, whose `x` is one-hot if nodes have types.
            places: `(N,)` the place of each node, different for the nodes of one graph; their numbers if None.
        """
        places = graphs.layout.places if places is None else places
        return self.log_probs(graphs, places[None])[0]

    def log_probs(self, graphs: Batch, places: Tensor) -> Tensor:
        """Log-probability of graphs at M choices of places, `(M, N)`: `(M, B)`; memory O(M times pairs of nodes)."""
        self._check(graphs)
        return self._of_nodes(graphs, places) + self._of_pairs(graphs, places)

    def _check(self, graphs: Batch) -> None:
        if graphs.layout.num_graphs != self.num_graphs:
            found = f"{graphs.layout.num_graphs} graphs for {self.num_graphs} latents"
            raise ValueError(f"'graphs' must be one for each row of 'z', got {found}")
        if max(graphs.layout.host_sizes) > self.max_nodes:
            raise ValueError(
                f"'graphs' must have at most {self.max_nodes} nodes, one for each place, got "
                f"{max(graphs.layout.host_sizes)}"
            )

    def _of_nodes(self, graphs: Batch, places: Tensor) -> Tensor:
        """`(M, B)`: which places exist, and what is there."""
        slots = graphs.layout.batch * self.max_nodes + places
        found = self.existence.flatten()[slots]  # log of odds: what existing adds to not existing.
        if self.nodes is not None:
            kinds = graphs.x.argmax(1)
            found = found + self.nodes.flatten()[slots * self.nodes.size(2) + kinds]
        total = found.new_zeros(len(places), self.num_graphs).index_add(1, graphs.layout.batch, found)
        return total + logsigmoid(-self.existence).sum(1)

    def _of_pairs(self, graphs: Batch, places: Tensor) -> Tensor:
        """`(M, B)`: the types of all pairs of nodes."""
        layout = graphs.layout
        first, second = all_pairs(layout)
        graph_of = layout.batch[first]
        classes = edge_classes(graphs, self.edges.size(2) > 2)[graph_of, layout.places[first], layout.places[second]]
        numbers = graph_of * self.edges.size(1) + pair_number(places[:, first], places[:, second])
        found = self.edges.flatten()[numbers * self.edges.size(2) + classes]
        return found.new_zeros(len(places), self.num_graphs).index_add(1, graph_of, found)

    def edge_probabilities(self) -> Tensor:
        """`(B, T, k, k)`: of an edge of each type between two places; zero on the diagonal."""
        earlier, later = self._places_of_pairs()
        probabilities = self.edges.new_zeros(self.num_graphs, self.edges.size(2) - 1, self.max_nodes, self.max_nodes)
        found = self.edges[:, :, 1:].exp().transpose(1, 2)
        probabilities[:, :, earlier, later] = found
        probabilities[:, :, later, earlier] = found
        return probabilities

    def type_similarity(self, graphs: Batch) -> Tensor | None:
        """`(N, k)`: how likely each place, if it exists, holds a node of the type of each node; None without types."""
        return None if self.nodes is None else self.nodes.exp()[graphs.layout.batch, :, graphs.x.argmax(1)]

    def _places_of_pairs(self) -> tuple[Tensor, Tensor]:
        """The two places of each pair, in the order of the pairs: the earlier ones, the later ones."""
        later, earlier = torch.tril_indices(self.max_nodes, self.max_nodes, -1, device=self.edges.device)
        return earlier, later

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Batch:
        """A graph from each of the B, given that it has a node; `x` one-hot and `edge_type` if there are types."""
        exists = torch.bernoulli(self.existence.sigmoid(), generator=generator).bool()
        exists = torch.where(exists.any(1, keepdim=True), exists, self._not_empty(generator))
        nodes = None if self.nodes is None else _drawn(self.nodes, generator)
        return self._graphs(exists, nodes, _drawn(self.edges, generator))

    @torch.no_grad()
    def mode(self, spanning: bool = False) -> Batch:
        """The most likely choice for every place and pair, of B graphs that have a node.

        Args:
            spanning: Also join places by the tree of the likeliest edges that connects all that exist, however unlikely
                they are: no longer the most likely graph, but how the paper decodes.
        """
        likeliest = torch.nn.functional.one_hot(self.existence.argmax(1), self.max_nodes).bool()
        exists = (self.existence > 0) | likeliest
        nodes = None if self.nodes is None else self.nodes.argmax(-1)
        classes = self.edges.argmax(-1)
        if spanning:
            joined = 1 + self.edges[:, :, 1:].argmax(-1)
            classes = torch.where((classes == 0) & self._spanning_tree(exists), joined, classes)
        return self._graphs(exists, nodes, classes)

    def _spanning_tree(self, exists: Tensor) -> Tensor:
        """`(B, P)`: the pairs of the maximum spanning tree of the places that exist, by chances of edges (Prim)."""
        earlier, later = self._places_of_pairs()
        chance = self.edge_probabilities().sum(1)
        reached = torch.nn.functional.one_hot(exists.long().argmax(1), self.max_nodes).bool()
        tree, graphs = torch.zeros_like(chance, dtype=torch.bool), torch.arange(self.num_graphs, device=chance.device)
        for _ in range(self.max_nodes - 1):
            open_ = reached[:, :, None] & (exists & ~reached)[:, None]
            best = chance.masked_fill(~open_, -1).flatten(1).argmax(1)
            inside, outside = best // self.max_nodes, best % self.max_nodes
            found = open_[graphs, inside, outside]
            tree[graphs[found], inside[found], outside[found]] = True
            reached[graphs[found], outside[found]] = True
        return (tree | tree.transpose(1, 2))[:, earlier, later]

    def _graphs(self, exists: Tensor, kinds: Tensor | None, classes: Tensor) -> Batch:
        """The graphs at places `(B, k)` that exist, with kinds of nodes `(B, k)` and classes of pairs `(B, P)`."""
        layout = Layout.of(exists.sum(1))
        numbers = exists.flatten().long().cumsum(0).view_as(exists) - 1
        earlier, later = self._places_of_pairs()
        graph_of, pair = ((classes > 0) & exists[:, later] & exists[:, earlier]).nonzero(as_tuple=True)
        once = torch.stack([numbers[graph_of, earlier[pair]], numbers[graph_of, later[pair]]])
        types = classes[graph_of, pair].repeat(2) - 1 if self.edges.size(2) > 2 else None
        x = None
        if self.nodes is not None and kinds is not None:
            x = torch.nn.functional.one_hot(kinds[exists], self.nodes.size(2)).to(self.nodes)
        return batch_of(x, torch.cat([once, once.flip(0)], 1), layout, edge_type=types)

    def _not_empty(self, generator: torch.Generator | None) -> Tensor:
        """`(B, k)` draws of which places exist, given that one does: the first, then what comes after it."""
        before = logsigmoid(-self.existence).cumsum(1) - logsigmoid(-self.existence)
        first = _drawn(before + logsigmoid(self.existence), generator)[:, None]
        place = torch.arange(self.max_nodes, device=first.device)
        later = torch.bernoulli(self.existence.sigmoid(), generator=generator).bool()
        return (place == first) | ((place > first) & later)


def edge_classes(graphs: Batch, typed: bool = True) -> Tensor:
    """`(B, n, n)` int64: 0 where nodes are not joined, else 1, plus the edge type if `typed`; n is the largest size."""
    layout, (source, target) = graphs.layout, graphs.edge_index
    largest = max(layout.host_sizes)
    types = field(graphs, "edge_type") if typed else None
    classes = torch.zeros(layout.num_graphs, largest, largest, dtype=torch.long, device=source.device)
    graph_of = layout.batch[source]
    classes[graph_of, layout.places[source], layout.places[target]] = 1 if types is None else 1 + types
    return classes


def _drawn(log_probs: Tensor, generator: torch.Generator | None) -> Tensor:
    """One class for each row of the last dimension, from log-probabilities up to a constant."""
    rows = torch.multinomial(log_probs.softmax(-1).flatten(0, -2), 1, generator=generator)
    return rows.view(log_probs.shape[:-1])
