"""Objectives that recover principal components one by one; `objectives.reconstruction` finds only their space.

None is a bound on a likelihood. Larger is better, one number per row, squared errors in units of the features. A
penalty is subtracted from every row, so that means over rows are the objectives of the literature.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.linear.components import check_rows, exact_pca
from graphvae.linear.models import weights_of
from graphvae.model import GraphVAE

_LARGEST_SHARE = 0.9  # Of the K-th variance: the last component is shrunk, not lost.
_SMALLEST_SHARE = 0.05
_BALANCING_SHARE = 0.1


@dataclass(frozen=True)
class UniformL2:
    r"""\(-\lVert x - U V x \rVert^2 - \lambda (\lVert U \rVert^2 + \lVert V \rVert^2)\). Not a bound.

    At the maximum \(U = V^\top = U_K (I - \lambda \Sigma_K^{-1})^{1/2} O\) with any orthogonal O: components are the
    left singular vectors of U, by `principal_components(model)`.

    Args:
        penalty: λ, less than the K-th variance of the data.

    References:
        Kunin et al., 2019, arXiv:1901.08168.
    """

    penalty: float

    def __post_init__(self) -> None:
        _check_penalty(self.penalty)

    @classmethod
    def scaled_to(cls, x: Tensor, latent: int) -> UniformL2:
        """With a tenth of the K-th variance of `x` `(N, F)` as penalty."""
        return cls(_BALANCING_SHARE * _variances(x, latent)[-1])

    def __call__(self, model: GraphVAE, graphs: Batch) -> Tensor:
        """`(B,)`."""
        return -_squared_errors(model, graphs) - self.penalty * _squared_lengths(model).sum()


@dataclass(frozen=True)
class NonUniformL2:
    r"""\(-\lVert x - U V x \rVert^2 - \sum_i \lambda_i (\lVert U_{:i} \rVert^2 + \lVert V_{i:} \rVert^2)\), no bound.

    With \(0 < \lambda_1 < \dots < \lambda_K < \sigma_K^2\) the maximum is unique up to signs, \(U_{:i} = V_{i:}^\top =
    (1 - \lambda_i / \sigma_i^2)^{1/2} u_i\): components in order, shrunk. To have i and j in the wrong places costs
    \((\lambda_j^2 - \lambda_i^2)(1 / \sigma_j^2 - 1 / \sigma_i^2)\), very little for penalties of one distance, where
    training takes long. `scaled_to` makes that cost the same for all neighbours.

    Args:
        penalties: K numbers, positive and increasing.

    References:
        Bao et al., "Regularized linear autoencoders recover the principal components, eventually", 2020,
        arXiv:2007.06731; they take penalties above the last variances, which loses those components.
    """

    penalties: tuple[float, ...]

    def __post_init__(self) -> None:
        for penalty in self.penalties:
            _check_penalty(penalty)
        if not self.penalties or any(b <= a for a, b in zip(self.penalties, self.penalties[1:], strict=False)):
            raise ValueError(f"'penalties' must be increasing, one for each latent, got {self.penalties}")

    @classmethod
    def scaled_to(cls, x: Tensor, latent: int, penalties: tuple[float, ...] | None = None) -> NonUniformL2:
        r"""With penalties that suit the spectrum of the data.

        \(\lambda_i^2\) rises in steps in proportion to \(1 / (1 / \sigma_{i+1}^2 - 1 / \sigma_i^2)\), between 5 % and
        90 % of the K-th variance.

        Args:
            x: `(N, F)` data.
            latent: K.
            penalties: Your own instead.

        Warns:
            UserWarning: One of your own exceeds the variance of its component, which would be lost.
        """
        variances = _variances(x, latent)
        if penalties is None:
            return cls(_equalizing(variances))
        if len(penalties) != latent:
            raise ValueError(f"'penalties' must be one for each of the {latent} latents, got {len(penalties)}")
        lost = [
            i for i, (penalty, variance) in enumerate(zip(penalties, variances, strict=True)) if penalty >= variance
        ]
        if lost:
            warnings.warn(
                f"'penalties' exceed the variances of the components {lost}, which will be lost: "
                f"{[penalties[i] for i in lost]} against {[variances[i] for i in lost]}",
                stacklevel=2,
            )
        return cls(penalties)

    def __call__(self, model: GraphVAE, graphs: Batch) -> Tensor:
        """`(B,)`."""
        lengths = _squared_lengths(model)
        if lengths.numel() != len(self.penalties):
            raise ValueError(
                f"'penalties' must be one for each of the {lengths.numel()} latents, got {len(self.penalties)}"
            )
        return -_squared_errors(model, graphs) - lengths @ lengths.new_tensor(self.penalties)


@dataclass(frozen=True)
class NestedDropout:
    r"""\(-E_b \lVert x - U_{:,\le b} V_{\le b,:} x \rVert^2\): only the first b codes are kept. Not a bound.

    The expectation over b is exact. At the maximum columns of U are principal components in order, nothing is shrunk,
    and the length of a column is free.

    Args:
        keep: Probabilities of b = 1, ..., K, all positive; uniform if None.

    References:
        Rippel, Gelbart & Adams, "Learning ordered representations with nested dropout", 2014, arXiv:1402.0915;
        the expectation: Bao et al., 2020, arXiv:2007.06731.
    """

    keep: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.keep is not None and not (all(p > 0 for p in self.keep) and abs(sum(self.keep) - 1) <= 1e-6):
            raise ValueError(f"'keep' must be positive probabilities that sum to 1, got {self.keep}")

    def __call__(self, model: GraphVAE, graphs: Batch) -> Tensor:
        """`(B,)`."""
        decoder = weights_of(model).decoder
        graphs = model.batch(graphs)
        z = model.posterior(graphs).mean
        x = graphs.x - decoder.bias
        kept, later = self._chances(z)
        overlaps = later * (decoder.weight.T @ decoder.weight)
        # Σ_i c_i z_i (x·u_i), and Σ_ij c_max(i,j) z_i z_j (u_i·u_j), where c_i is the chance that code i is kept.
        return -x.square().sum(1) + (z * (2 * kept * (x @ decoder.weight) - z @ overlaps)).sum(1)

    def _chances(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`(K,)` chances of each code to be kept, and `(K, K)` of each pair."""
        latent = z.size(1)
        keep = z.new_full((latent,), 1 / latent) if self.keep is None else z.new_tensor(self.keep)
        if keep.numel() != latent:
            raise ValueError(f"'keep' must be one probability for each of the {latent} latents, got {keep.numel()}")
        kept = keep.flip(0).cumsum(0).flip(0)
        return kept, torch.minimum(kept, kept[:, None])


@dataclass(frozen=True)
class RotationAugmented:
    r"""Squared error with a gradient that also rotates the codes, and a little uniform L2. Not a bound.

    With Y the covariance of the codes and Γ half of its upper triangle less the transpose of that, ΓV is added to the
    gradient of V, and UΓᵀ to that of U: to first order a rotation, which leaves U V as it is, towards codes that are
    uncorrelated and in descending order of variance. That is the gradient of no function, so the terms that bring it
    have the value 0. It aligns U only while U and V are balanced, UᵀU = VVᵀ, which steps of finite size do not
    keep; the penalty restores it, at the price of components that are shrunk as by `UniformL2`.

    Args:
        penalty: λ of `UniformL2`, small against the K-th variance.

    References:
        Bao et al., 2020, arXiv:2007.06731, without the penalty.
    """

    penalty: float

    def __post_init__(self) -> None:
        _check_penalty(self.penalty)

    @classmethod
    def scaled_to(cls, x: Tensor, latent: int) -> RotationAugmented:
        """With a tenth of the K-th variance of `x` `(N, F)` as penalty."""
        return cls(_BALANCING_SHARE * _variances(x, latent)[-1])

    def __call__(self, model: GraphVAE, graphs: Batch) -> Tensor:
        """`(B,)`; the mean over rows has the augmented gradient."""
        encoding, decoding = weights_of(model).encoding, weights_of(model).decoding
        z = model.posterior(graphs).mean.detach()
        upper = torch.cov(z.T, correction=0).reshape(z.size(1), -1).triu(1)
        rotation = (upper - upper.T) / 2
        turns = ((rotation @ encoding).detach() * encoding).sum() + ((decoding @ rotation.T).detach() * decoding).sum()
        return UniformL2(self.penalty)(model, graphs) + (turns - turns.detach())


def _squared_errors(model: GraphVAE, graphs: Batch) -> Tensor:
    decoder = weights_of(model).decoder
    graphs = model.batch(graphs)
    return (graphs.x - decoder(model.posterior(graphs).mean)).square().sum(1)


def _squared_lengths(model: GraphVAE) -> Tensor:
    """`(K,)` of column i of U and row i of V together."""
    weights = weights_of(model)
    return weights.encoding.square().sum(1) + weights.decoding.square().sum(0)


def _check_penalty(penalty: float) -> None:
    if not 0 < penalty < math.inf:
        raise ValueError(f"penalties must be positive and finite, got {penalty}")


def _variances(x: Tensor, latent: int) -> list[float]:
    """The K largest of the spectrum.

    Raises:
        ValueError: The K-th is 0.
    """
    check_rows(x, latent)
    variances = exact_pca(x.double(), latent).variances
    assert variances is not None
    if float(variances[-1]) <= 1e-12 * float(variances[0]):
        raise ValueError(f"'latent' must be at most the rank of the covariance of 'x' {tuple(x.shape)}, got {latent}")
    return variances.tolist()


def _equalizing(variances: list[float]) -> tuple[float, ...]:
    """Penalties for which exchanging neighbours costs the same everywhere."""
    sigma2 = torch.tensor(variances, dtype=torch.float64)
    gaps = (1 / sigma2).diff()
    # Equal variances have no components of their own; they must not take all the room.
    steps = 1 / gaps.clamp(min=0.01 * float(gaps.mean())) if gaps.numel() else gaps
    rise = torch.cat([steps.new_zeros(1), steps.cumsum(0) / steps.sum()]) if gaps.numel() else torch.ones(1)
    lowest, highest = _SMALLEST_SHARE**2, _LARGEST_SHARE**2
    return tuple((variances[-1] * (lowest + (highest - lowest) * rise).sqrt()).tolist())
