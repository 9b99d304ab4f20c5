"""Corruptions of node features, for denoising: `corruption(graphs)` is the batch with another `x`.

Vectors (`edgeless`) and graphs with edges are corrupted alike; edges, layout and everything else stay as they are.
Noise is drawn anew at every call, from PyTorch's global generator (which `fit(seed=...)` seeds) unless one is given.

Only under `GaussianNoise` is the residual of the best denoiser the score of the noisy density (Miyasawa, Tweedie). For
`MaskingNoise` and `SaltAndPepper` the best denoiser is still E[x | corrupted x], but says nothing about a score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.graphs import Graphs, as_batch, with_features


class Corruption(Protocol):
    """What a corruption of your own must offer."""

    def __call__(self, graphs: Graphs, generator: torch.Generator | None = None) -> Batch:
        """`graphs` with corrupted features, as one checked batch."""


@dataclass(frozen=True)
class GaussianNoise:
    r"""\(\tilde x = x + \sigma\varepsilon\), \(\varepsilon \sim N(0, I)\).

    Args:
        scale: The standard deviation σ, in units of the features; positive.

    References:
        Vincent, "A connection between score matching and denoising autoencoders", 2011.
    """

    scale: float

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"'scale' must be positive and finite, got {self.scale}")

    def __call__(self, graphs: Graphs, generator: torch.Generator | None = None) -> Batch:
        """The batch with noise added to every feature."""
        batch, x = _features(graphs)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        return with_features(batch, x + self.scale * noise)


@dataclass(frozen=True)
class MaskingNoise:
    """Each feature of each node set to zero with probability `rate`; the rest is not scaled up.

    Args:
        rate: In (0, 1).

    References:
        Vincent et al., "Extracting and composing robust features with denoising autoencoders", 2008.
    """

    rate: float

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __call__(self, graphs: Graphs, generator: torch.Generator | None = None) -> Batch:
        """The batch with features masked independently."""
        batch, x = _features(graphs)
        return with_features(batch, x.masked_fill(_uniform(x, generator) < self.rate, 0.0))


@dataclass(frozen=True)
class SaltAndPepper:
    """Each feature of each node replaced with probability `rate`, by `low` or `high` with equal chances.

    Args:
        rate: In (0, 1).
        low: The pepper.
        high: The salt.
    """

    rate: float
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def __call__(self, graphs: Graphs, generator: torch.Generator | None = None) -> Batch:
        """The batch with features replaced independently."""
        batch, x = _features(graphs)
        draw = _uniform(x, generator)
        x = x.masked_fill(draw < self.rate, self.high).masked_fill(draw < self.rate / 2, self.low)
        return with_features(batch, x)


def _features(graphs: Graphs) -> tuple[Batch, Tensor]:
    batch = as_batch(graphs, directed=True)
    if batch.x is None:
        raise ValueError("'graphs' must have node features 'x' to corrupt, they have none")
    return batch, batch.x.to_dense()


def _uniform(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _check_rate(rate: float) -> None:
    if not 0 < rate < 1:
        raise ValueError(f"'rate' must lie strictly between 0 and 1, got {rate}")
