"""p(X | A, Z): node features from a network that sees the latents and the edges, `features(z, edge_index, layout)`."""

from __future__ import annotations

import math

import torch
import torch.distributions as dist
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from graphvae.backbones import run_backbone
from graphvae.distributions import PerGraph
from graphvae.layout import Layout

_SMALLEST_LOG_SCALE = -6.0


class FixedScale(nn.Module):
    """One standard deviation, given and kept.

    Args:
        scale: In units of the features.
    """

    log_scale: Tensor

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"'scale' must be positive, got {scale}")
        self.scale = scale
        self.register_buffer("log_scale", torch.tensor(math.log(scale)))

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


def _floored(log_scale: Tensor) -> Tensor:
    return _SMALLEST_LOG_SCALE + nn.functional.softplus(log_scale - _SMALLEST_LOG_SCALE)


class GaussianFeatures(nn.Module):
    r"""\(p(x_i | A, Z) = N(\tilde\mu_i, \mathrm{diag}\,\tilde\sigma_i^2)\), both read from a GNN on (Z, A).

    Learned scales are softly floored at exp(-6): one that shrinks without end makes the likelihood diverge.

    Args:
        backbone: `(z, edge_index) -> (N, hidden)`.
        hidden: Width of the backbone's output.
        features: Number F of features.
        scale: `FixedScale`, `LearnedScale` or `NodeScale`; by default one per node and feature.
    """

    support: Constraint = dist.constraints.real

    def __init__(self, backbone: nn.Module, hidden: int, features: int, scale: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden, self.features = hidden, features
        self.loc = nn.Linear(hidden, features)
        self.scale = scale or NodeScale(hidden, features)

    def forward(self, z: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The distribution of `(N, F)` features given `(N, D)` latents and the edges."""
        hidden = _decoded(self.backbone, z, edge_index, layout)
        loc = self.loc(hidden)
        scale = self.scale(hidden).exp().expand_as(loc)
        return PerGraph(dist.Normal(loc, scale, validate_args=False), layout)


class BernoulliFeatures(nn.Module):
    """Binary features, such as the words of a document, independent given (Z, A). Arguments as `GaussianFeatures`."""

    support: Constraint = dist.constraints.boolean

    def __init__(self, backbone: nn.Module, hidden: int, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden, self.features = hidden, features
        self.logits = nn.Linear(hidden, features)

    def forward(self, z: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The distribution of `(N, F)` zeros and ones."""
        logits = self.logits(_decoded(self.backbone, z, edge_index, layout))
        return PerGraph(dist.Bernoulli(logits=logits, validate_args=False), layout)


class CategoricalFeatures(nn.Module):
    """One of C classes per node, held one-hot in `x`. Arguments as `GaussianFeatures`, `features` = C."""

    support: Constraint = dist.constraints.one_hot

    def __init__(self, backbone: nn.Module, hidden: int, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden, self.features = hidden, features
        self.logits = nn.Linear(hidden, features)

    def forward(self, z: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The distribution of `(N, C)` one-hot rows."""
        logits = self.logits(_decoded(self.backbone, z, edge_index, layout))
        return PerGraph(dist.OneHotCategorical(logits=logits, validate_args=False), layout)


def _decoded(backbone: nn.Module, z: Tensor, edge_index: Tensor, layout: Layout | None) -> Tensor:
    if layout is not None:
        layout.check_rows(z)
    return run_backbone(backbone, z, edge_index, layout)
