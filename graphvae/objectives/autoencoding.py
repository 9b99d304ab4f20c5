"""What autoencoders maximise: plain, denoising, and of relaxed discrete latents. None is a bound."""

from __future__ import annotations

from torch import Tensor

from graphvae.bounds.expected import estimated
from graphvae.corruptions import Corruption
from graphvae.distributions import PointMass
from graphvae.expectations import Relaxation
from graphvae.graphs import Graphs
from graphvae.model import GraphVAE


def reconstruction(model: GraphVAE, graphs: Graphs) -> Tensor:
    """Log p(X, A | z) at the encoder's mean: what a plain autoencoder maximises. Not a bound. `(B,)`."""
    graphs = model.batch(graphs)
    return model.log_likelihood(graphs, model.posterior(graphs).mean)


def denoising(
    model: GraphVAE, graphs: Graphs, corruption: Corruption, beta: float = 1.0, noise: Tensor | None = None
) -> Tensor:
    r"""Log p(X, A | z) of the clean features, z from the corrupted ones: a denoising autoencoder. Not a bound. `(B,)`.

    Given to `fit` as `functools.partial(denoising, corruption=GaussianNoise(0.3))`, every step draws fresh noise. With
    a Gaussian likelihood of fixed scale its maximum is the mean E[x | corrupted x].

    An encoder with a density, such as `NormalEncoder`, makes it the denoising variational autoencoder:
    \(E_{q(Z | \tilde X, A)}[\log p(X, A | Z)] - \beta\, KL(q(Z | \tilde X, A) \| p(Z))\), whose mean over corruptions
    does lie below log p(X, A) for `beta` >= 1, as q(Z | X̃, A) is a distribution of Z like any other.

    Args:
        model: With a `PointEncoder`, an `Unchanged` or an encoder with a density.
        graphs: Clean: a PyG graph, batch or list.
        corruption: One of `corruptions`, or a function of a checked batch to one with another `x`. The likelihood is
            asked for clean features alone, so that corrupted ones may lie outside its support.
        beta: Weight of the KL divergence; not used where q has no density.
        noise: Of q, as in `bounds.elbo`; not the corruption.

    References:
        Vincent et al., 2008; Im et al., "Denoising criterion for variational auto-encoding framework", 2017,
        arXiv:1511.06406.
    """
    graphs = model.batch(graphs)
    q = model.posterior(corruption(graphs))
    z = q.rsample(noise)
    log_likelihood = model.log_likelihood(graphs, z)
    return log_likelihood if isinstance(q, PointMass) else log_likelihood - beta * q.kl(model.prior(q.layout), z)


def relaxed(model: GraphVAE, graphs: Graphs, relaxation: Relaxation, beta: float = 1.0) -> Tensor:
    r"""As an ELBO, with discrete latents replaced by continuous ones in the likelihood. Biased, and not a bound.

    \(E[\log p(X, A | \tilde Z)] - \beta\, KL(q(Z | X, A) \| p(Z))\) with relaxed \(\tilde Z\), which lie between the
    codes: the likelihood there may exceed that of every code, so that this can exceed log p(X, A). The KL divergence is
    that of the discrete distributions. Judge a model so trained by `bounds.expected_elbo` or `bounds.importance_bound`.

    Args:
        model: With discrete latents.
        graphs: A PyG graph, batch or list.
        relaxation: At which temperature; whether straight through.
        beta: Weight of the KL divergence.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The latents are not Bernoulli or one-hot categorical.

    References:
        Jang, Gu & Poole, 2017, arXiv:1611.01144; with the relaxed densities in place of the KL divergence, a bound
        for another model: Maddison, Mnih & Teh, 2017, arXiv:1611.00712.
    """
    return estimated(model, graphs, relaxation, beta)
