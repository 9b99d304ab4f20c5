"""Distributions over the edges of a batch of graphs: independent edges, those of inner products, estimates of log p."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from graphvae.layout import Layout
from graphvae.pairs import sigmoid_sum, softplus_sum
from graphvae.sparse import at_least_single
from graphvae.tiles import tiles


class IndependentEdges(ABC):
    r"""Edges that are independent given their log-odds \(s_{ij}\): what `log_prob` is made of.

    Attributes:
        layout: Of the nodes.
        directed: Whether pairs are ordered.
    """

    layout: Layout
    directed: bool

    @abstractmethod
    def logits(self, pairs: Tensor) -> Tensor:
        """Log-odds of `pairs` `(2, P)` of different nodes of one graph: `(P,)`."""

    @abstractmethod
    def log_normalizer(self) -> Tensor:
        """The sum over all pairs of softplus(s), `(B,)`: minus the log-probability of the graph without edges."""

    def edge_sum(self, values: Tensor, edge_index: Tensor) -> Tensor:
        """Sums values `(E,)` of the columns of `edge_index` over each graph, `(B,)`, undirected edges once."""
        return sum_over_edges(values, edge_index, self.layout, self.directed)

    def log_prob(self, edge_index: Tensor) -> Tensor:
        """Log-probability of the edges, exact over all pairs: `(B,)`.

        Args:
            edge_index: `(2, E)`, both directions of an undirected edge present.
        """
        return self.edge_sum(self.logits(edge_index), edge_index) - self.log_normalizer()


class BernoulliEdges(IndependentEdges):
    r"""Independent edges with logits \(s_{ij} = l_i^\top r_j + b\): `p(A | Z)` of the inner-product family.

    Convention: labelled graphs without self loops. Undirected, the product runs over i < j and scores must be
    symmetric; directed, over i != j. Probabilities of all graphs of a size sum to one.

    Args:
        left: `(N, D)`; half precision is taken as float32, here and below.
        right: `(N, D)`.
        bias: `()`.
        layout: Of the nodes; one graph if None.
        directed: Ordered pairs.
    """

    def __init__(
        self, left: Tensor, right: Tensor, bias: Tensor | float, layout: Layout | None = None, directed: bool = False
    ) -> None:
        self.left, self.right = at_least_single(left), at_least_single(right)
        bias = at_least_single(torch.as_tensor(bias, device=left.device))
        if bias.numel() != 1:
            raise ValueError(f"'bias' must be one number, got shape {tuple(bias.shape)}")
        self.bias = bias.reshape(())
        self.directed = directed
        self.layout = layout or Layout.single(left.size(0), left.device)

    def logits(self, pairs: Tensor) -> Tensor:
        """Log-odds of `pairs` `(2, P)`, any pairs: `(P,)`."""
        # Not by indexing, whose backward pass is several times slower.
        return (self.left.index_select(0, pairs[0]) * self.right.index_select(0, pairs[1])).sum(-1) + self.bias

    def log_normalizer(self) -> Tensor:
        """The sum over all pairs of softplus(s), `(B,)`: minus the log-probability of the graph without edges."""
        return softplus_sum(self.left, self.right, self.bias, self.layout, self.directed)

    def expected_edges(self) -> Tensor:
        """The mean number of edges, `(B,)`, undirected edges counted once; without gradient."""
        return sigmoid_sum(self.left, self.right, self.bias, self.layout, self.directed)

    @torch.no_grad()
    def all_logits(self) -> Iterator[Tensor]:
        """The log-odds of every pair, without gradient, in pieces `(P,)` of a few hundred thousand."""
        for tile in tiles(self.layout, self.directed):
            scores = tile.scores(self.left, self.right, self.bias)
            yield scores[scores > -torch.inf] if tile.penalties else scores.flatten()

    def double(self) -> BernoulliEdges:
        """The same edges in float64."""
        return BernoulliEdges(self.left.double(), self.right.double(), self.bias.double(), self.layout, self.directed)

    def shifted(self, log_odds: float) -> BernoulliEdges:
        """The same edges with `log_odds` added to every logit."""
        return BernoulliEdges(self.left, self.right, self.bias + log_odds, self.layout, self.directed)

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw of all pairs, as `edge_index` `(2, E)` with both directions of an undirected edge."""
        found = [torch.empty(2, 0, dtype=torch.long, device=self.left.device)]
        for tile in tiles(self.layout, self.directed):
            chance = tile.scores(self.left, self.right, self.bias).sigmoid_()
            block, row, column = torch.bernoulli(chance, generator=generator).nonzero(as_tuple=True)
            found.append(torch.stack([tile.rows[block, row], tile.cols[block, column]]))
        edges = torch.cat(found, 1)
        return edges if self.directed else torch.cat([edges, edges.flip(0)], 1)


def sum_over_edges(values: Tensor, edge_index: Tensor, layout: Layout, directed: bool) -> Tensor:
    """Sums values `(E,)` of the columns of `edge_index` over each graph, `(B,)`; half of it unless `directed`."""
    values = at_least_single(values)
    if layout.num_graphs == 1:
        total = values.sum(0, keepdim=True)
    else:
        graphs = layout.batch.index_select(0, edge_index[0])
        total = values.new_zeros(layout.num_graphs).index_add(0, graphs, values)
    return total if directed else total / 2


class EdgeDistribution(Protocol):
    """What estimates of log p(A | Z), and checks, need of a distribution over edges.

    Attributes:
        layout: Of the nodes.
        directed: Whether pairs are ordered.
    """

    layout: Layout
    directed: bool

    def logits(self, pairs: Tensor) -> Tensor:
        """Log-odds of `pairs` `(2, P)`: `(P,)`."""


class EdgeEstimator(Protocol):
    """An unbiased estimator of sums over all pairs, as in `estimates`."""

    def __call__(self, edges: EdgeDistribution, edge_index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """An estimate of log p(edge_index), `(B,)`."""

    def log_normalizer(self, edges: EdgeDistribution, generator: torch.Generator | None = None) -> Tensor:
        """An estimate of the sum of softplus over all pairs, `(B,)`."""


def inner_product(edges: EdgeDistribution, user: str) -> BernoulliEdges:
    """`edges`, if its scores are inner products.

    Raises:
        TypeError: They are not; `user` is what needs them.
    """
    if not isinstance(edges, BernoulliEdges):
        raise TypeError(
            f"'{user}' needs scores that are inner products (BernoulliEdges), got {type(edges).__name__}; use "
            "SampledPairs with hops=2 for other decoders"
        )
    return edges


class EstimatedEdges:
    """A distribution over edges of which log p is not computed but estimated without bias, anew at every call.

    All else, logits and samples among it, is that of `exact`. Fit for an ELBO, whose expectation it leaves alone;
    not for anything that takes the exponential of log p, such as `bounds.importance_bound`.

    Args:
        exact: The distribution.
        estimator: Of its sum over all pairs.
    """

    estimated: bool = True

    def __init__(self, exact: Any, estimator: EdgeEstimator) -> None:
        self.exact, self.estimator = exact, estimator

    def log_prob(self, edge_index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """An unbiased estimate of the log-probability of `edge_index` `(2, E)`: `(B,)`."""
        return self.estimator(self.exact, edge_index, generator)

    def log_normalizer(self, generator: torch.Generator | None = None) -> Tensor:
        """An unbiased estimate of the sum over all pairs of softplus(s), `(B,)`."""
        return self.estimator.log_normalizer(self.exact, generator)

    def double(self) -> EstimatedEdges:
        """The same edges in float64."""
        return EstimatedEdges(self.exact.double(), self.estimator)

    def shifted(self, log_odds: float) -> EstimatedEdges:
        """The same edges with `log_odds` added to every logit."""
        return EstimatedEdges(self.exact.shifted(log_odds), self.estimator)

    def __getattr__(self, name: str) -> Any:
        if name == "exact":  # Not there yet: a copy is being made.
            raise AttributeError(name)
        return getattr(self.exact, name)
