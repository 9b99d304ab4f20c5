"""p(X | A, Z): node features from a network that sees the latents and the edges, `features(z, edge_index, layout)`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.distributions as dist
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from graphvae.backbones import run_backbone
from graphvae.distributions import PerGraph
from graphvae.layout import Layout
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive

SMALLEST_LOG_SCALE = -6.0
_LARGEST_LOG_RATE = 30.0


class FixedScale(nn.Module):
    """One standard deviation, given and kept.

    Args:
        scale: In units of the features.
    """

    log_scale: Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("log_scale", torch.tensor(_log_of(scale)))

    @property
    def scale(self) -> float:
        """The standard deviation."""
        return math.exp(self.log_scale.item())

    def fill_(self, scale: float) -> None:
        """Replaces the standard deviation, as `objectives.fix_optimal_scale` does after a training."""
        self.log_scale.fill_(_log_of(scale))

    def forward(self, hidden: Tensor) -> Tensor:
        """`()` log-scale."""
        return self.log_scale


class LearnedScale(nn.Module):
    """Learned standard deviations: one shared by all features, or one for each, the same at every node.

    Args:
        features: 1, or the number F of features.
    """

    def __init__(self, features: int = 1) -> None:
        super().__init__()
        check_positive(features=features)
        self.features = features
        self.log_scale = nn.Parameter(torch.zeros(features))

    def forward(self, hidden: Tensor) -> Tensor:
        """`(1,)` or `(F,)` log-scale."""
        return _floored(self.log_scale)


class NodeScale(nn.Module):
    """Standard deviations that the network gives each node, as it gives the means.

    Args:
        hidden: Width of the backbone's output.
        features: F for one per feature, or 1 for one per node.
    """

    def __init__(self, hidden: int, features: int) -> None:
        super().__init__()
        self.hidden, self.features = hidden, features
        self.head = nn.Linear(hidden, features)

    def forward(self, hidden: Tensor) -> Tensor:
        """`(N, F)` or `(N, 1)` log-scale."""
        return _floored(self.head(hidden))


def _log_of(scale: float) -> float:
    if not 0 < scale < math.inf:
        raise ValueError(f"'scale' must be positive, got {scale}")
    return math.log(scale)


def _floored(log_scale: Tensor) -> Tensor:
    return SMALLEST_LOG_SCALE + nn.functional.softplus(log_scale - SMALLEST_LOG_SCALE)


class NodeFeatures(nn.Module, ABC):
    """Features independent given (Z, A), from one family, whose parameters are read from a network on (Z, A).

    Args:
        backbone: `(z, edge_index) -> (N, hidden)`.
        hidden: Width of the backbone's output.
        features: Number F of features.
    """

    support: Constraint

    def __init__(self, backbone: nn.Module, hidden: int, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden, self.features = hidden, features

    def forward(
        self, z: Tensor, edge_index: Tensor, layout: Layout | None = None, edge_type: Tensor | None = None
    ) -> PerGraph:
        """The distribution of `(N, F)` features given `(N, D)` latents and the edges, with their types if there are."""
        if layout is not None:
            layout.check_rows(z)
        return PerGraph(self.given(run_backbone(self.backbone, z, edge_index, layout, edge_type)), layout)

    @abstractmethod
    def given(self, hidden: Tensor) -> dist.Distribution:
        """The distribution of `(N, F)` features given the backbone's output `(N, hidden)`."""


class GaussianFeatures(NodeFeatures):
    r"""\(p(x_i | A, Z) = N(\tilde\mu_i, \mathrm{diag}\,\tilde\sigma_i^2)\), both read from a GNN on (Z, A).

    Learned scales are softly floored at exp(-6): one that shrinks without end makes the likelihood diverge.

    Args:
        backbone: `(z, edge_index) -> (N, hidden)`.
        hidden: Width of the backbone's output.
        features: Number F of features.
        scale: `FixedScale`, `LearnedScale` or `NodeScale`; by default one per node and feature. The best fixed one is
            found by `objectives.optimal_scale`.
    """

    support: Constraint = dist.constraints.real

    def __init__(self, backbone: nn.Module, hidden: int, features: int, scale: nn.Module | None = None) -> None:
        super().__init__(backbone, hidden, features)
        self.loc = nn.Linear(hidden, features)
        if not isinstance(scale, nn.Module | None):
            raise TypeError(f"'scale' must be a module such as FixedScale(0.3) or LearnedScale(), got {scale!r}")
        self.scale = scale or NodeScale(hidden, features)

    def given(self, hidden: Tensor) -> dist.Distribution:
        """Normal: the network gives means, and `scale` standard deviations."""
        loc = self.loc(hidden)
        return dist.Normal(loc, self.scale(hidden).exp().expand_as(loc), validate_args=False)


class BernoulliFeatures(NodeFeatures):
    r"""Binary features, such as the words of a document, independent given (Z, A).

    Grey values x in [0, 1] have no probability here. With `intensities` they are read as the probabilities of a random
    binarisation b, and "log p(x)" is \(E_{b \sim x}[\log p(b | A, Z)] = \sum_d x_d \log \pi_d + (1 - x_d)
    \log(1 - \pi_d)\): an expectation over binarisations, not a density of x. A bound that is computed with it (the
    ELBO, the importance-weighted one) bounds the mean of log p(b) over binarisations from below. Samples are binary.

    Args:
        backbone: `(z, edge_index) -> (N, hidden)`.
        hidden: Width of the backbone's output.
        features: Number F of features.
        intensities: Take any values in [0, 1], as above, and not just 0 and 1.
    """

    support: Constraint = dist.constraints.boolean

    def __init__(self, backbone: nn.Module, hidden: int, features: int, intensities: bool = False) -> None:
        super().__init__(backbone, hidden, features)
        self.intensities = intensities
        if intensities:
            self.support = dist.constraints.unit_interval
        self.logits = nn.Linear(hidden, features)

    def given(self, hidden: Tensor) -> dist.Distribution:
        """Bernoulli: the network gives log-odds."""
        return dist.Bernoulli(logits=self.logits(hidden), validate_args=False)


class CategoricalFeatures(NodeFeatures):
    """One of C classes per node, held one-hot in `x`. Arguments as `NodeFeatures`, `features` = C."""

    support: Constraint = dist.constraints.one_hot

    def __init__(self, backbone: nn.Module, hidden: int, features: int) -> None:
        super().__init__(backbone, hidden, features)
        self.logits = nn.Linear(hidden, features)

    def given(self, hidden: Tensor) -> dist.Distribution:
        """Categorical over one-hot rows: the network gives log-odds."""
        return dist.OneHotCategorical(logits=self.logits(hidden), validate_args=False)


class PoissonFeatures(NodeFeatures):
    r"""Counts, \(x_{id} \sim \mathrm{Poisson}(\exp \eta_{id})\), variance equal to the mean. As `NodeFeatures`.

    In float32 the log-probability of a count of 10,000 is right to 0.01 nats; use a model in float64 beyond.
    """

    support: Constraint = dist.constraints.nonnegative_integer

    def __init__(self, backbone: nn.Module, hidden: int, features: int) -> None:
        super().__init__(backbone, hidden, features)
        self.log_rate = nn.Linear(hidden, features)

    def given(self, hidden: Tensor) -> dist.Distribution:
        """Poisson: the network gives logarithms of rates."""
        return dist.Poisson(_bounded(self.log_rate(hidden)).exp(), validate_args=False)


class NegativeBinomialFeatures(NodeFeatures):
    r"""Counts with more variance than Poisson's: mean \(\mu\), variance \(\mu + \alpha_d \mu^2\).

    A Poisson count whose rate is Gamma distributed with mean \(\mu\) and shape \(1 / \alpha_d\). The dispersion
    \(\alpha_d\) of each feature is learned and softly floored at exp(-6), which is close to Poisson for means far below
    400. Arguments as `NodeFeatures`.

    References:
        Lopez et al., 2018, doi:10.1038/s41592-018-0229-2 (counts of genes, with 1 / α for α).
    """

    support: Constraint = dist.constraints.nonnegative_integer

    def __init__(self, backbone: nn.Module, hidden: int, features: int) -> None:
        super().__init__(backbone, hidden, features)
        self.log_rate = nn.Linear(hidden, features)
        self.log_dispersion = nn.Parameter(torch.zeros(features))

    def given(self, hidden: Tensor) -> dist.Distribution:
        """Negative binomial: the network gives logarithms of means."""
        log_dispersion = _floored(self.log_dispersion)
        logits = _bounded(self.log_rate(hidden)) + log_dispersion
        return dist.NegativeBinomial((-log_dispersion).exp(), logits=logits, validate_args=False)


def _bounded(log_rate: Tensor) -> Tensor:
    """Logarithms of rates that neither overflow nor vanish in float32, which they are at least in."""
    return at_least_single(log_rate).clamp(-_LARGEST_LOG_RATE, _LARGEST_LOG_RATE)
