r"""What a denoiser has learned, against what it should have: the score \(\nabla \log p_{\sigma}\) of the noisy density.

The best reconstruction r under Gaussian noise has, exactly and for every σ (Miyasawa, Tweedie),
\(r(\tilde x) - \tilde x = \sigma^2 \nabla \log p_{\sigma}(\tilde x)\) with
\(p_{\sigma} = p * N(0, \sigma^2 I)\): the score of the noisy density, not of p, which is another field, and which data
on a curve do not even have.

References:
    Miyasawa, 1961; Robbins, 1956 (Tweedie's formula); Vincent, 2011; Alain & Bengio, 2014, arXiv:1211.4246.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import MixtureSameFamily, MultivariateNormal

from graphvae.graphs import Graphs, as_batch
from graphvae.model import GraphVAE

_ROWS = 1024


def denoised(model: GraphVAE, graphs: Graphs) -> Tensor:
    """The features a model makes of noisy ones: the mean of p(X | A, z) at the mean z of the encoder. Differentiable.

    Args:
        model: With a feature factor.
        graphs: With noisy features, which may lie outside the support of the likelihood; vectors are `edgeless(x)`.

    Returns:
        `(N, F)`, on the model's device.

    Raises:
        ValueError: The model has no feature factor, or the features are not as many as the model's.
    """
    if model.features is None:
        raise ValueError("'model' must have a feature factor to denoise features")
    batch = as_batch(graphs, directed=model.edges is None or model.edges.directed)
    found = 0 if batch.x is None else batch.x.size(1)
    if found != model.features.features:
        raise ValueError(f"'graphs' must have the model's {model.features.features} features, got {found}")
    anchor = next(model.parameters())
    batch = batch.clone().to(anchor.device)
    z = model.encoder(batch.x.to(anchor.dtype), batch.edge_index, layout=batch.layout).mean
    return model.features(z, batch.edge_index, batch.layout).mean


def learned_score(model: GraphVAE, graphs: Graphs, noise: float) -> Tensor:
    """(r(x) - x) / σ², `(N, F)`: the score of the noisy density, if the denoiser is best for `GaussianNoise(noise)`.

    For any parameterisation; that of `denoisers.ScoreFeatures` has it as the output of its network.

    Args:
        model: A denoising autoencoder.
        graphs: Where: noisy features.
        noise: σ of the training.
    """
    if not noise > 0:
        raise ValueError(f"'noise' must be positive, got {noise}")
    restored = denoised(model, graphs)
    x = as_batch(graphs, directed=True).x.to_dense()
    return (restored - x.to(restored)) / noise**2


def noised(mixture: MixtureSameFamily, noise: float) -> MixtureSameFamily:
    """A mixture of `MultivariateNormal` components convolved with N(0, σ²I): every covariance grows by σ²."""
    components = _components(mixture)
    added = noise**2 * torch.eye(components.event_shape[0]).to(components.loc)
    wider = MultivariateNormal(components.loc, components.covariance_matrix + added, validate_args=False)
    return MixtureSameFamily(mixture.mixture_distribution, wider, validate_args=False)


def mixture_score(mixture: MixtureSameFamily, x: Tensor) -> Tensor:
    r"""\(\nabla \log p(x) = \sum_k p(k | x) \Sigma_k^{-1} (\mu_k - x)\) of a mixture of multivariate normals.

    Args:
        mixture: Of K components in D dimensions.
        x: `(N, D)`.

    Returns:
        `(N, D)`.
    """
    components = _components(mixture)
    log_joint = mixture.mixture_distribution.logits + components.log_prob(x[:, None])
    pulls = torch.einsum("kij,nkj->nki", components.precision_matrix, components.loc - x[:, None])
    return torch.einsum("nk,nki->ni", log_joint.softmax(1), pulls)


def empirical_score(points: Tensor, x: Tensor, noise: float) -> Tensor:
    r"""The score of noised data: \(\nabla \log p_{\sigma}(x) = (\sum_j w_j x_j - x) / \sigma^2\).

    The noisy density is a mixture of N(x_j, σ²I), and \(w = \mathrm{softmax}(-\lVert x - x_j\rVert^2 / 2\sigma^2)\).

    Args:
        points: `(M, D)` data, equally likely.
        x: `(N, D)`.
        noise: σ.

    Returns:
        `(N, D)`; the distances held at a time are those of 1024 rows.
    """
    if not noise > 0:
        raise ValueError(f"'noise' must be positive, got {noise}")
    means = [(_weights(points, rows, noise) @ points) for rows in x.split(_ROWS)]
    return (torch.cat(means) - x) / noise**2


def _weights(points: Tensor, rows: Tensor, noise: float) -> Tensor:
    distances = torch.cdist(rows, points, compute_mode="donot_use_mm_for_euclid_dist")
    return (-0.5 * (distances / noise) ** 2).softmax(1)


def smallest_error(scores: Tensor, noise: float) -> Tensor:
    r"""The least mean squared error, \(D\sigma^2 - \sigma^4 E\lVert\nabla \log p_{\sigma}\rVert^2\), `()`.

    Args:
        scores: `(N, D)` exact scores at draws from the noisy density.
        noise: σ.
    """
    return scores.size(1) * noise**2 - noise**4 * scores.square().sum(1).mean()


@dataclass(frozen=True)
class Agreement:
    """How near one vector field is to another.

    Attributes:
        relative_error: Mean squared difference over mean squared length of the exact field.
        cosines: `(N,)` of the angles between the two.
    """

    relative_error: float
    cosines: Tensor

    @property
    def median_cosine(self) -> float:
        """Over the places."""
        return float(self.cosines.median())

    @property
    def mean_cosine(self) -> float:
        """Over the places."""
        return float(self.cosines.mean())


def agreement(found: Tensor, exact: Tensor) -> Agreement:
    """Compares two vector fields `(N, D)` at the same places, which theory wants drawn from the noisy density.

    Raises:
        ValueError: Their shapes differ.
    """
    if found.shape != exact.shape:
        raise ValueError(f"'found' must have the shape of 'exact', {tuple(exact.shape)}, got {tuple(found.shape)}")
    error = (found - exact).square().sum() / exact.square().sum()
    return Agreement(float(error), torch.cosine_similarity(found, exact, dim=1))


def _components(mixture: MixtureSameFamily) -> MultivariateNormal:
    components = getattr(mixture, "component_distribution", mixture)
    if not isinstance(components, MultivariateNormal) or components.loc.dim() != 2:
        raise TypeError(f"'mixture' must be one mixture of MultivariateNormal, got {type(components).__name__}")
    return components
