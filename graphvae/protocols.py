"""What a factor of a model must offer, beside being an `nn.Module`: the interface for one of your own."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.distributions.constraints import Constraint

from graphvae.distributions import PerGraph
from graphvae.edge_distributions import BernoulliEdges
from graphvae.fixed_order import FixedOrderEdges
from graphvae.layout import Layout
from graphvae.placed import PlacedGraphs


class EdgeFactor(Protocol):
    """p(A | Z): what an edge decoder of your own must offer, beside being an `nn.Module`.

    Attributes:
        directed: Whether pairs are ordered; if not, graphs must hold both directions of every edge.
    """

    directed: bool

    def __call__(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges | FixedOrderEdges:
        """A distribution over edges: `log_prob(edge_index) -> (B,)`, `logits(pairs) -> (P,)`, `sample()`.

        One of a decoder to numbered places may have `log_probs(edge_index, orders (K, N)) -> (K, B)`, with which bounds
        over orderings score many orders of what was decoded once.
        """


class FeatureFactor(Protocol):
    """p(X | A, Z): what a feature decoder of your own must offer, beside being an `nn.Module`.

    Attributes:
        features: Number F of features.
        support: A `torch.distributions` constraint on the values of x.
    """

    features: int
    support: Constraint

    def __call__(self, z: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """A distribution over features: `log_prob(x) -> (B,)`, `sample()`, `mean`."""


class GraphDecoder(Protocol):
    """p(n, A, X | z): what a decoder of whole graphs of your own must offer, beside being an `nn.Module`.

    Attributes:
        max_nodes: Places k.
        node_types: C, of one-hot rows of x; 0 if x is no part of the graph.
        edge_types: T; 0 if edges have no types.
    """

    max_nodes: int
    node_types: int
    edge_types: int

    def __call__(self, z: Tensor) -> PlacedGraphs:
        """A distribution over graphs at places, given `(B, D)` latents of graphs."""
