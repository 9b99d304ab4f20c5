"""The evidence lower bound with its expectation taken as told."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from graphvae.bounds.chunks import log_likelihoods
from graphvae.contracts import check_same_kind
from graphvae.distributions import PointMass
from graphvae.expectations import Expectation, log_probs
from graphvae.graphs import Graphs
from graphvae.model import GraphVAE


def expected_elbo(
    model: GraphVAE, graphs: Graphs, expectation: Expectation, beta: float = 1.0, chunk: int | None = None
) -> Tensor:
    r"""\(E_q[\log p(X, A | Z)] - \beta\, KL(q(Z | X, A) \| p(Z))\), of which `expectation` takes the first part.

    As `elbo`, for any encoder: with `Enumeration` exact, with `ScoreFunction` for discrete latents too many for that,
    with `Pathwise` `elbo` itself from several draws. Where the KL divergence has no closed form it is part of the
    expectation. Labelled convention.

    Args:
        model: With an encoder that has a density or probabilities.
        graphs: A PyG graph, batch or list.
        expectation: An unbiased one of `expectations`.
        beta: As in `elbo`.
        chunk: The most latents to decode at a time, all if None. What is kept for the gradient is then that of one
            chunk, decoded again in the backward pass.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The encoder gives a point mass; or the expectation is not one of this kind of latents.
        ValueError: The expectation is biased, or refuses.

    References:
        Both kinds of gradient compared: Mohamed et al., 2020, arXiv:1906.10652.
    """
    if expectation.biased:
        raise ValueError(
            f"'expectation' must be unbiased for a bound, {type(expectation).__name__} is not; "
            "use objectives.relaxed(model, graphs, relaxation), which is no bound"
        )
    return estimated(model, graphs, expectation, beta, chunk)


def estimated(
    model: GraphVAE, graphs: Graphs, expectation: Expectation, beta: float = 1.0, chunk: int | None = None
) -> Tensor:
    """As `expected_elbo`, by an expectation that may be biased; then no bound."""
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    if isinstance(q, PointMass):
        raise TypeError("'model' must have an encoder with a density, a PointMass has none; use NormalEncoder")
    p = model.prior(q.layout)
    check_same_kind(q, p)
    kl = q.closed_kl(p)
    decoded = partial(log_likelihoods, model, graphs, chunk=chunk)
    if kl is not None:
        return expectation(q, decoded) - beta * q.layout.sum(kl)

    def with_ratio(z: Tensor) -> Tensor:
        log_p = model.prior(q.layout.repeated(len(z))).log_prob(z.flatten(0, 1)).view(len(z), -1)
        return decoded(z) + beta * (log_p - log_probs(q, z))

    return expectation(q, with_ratio)
