"""p(A | Z): which pairs of nodes are joined. A factor is called `edges(z, layout)` and never sees the graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphvae.distributions import BernoulliEdges, EdgeEstimator, EstimatedEdges
from graphvae.graphs import Layout


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
        self.bias = nn.Parameter(torch.tensor(_log_odds(density)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over edges given `(N, D)` latents."""
        h = _decoded(self.network, z, layout)
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
        self.bias = nn.Parameter(torch.tensor(_log_odds(density)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over edges given `(N, D)` latents."""
        h = _decoded(self.network, z, layout)
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
        rows = _decoded(self.network, z, layout)
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
        self.bias = nn.Parameter(torch.tensor(_log_odds(density)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges:
        """The distribution over directed edges given `(N, D)` latents."""
        h = _decoded(self.network, z, layout)
        return BernoulliEdges(h @ self.weight, h, self.bias, layout, directed=True)


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
        if not hasattr(factor, "directed"):
            raise TypeError(f"'factor' must be an edge factor with the attribute 'directed', got {_kind(factor)}")
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


def _kind(given: object) -> str:
    return type(given).__name__


def _decoded(network: nn.Module | None, z: Tensor, layout: Layout | None) -> Tensor:
    if layout is not None:
        layout.check_rows(z)
    return z if network is None else network(z)


def _log_odds(density: float) -> float:
    if not 0 < density < 1:
        raise ValueError(f"'density' must lie strictly between 0 and 1, got {density}; graphs without edges have none")
    return math.log(density / (1 - density))
