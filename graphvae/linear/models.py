"""The linear models, built of the ordinary factors, and the weights of any model that is linear."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch_geometric.nn import Linear

from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.features import FixedScale, GaussianFeatures, LearnedScale
from graphvae.model import GraphVAE
from graphvae.priors import StandardNormal
from graphvae.validation import check_positive


class LinearWeights(NamedTuple):
    """The layers of a linear model: `encoder` with weight V `(K, F)`, `decoder` with weight U `(F, K)`."""

    encoder: Linear
    decoder: nn.Linear

    @property
    def encoding(self) -> Tensor:
        """V, `(K, F)`."""
        return self.encoder.weight

    @property
    def decoding(self) -> Tensor:
        """U, `(F, K)`."""
        return self.decoder.weight


def linear_autoencoder(features: int, latent: int) -> GraphVAE:
    r"""The autoencoder with codes V x and reconstructions U z, for centred data (`centred`).

    With it `objectives.reconstruction` is \(-\lVert x - U V x \rVert^2 - \frac F2 \log \pi\). Its
    biases are kept at 0: what one layer adds the other can take away, which would leave them adrift.

    Args:
        features: Number F of features.
        latent: Number K of codes.
    """
    check_positive(features=features, latent=latent)
    encoder, decoder = PointEncoder(nn.Identity(), features, latent), _decoder(features, latent, FixedScale(0.5**0.5))
    encoder.loc.bias.requires_grad_(False)
    decoder.loc.bias.requires_grad_(False)
    return GraphVAE(StandardNormal(latent), encoder, features=decoder)


def linear_vae(features: int, latent: int, scale: nn.Module | None = None) -> GraphVAE:
    r"""The linear VAE: \(p(x | z) = N(W z + b, s^2 I)\), and a linear q(z | x) with one diagonal covariance.

    The covariance of q does not depend on x, as that of the true posterior; the weights for it are kept at 0. At the
    maximum of the ELBO the columns of W are scaled principal components, in some order, and the ELBO is log p(x).

    Args:
        features: Number F of features.
        latent: Number K of latents.
        scale: `FixedScale` or `LearnedScale`; s is learned by default.

    References:
        Lucas et al., "Don't blame the ELBO!", 2019, arXiv:1911.02469.
    """
    check_positive(features=features, latent=latent)
    encoder = NormalEncoder(nn.Identity(), features, latent)
    encoder.log_scale.weight.requires_grad_(False).zero_()
    return GraphVAE(StandardNormal(latent), encoder, features=_decoder(features, latent, scale or LearnedScale()))


def _decoder(features: int, latent: int, scale: nn.Module) -> GaussianFeatures:
    decoder = GaussianFeatures(nn.Identity(), latent, features, scale)
    nn.init.zeros_(decoder.loc.bias)
    return decoder


def weights_of(model: GraphVAE) -> LinearWeights:
    """The layers of a linear model.

    Raises:
        TypeError: `model` has edges, a network between its layers, or another kind of encoder or features.
    """
    encoder, decoder = model.encoder, model.features
    if (
        isinstance(encoder, (PointEncoder, NormalEncoder))
        and isinstance(decoder, GaussianFeatures)
        and isinstance(encoder.backbone, nn.Identity)
        and isinstance(decoder.backbone, nn.Identity)
        and encoder.pool is None
        and model.edges is None
    ):
        return LinearWeights(encoder.loc, decoder.loc)
    raise TypeError("'model' must be linear, as linear_autoencoder(F, K) and linear_vae(F, K) make them")
