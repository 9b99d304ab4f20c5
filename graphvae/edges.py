"""p(A | Z): which pairs of nodes are joined. A factor is called `edges(z, layout)` and never sees the graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphvae.edge_distributions import BernoulliEdges, EdgeEstimator, EstimatedEdges
from graphvae.fixed_order import FixedOrderEdges
from graphvae.layout import Layout
from graphvae.pair_decoders import HadamardMLP, TypedHadamardMLP, TypedInnerProduct, decoded, log_odds

__all__ = [
    "Bilinear",
    "DegreeCorrected",
    "DenseEdges",
    "Estimated",
    "HadamardMLP",
    "IndefiniteInnerProduct",
    "InnerProduct",
    "Positioned",
    "TypedHadamardMLP",
    "TypedInnerProduct",
]


class InnerProduct(nn.Module):
    r"""Undirected edges with log-odds \(e^c\, h_i^\top h_j + b\), where h = network(z) row by row.

    The bias starts at the log-odds of `density`: without it the mean log-odds cannot be negative, so no sparse graph
    can be modelled. `requires_grad_(False)` keeps scale 1 and bias as they start.

    Args:
        density: Share of pairs that are joined in the training graphs, see `graphs.density`; in (0, 1).
        network: `(N, D) -> (N, H)` on rows, or None for h = z.

    References:
        Kipf & Welling, 2016, arXiv:1611.07308 (neither scale nor bias).
    """

    directed: bool = False

    def __init__(self, density: float, network: nn.Module | None = None) -> None:
        super().__init__()
        self.density = density
        self.network = network
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.tensor(log_odds(density)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over edges given `(N, D)` latents."""
        h = decoded(self.network, z, layout)
        return BernoulliEdges(h * self.log_scale.exp(), h, self.bias, layout)


class IndefiniteInnerProduct(nn.Module):
    r"""Undirected edges with log-odds \(\sum_d w_d h_{id} h_{jd} + b\) and free, possibly negative, weights w.

    Half of the weights start at 1 and half at -1. Negative ones let unlike nodes attract, as in grids, chains and
    bipartite graphs, which no inner product can model.

    Args:
        dim: Width H of h.
        density: As for `InnerProduct`.
        network: `(N, D) -> (N, H)` on rows, or None for h = z.
    """

    directed: bool = False

    def __init__(self, dim: int, density: float, network: nn.Module | None = None) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"'dim' must be positive, got {dim}")
        self.dim, self.density = dim, density
        self.network = network
        self.weight = nn.Parameter(torch.where(torch.arange(dim) < (dim + 1) // 2, 1.0, -1.0))
        self.bias = nn.Parameter(torch.tensor(log_odds(density)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over edges given `(N, D)` latents."""
        h = decoded(self.network, z, layout)
        return BernoulliEdges(h * self.weight, h, self.bias, layout)


class DegreeCorrected(nn.Module):
    r"""Undirected edges with log-odds \(e^c\, h_i^\top h_j + a_i + a_j + b\): each node is as ready to join as its a.

    (h, a) = network(z) row by row, a the last column. Without a, the length of h has to say both how many edges a node
    has and how sure they are.

    Args:
        density: As for `InnerProduct`.
        network: `(N, D) -> (N, H + 1)` on rows, or None for (h, a) = z.

    References:
        Karrer & Newman, 2011, arXiv:1008.3926 (block models), Krivitsky et al., 2009 (latent spaces).
    """

    directed: bool = False

    def __init__(self, density: float, network: nn.Module | None = None) -> None:
        super().__init__()
        self.density = density
        self.network = network
        self.product = InnerProduct(density)

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over edges given `(N, D)` latents."""
        rows = decoded(self.network, z, layout)
        if rows.size(1) < 2:
            raise ValueError(f"'z' must have at least 2 columns, the last is the propensity; got {rows.size(1)}")
        plain, propensity, one = self.product(rows[:, :-1], layout), rows[:, -1:], torch.ones_like(rows[:, :1])
        left, right = torch.cat([plain.left, propensity, one], 1), torch.cat([plain.right, one, propensity], 1)
        return BernoulliEdges(left, right, plain.bias, layout)


class Bilinear(nn.Module):
    r"""Directed edges with log-odds \(h_i^\top W h_j + b\), where h = network(z) row by row; W starts orthogonal.

    Args:
        dim: Width H of h.
        density: Share of ordered pairs that are joined, see `graphs.density`.
        network: `(N, D) -> (N, H)` on rows, or None for h = z.
    """

    directed: bool = True

    def __init__(self, dim: int, density: float, network: nn.Module | None = None) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"'dim' must be positive, got {dim}")
        self.dim, self.density = dim, density
        self.network = network
        self.weight = nn.Parameter(nn.init.orthogonal_(torch.empty(dim, dim)))
        self.bias = nn.Parameter(torch.tensor(log_odds(density)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over directed edges given `(N, D)` latents."""
        h = decoded(self.network, z, layout)
        return BernoulliEdges(h @ self.weight, h, self.bias, layout, directed=True)


class DenseEdges(nn.Module):
    r"""Undirected edges of a whole graph from one latent: a logit for every pair of `max_nodes` numbered places.

    The logits are a linear map of h = network(z), row by row; a graph of n nodes takes the first n places. It is made
    for latents of graphs, an encoder with `pool`.

    Deliberately not equivariant: node i of a graph is at place i, and log p(A | z) is that of the labelled graph as it
    is numbered. The numbering of a data set means nothing, so train and judge it by the bounds over orderings
    (`bounds`), for which `log_probs` of its distribution scores many orders of a graph, decoded once.

    Args:
        max_nodes: Places k; no graph may have more nodes.
        hidden: Width H of h.
        density: As for `InnerProduct`; every logit starts near its log-odds.
        network: `(B, D) -> (B, H)` on rows, or None for h = z.

    References:
        Simonovsky & Komodakis, "GraphVAE", 2018, arXiv:1802.03480.
    """

    directed: bool = False

    def __init__(self, max_nodes: int, hidden: int, density: float, network: nn.Module | None = None) -> None:
        super().__init__()
        if max_nodes < 2 or hidden < 1:
            raise ValueError(f"'max_nodes' must be at least 2 and 'hidden' positive, got {max_nodes} and {hidden}")
        self.max_nodes, self.hidden, self.density = max_nodes, hidden, density
        self.network = network
        self.scores = nn.Linear(hidden, max_nodes * (max_nodes - 1) // 2)
        nn.init.normal_(self.scores.weight, std=0.1 / math.sqrt(hidden))
        nn.init.constant_(self.scores.bias, log_odds(density))

    def forward(self, z: Tensor, layout: Layout | None = None) -> FixedOrderEdges:
        """The distribution over edges given `(B, D)` latents of graphs; without a layout, of one with all places.

        Raises:
            ValueError: Not one row per graph, or a graph of more than `max_nodes` nodes.
        """
        layout = layout or Layout.single(self.max_nodes, z.device)
        if z.dim() != 2 or z.size(0) != layout.num_graphs:
            raise ValueError(
                f"'z' must have one row for each of the {layout.num_graphs} graphs, got shape {tuple(z.shape)}; "
                "DenseEdges decodes latents of whole graphs, which an encoder with 'pool' gives"
            )
        _check_places(layout, self.max_nodes)
        h = z if self.network is None else self.network(z)
        if h.size(1) != self.hidden:
            raise ValueError(
                f"'hidden' must be the width of {'z' if self.network is None else 'network(z)'}, got {self.hidden} for "
                f"{h.size(1)} columns"
            )
        return FixedOrderEdges(self.scores(h), layout)


class Positioned(nn.Module):
    """An edge factor that is told the place of each node in its graph: the smallest one that depends on their order.

    It adds a learned vector of the place to the latent of the node, before `factor`. As for `DenseEdges`, log p(A | Z)
    is that of the labelled graph as it is numbered, and the bounds over orderings are what to train and judge it by.

    Args:
        factor: An edge factor on latents of nodes.
        max_nodes: Places; no graph may have more nodes.
        latent: Dimension D of the latents.
    """

    def __init__(self, factor: nn.Module, max_nodes: int, latent: int) -> None:
        super().__init__()
        if max_nodes < 1 or latent < 1:
            raise ValueError(f"'max_nodes' and 'latent' must be positive, got {max_nodes} and {latent}")
        self.factor = _edge_factor(factor)
        self.max_nodes, self.latent = max_nodes, latent
        self.places = nn.Embedding(max_nodes, latent)

    @property
    def directed(self) -> bool:
        """Whether pairs are ordered."""
        return bool(self.factor.directed)

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over edges given `(N, D)` latents.

        Raises:
            ValueError: Not one row per node, or a graph of more than `max_nodes` nodes.
        """
        layout = layout or Layout.single(z.size(0), z.device)
        layout.check_rows(z)
        if z.size(1) != self.latent:
            raise ValueError(f"'z' must have 'latent' = {self.latent} columns, got {z.size(1)}")
        _check_places(layout, self.max_nodes)
        edges: BernoulliEdges = self.factor(z + self.places(layout.places), layout)
        return edges


class Estimated(nn.Module):
    """An edge factor of which log p(A | Z) is estimated from some pairs instead of summed over all of them.

    For decoders that are no inner product, and graphs too large for the exact sum:
    `Estimated(InnerProduct(density), SampledPairs(50_000))`. Unbiased, value and gradient. The exact sum remains at
    `.factor`, which has the parameters.

    Args:
        factor: Any edge factor.
        estimator: As in `estimates`.
    """

    estimated: bool = True

    def __init__(self, factor: nn.Module, estimator: EdgeEstimator) -> None:
        super().__init__()
        factor = _edge_factor(factor)
        if not hasattr(estimator, "log_normalizer"):
            raise TypeError(f"'estimator' must be one of graphvae.estimates, got {_kind(estimator)}")
        if getattr(factor, "estimated", False):
            raise ValueError(f"'factor' must be exact, {_kind(factor)} is estimated already")
        self.factor, self.estimator = factor, estimator

    @property
    def directed(self) -> bool:
        """Whether pairs are ordered."""
        return bool(self.factor.directed)

    def forward(self, z: Tensor, layout: Layout | None = None) -> EstimatedEdges:
        """The distribution over edges given latents `z`."""
        return EstimatedEdges(self.factor(z, layout), self.estimator)


def _edge_factor(factor: nn.Module) -> nn.Module:
    if not hasattr(factor, "directed"):
        raise TypeError(f"'factor' must be an edge factor with the attribute 'directed', got {_kind(factor)}")
    if hasattr(factor, "edge_types"):
        raise TypeError(f"'factor' must be of edges without types, {_kind(factor)} has {factor.edge_types}")
    return factor


def _check_places(layout: Layout, max_nodes: int) -> None:
    largest = max(layout.host_sizes)
    if largest > max_nodes:
        raise ValueError(
            f"'max_nodes' must be at least the size of the largest graph, got {max_nodes} for one of {largest} nodes"
        )


def _kind(given: object) -> str:
    return type(given).__name__
