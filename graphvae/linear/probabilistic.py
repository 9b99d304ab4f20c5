"""Probabilistic PCA: the linear-Gaussian model, for which log p(x), the best q and the gap are known exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import LowRankMultivariateNormal

from graphvae.distributions import PerGraph
from graphvae.encoders import NormalEncoder
from graphvae.features import FixedScale, GaussianFeatures, LearnedScale
from graphvae.graphs import Graphs, edgeless
from graphvae.linear.components import check_rows, exact_pca
from graphvae.linear.models import linear_vae, weights_of
from graphvae.model import GraphVAE
from graphvae.priors import StandardNormal


@torch.no_grad()
def probabilistic_pca(x: Tensor, latent: int) -> GraphVAE:
    r"""The linear-Gaussian model of greatest likelihood, in closed form: a `linear_vae` with the exact posterior.

    \(W = U_K (\Sigma_K - s^2 I)^{1/2}\), with \(s^2\) the mean of the variances left out. Columns of W are orthogonal,
    so the posterior is diagonal and the ELBO is log p(x).

    Args:
        x: `(N, F)` rows; they need not be centred, b is their mean.
        latent: K, less than the rank of the covariance.

    References:
        Tipping & Bishop, "Probabilistic principal component analysis", 1999.
    """
    check_rows(x, latent)
    directions, variances = exact_pca(x, min(x.shape))
    assert variances is not None
    s2 = float(variances[latent:].sum()) / max(x.size(1) - latent, 1)
    if s2 <= 1e-12 * float(variances[0]):
        raise ValueError(f"'latent' must be less than the rank of the covariance of 'x' {tuple(x.shape)}, got {latent}")
    scale = FixedScale(math.sqrt(s2))
    model = linear_vae(x.size(1), latent, scale).to(x)
    scale.log_scale.fill_(0.5 * math.log(s2))  # In the precision of x.
    decoder = weights_of(model).decoder
    decoder.bias.copy_(x.mean(0))
    decoder.weight.copy_(directions[:latent].T * (variances[:latent] - s2).clamp(min=0).sqrt())
    set_best_posterior(model)
    return model.eval()


@torch.no_grad()
def set_best_posterior(model: GraphVAE) -> None:
    r"""Sets the encoder of a linear VAE to the best diagonal q for its decoder, whose mean is the exact one.

    \(q(z | x) = N(\Lambda^{-1} W^\top \Psi^{-1} (x - b),\ \mathrm{diag}(1 / \Lambda_{kk}))\) with
    \(\Lambda = I + W^\top \Psi^{-1} W\), Ψ the covariance of the noise. It is the exact posterior if Λ is diagonal;
    `diagonal_gap` is what it lacks otherwise.
    """
    precision, decoder = _posterior_precision(model), weights_of(model).decoder
    encoder = model.encoder
    assert isinstance(encoder, NormalEncoder)
    scaled = decoder.weight / _noise_variances(model)[:, None]
    weight = torch.linalg.solve(precision, scaled.T)
    encoder.loc.weight.copy_(weight)
    encoder.loc.bias.copy_(-weight @ decoder.bias)
    encoder.log_scale.weight.zero_()
    encoder.log_scale.bias.copy_(-precision.diagonal().log() / 2)


def analytic_elbo(model: GraphVAE, graphs: Graphs) -> Tensor:
    r"""The ELBO of a linear VAE with its expectation in closed form: `bounds.elbo` without noise. `(B,)`.

    \(E_q \log p(x | z) = \log p(x | \mu) - \frac12 \sum_k \sigma_k^2 \lVert \Psi^{-1/2} w_k \rVert^2\).
    """
    batch = model.batch(graphs)
    decoder, noise = weights_of(model).decoder, _noise_variances(model)
    q = model.posterior(batch)
    assert isinstance(q, PerGraph)
    at_mean = model.log_likelihood(batch, q.mean)
    spread = q.stddev.square() @ (decoder.weight.square() / noise[:, None]).sum(0)
    return at_mean - spread / 2 - q.kl(model.prior(q.layout))


def log_marginal(model: GraphVAE, x: Tensor) -> Tensor:
    r"""Log p(x) of a linear VAE, \(N(x | b, W W^\top + \Psi)\), exactly: `(N,)` for rows `(N, F)`."""
    decoder, noise = weights_of(model).decoder, _noise_variances(model).double()
    rows = model.batch(edgeless(x)).x
    # In float32 the squared distance is a difference of large numbers where the noise is small.
    marginal = LowRankMultivariateNormal(decoder.bias.double(), decoder.weight.double(), noise, validate_args=False)
    return marginal.log_prob(rows.double()).to(rows.dtype)


def diagonal_gap(model: GraphVAE) -> Tensor:
    r"""What the best diagonal q of a linear VAE loses, \(\frac12 (\sum_k \log \Lambda_{kk} - \log\det \Lambda)\): `()`.

    It is the same for every x; with `set_best_posterior` the ELBO is log p(x) less this.
    """
    precision = _posterior_precision(model)
    return (precision.diagonal().log().sum() - torch.linalg.slogdet(precision).logabsdet) / 2


def _posterior_precision(model: GraphVAE) -> Tensor:
    weight, noise = weights_of(model).decoding, _noise_variances(model)
    identity = torch.eye(weight.size(1), dtype=weight.dtype, device=weight.device)
    return identity + weight.T @ (weight / noise[:, None])


def _noise_variances(model: GraphVAE) -> Tensor:
    """`(F,)` of p(x | z).

    Raises:
        TypeError: The model is no linear VAE.
    """
    decoder = weights_of(model).decoder
    linear = isinstance(model.encoder, NormalEncoder) and isinstance(model.prior, StandardNormal)
    if not linear or not isinstance(model.features, GaussianFeatures):
        raise TypeError("'model' must be a linear VAE, as linear_vae(F, K) makes them")
    if not isinstance(model.features.scale, (FixedScale, LearnedScale)):
        raise TypeError(
            f"'model' must have FixedScale or LearnedScale noise, got {type(model.features.scale).__name__}"
        )
    return (2 * model.features.scale(decoder.weight)).exp().expand(decoder.out_features)
