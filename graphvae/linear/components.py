"""Principal components: exact, out of a trained linear model, and the few rows of data that suffice to train one."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from scipy.linalg import helmert
from torch import Tensor

from graphvae.graphs import edgeless
from graphvae.linear.models import weights_of
from graphvae.model import GraphVAE
from graphvae.validation import check_features, check_positive

_LOST = 1e-3


class Components(NamedTuple):
    """Principal components.

    `directions` `(K, F)` are unit rows, in descending order of variance; signs are arbitrary. `variances` `(K,)` are
    those of the data along them, a mean over N rows (not N - 1); None if no data were given.
    """

    directions: Tensor
    variances: Tensor | None


def centred(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows `(N, F)` less their mean, and the mean `(F,)`."""
    check_rows(x)
    mean = x.mean(0)
    return x - mean, mean


def compressed(x: Tensor) -> Tensor:
    r"""F + 1 rows with the mean and the covariance (divided by N) of the N rows of `x`, which is returned if shorter.

    An objective that is quadratic in x, as all of a linear model are whose q has one covariance, has the same mean over
    either. With a QR decomposition \(x - \bar x = Q R\) the M rows are \(\bar x + \sqrt{M / N}\, H R\), for H `(M, F)`
    with orthonormal columns that sum to 0.

    Args:
        x: `(N, F)`, floating point.
    """
    rows, mean = centred(x)
    triangle = torch.linalg.qr(rows, mode="r").R
    size = triangle.size(0) + 1
    if len(x) <= size:
        return x
    contrasts = torch.from_numpy(helmert(size)).to(x)
    return mean + (size / len(x)) ** 0.5 * contrasts.T @ triangle


def exact_pca(x: Tensor, latent: int) -> Components:
    """The first K principal components of `x` `(N, F)`, by a singular value decomposition of the centred rows."""
    check_rows(x, latent)
    _, scales, directions = torch.linalg.svd(centred(x)[0], full_matrices=False)
    return Components(directions[:latent], scales[:latent].square() / len(x))


@torch.no_grad()
def principal_components(model: GraphVAE, x: Tensor | None = None) -> Components:
    """The principal components that a linear model has found.

    Args:
        model: Linear, trained by any of the objectives here.
        x: `(N, F)` data. Components are then those of the reconstructions: right for every model at its optimum. If
            None they are the left singular vectors of the decoder: right for all but a plain autoencoder and one
            trained by `NestedDropout`, whose columns have arbitrary lengths; use `decoder_columns` there.

    Warns:
        UserWarning: There are fewer components than latents: some are lost, to a penalty above their variance.

    References:
        Kunin et al., "Loss landscapes of regularized linear autoencoders", 2019, arXiv:1901.08168 (without data).
    """
    decoding = weights_of(model).decoding
    if x is None:
        left, scales, _ = torch.linalg.svd(decoding, full_matrices=False)
        _warn_of_lost(scales)
        return Components(left.T, None)
    rows = compressed(x)
    batch = model.batch(edgeless(rows))
    assert model.features is not None  # `weights_of` has looked.
    found = model.features(model.posterior(batch).mean, batch.edge_index, batch.layout).mean
    _, scales, directions = torch.linalg.svd(centred(found)[0], full_matrices=False)
    count = min(decoding.shape)
    along = centred(rows)[0] @ directions[:count].T
    _warn_of_lost(scales[:count] / along.norm(dim=0).clamp(min=torch.finfo(scales.dtype).tiny))
    variances = along.square().mean(0)
    order = variances.argsort(descending=True)
    return Components(directions[order], variances[order])


@torch.no_grad()
def decoder_columns(model: GraphVAE) -> Tensor:
    """The columns of the decoder as `(K, F)` unit rows, in the order the model has them.

    They are the principal components, in order, where the objective breaks the symmetry.

    Warns:
        UserWarning: A column is nearly 0: a component is lost, to a penalty above its variance.
    """
    columns = weights_of(model).decoding.T
    lengths = columns.norm(dim=1)
    _warn_of_lost(lengths)
    return columns / lengths.clamp(min=torch.finfo(lengths.dtype).tiny)[:, None]


def _warn_of_lost(lengths: Tensor) -> None:
    lost = int((lengths < _LOST * lengths.max()).sum())
    if lost:
        warnings.warn(
            f"'model' has lost {lost} of its {lengths.numel()} components, as happens where a penalty exceeds a "
            "component's variance; use smaller penalties (NonUniformL2.scaled_to(x, latent)), or fewer latents",
            stacklevel=3,
        )


def check_rows(x: Tensor, latent: int = 1) -> None:
    """Checks data `(N, F)` and that there can be `latent` components of it.

    Raises:
        TypeError, ValueError: `x` is no dense, finite matrix of floating point; `latent` is out of range.
    """
    check_features(x)
    check_positive(latent=latent)
    if len(x) == 0 or latent > min(x.shape):
        raise ValueError(f"'latent' must be at most {min(x.shape)} for 'x' of shape {tuple(x.shape)}, got {latent}")
