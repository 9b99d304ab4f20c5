r"""The residual form of a denoising autoencoder, \(r(x) = x + \sigma^2 s(x)\), as an encoder and a feature factor.

    GraphVAE(StandardNormal(F), Unchanged(), features=ScoreFeatures(network, F, noise=0.3))

trained by `objectives.denoising` under `GaussianNoise(0.3)` makes `network` the score of the noisy density.
"""

from __future__ import annotations

import math

import torch.distributions as dist
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

from graphvae.backbones import run_backbone
from graphvae.distributions import PerGraph, PointMass
from graphvae.layout import Layout


class Unchanged(nn.Module):
    """An encoder that passes the features on as they are: all mass at x, and latents as wide as x."""

    def forward(self, x: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PointMass:
        """The features `(N, F)` as codes."""
        return PointMass(x.to_dense(), layout)


class ScoreFeatures(nn.Module):
    r"""\(p(x_i | A, Z) = N(z_i + \sigma^2 s(Z, A)_i, \sigma^2 I)\): the mean is what denoises z if s is the score.

    With z the noisy features, the log-probability of the clean ones is, up to a constant, minus half the loss of
    denoising score matching, \(\lVert\sigma s(\tilde x) + \varepsilon\rVert^2\), whatever σ. To learn r itself instead
    (`PointEncoder` with `GaussianFeatures`) leaves the score as a small difference of two large terms, divided by σ².

    Not a generative factor of a prior: its latents are features.

    Args:
        network: s: `(x, edge_index) -> (N, features)`, any PyG network; one without `edge_index` sees rows.
        features: Number F of features, and of columns of z.
        noise: σ, in units of the features: that of the `GaussianNoise` it is trained under.

    References:
        Vincent, "A connection between score matching and denoising autoencoders", 2011; Alain & Bengio, 2014,
        arXiv:1211.4246 (small σ).
    """

    support: Constraint = dist.constraints.real

    def __init__(self, network: nn.Module, features: int, noise: float) -> None:
        super().__init__()
        if not 0 < noise < math.inf:
            raise ValueError(f"'noise' must be positive and finite, got {noise}")
        self.network = network
        self.features, self.noise = features, noise

    def forward(self, z: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The distribution of clean features given noisy ones, `(N, F)`.

        Raises:
            ValueError: Latents or scores are not of F columns.
        """
        if layout is not None:
            layout.check_rows(z)
        score = run_backbone(self.network, z, edge_index, layout)
        for name, rows in (("z", z), ("network", score)):
            if rows.size(1) != self.features:
                raise ValueError(f"'{name}' must have the {self.features} columns of 'features', got {rows.size(1)}")
        base = dist.Normal(z + self.noise**2 * score, self.noise, validate_args=False)
        return PerGraph(base, layout)
