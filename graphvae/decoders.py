"""p(n, A, X | z): whole graphs from one latent, called `decoder(z)`; in place of edges, features and sizes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphvae.placed import PlacedGraphs
from graphvae.validation import check_positive


class DenseGraph(nn.Module):
    """A probabilistic graph on `max_nodes` numbered places: which exist, what they hold, how each pair is joined.

    Three linear heads on h = network(z). Made for latents of graphs, an encoder with `pool`. Deliberately not
    equivariant: which node is at which place is part of the likelihood, in which node i is at place i. Train and judge
    it by `bounds.matching_bound` or the bounds over orderings; or give the nodes of the data an order that means
    something, such as that of the canonical SMILES of a molecule.

    Args:
        max_nodes: Places k; no graph may have more nodes.
        hidden: Width H of h.
        density: Share of pairs that are joined, see `graphs.density`: where the probability of an edge starts.
        node_types: C if nodes have types, one-hot in x; 0 if x is no part of the graph.
        edge_types: T if edges have types, `edge_type` from 0; 0 if they have none.
        network: `(B, D) -> (B, H)` on rows, or None for h = z.

    References:
        Simonovsky & Komodakis, "GraphVAE", 2018, arXiv:1802.03480.
    """

    def __init__(
        self,
        max_nodes: int,
        hidden: int,
        density: float,
        node_types: int = 0,
        edge_types: int = 0,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_positive(max_nodes=max_nodes, hidden=hidden)
        if max_nodes < 2 or node_types < 0 or edge_types < 0 or edge_types == 1:
            numbers = f"{max_nodes}, {node_types} and {edge_types}"
            raise ValueError(
                "'max_nodes' must be at least 2, 'node_types' not negative, 'edge_types' 0 or at least 2, since edges "
                f"of one type need none, got {numbers}"
            )
        if not 0 < density < 1:
            raise ValueError(f"'density' must be in (0, 1), got {density}; see graphs.density")
        self.max_nodes, self.hidden, self.density = max_nodes, hidden, density
        self.node_types, self.edge_types = node_types, edge_types
        self.network = network
        classes, pairs = 1 + max(edge_types, 1), max_nodes * (max_nodes - 1) // 2
        self.existence = nn.Linear(hidden, max_nodes)
        self.edges = nn.Linear(hidden, pairs * classes)
        self.nodes = nn.Linear(hidden, max_nodes * node_types) if node_types else None
        start = torch.full((pairs, classes), math.log(density / (classes - 1)))
        start[:, 0] = math.log1p(-density)
        for head in (self.existence, self.edges, self.nodes):
            if head is not None:
                nn.init.normal_(head.weight, std=0.1 / math.sqrt(hidden))
                nn.init.zeros_(head.bias)
        with torch.no_grad():
            self.edges.bias.copy_(start.flatten())

    def forward(self, z: Tensor) -> PlacedGraphs:
        """The distribution of graphs given `(B, D)` latents.

        Raises:
            ValueError: Not one row per graph, or not of the width that was said.
        """
        h = z if self.network is None else self.network(z)
        if h.dim() != 2 or h.size(1) != self.hidden:
            name = "z" if self.network is None else "network(z)"
            raise ValueError(f"'hidden' must be the width of {name}, got {self.hidden} for shape {tuple(h.shape)}")
        classes = 1 + max(self.edge_types, 1)
        nodes = None if self.nodes is None else self.nodes(h).view(-1, self.max_nodes, self.node_types)
        return PlacedGraphs(self.existence(h), self.edges(h).view(h.size(0), -1, classes), nodes)
