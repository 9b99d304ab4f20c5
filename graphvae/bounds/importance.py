"""The importance-weighted bound."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from graphvae.distributions import PointMass
from graphvae.model import Graphs, GraphVAE


def importance_bound(model: GraphVAE, graphs: Graphs, particles: int, noise: Tensor | None = None) -> Tensor:
    r"""The importance-weighted bound, \(\log \frac1K \sum_k p(G, z_k) / q(z_k \mid G)\) for K draws of q.

    Its expectation is a lower bound on log p(G) that rises with K from the ELBO (K = 1) towards it. Labelled
    convention. The encoder runs once; the particles go one by one through the decoders, and all keep their graph for
    the gradient.

    Args:
        model: With an encoder that has a density, and likelihoods that are computed: noise in log p inside the
            logarithm of a sum would not average out, and break the bound.
        graphs: A PyG graph, batch or list.
        particles: K.
        noise: Standard normal, `(K, ...)` for latents of shape `(...)`; drawn if None.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The encoder gives a point mass.
        ValueError: log p(A | Z) is only estimated.

    References:
        Burda, Grosse & Salakhutdinov, 2015, arXiv:1509.00519.
    """
    if particles < 1:
        raise ValueError(f"'particles' must be positive, got {particles}")
    _check_computed(model, model.edges)
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    if isinstance(q, PointMass):
        raise TypeError("'model' must have an encoder with a density, a PointMass has none; use NormalEncoder")
    if noise is not None and len(noise) != particles:
        raise ValueError(f"'noise' must have one draw for each of the {particles} particles, got {len(noise)}")
    prior = model.prior(q.layout)
    log_weights = []
    for k in range(particles):
        z = q.rsample(None if noise is None else noise[k])
        if k == 0 and model.edges is not None:
            _check_computed(model, model.edges(z, graphs.layout))
        log_weights.append(model.log_likelihood(graphs, z) + prior.log_prob(z) - q.log_prob(z))
    return torch.stack(log_weights).logsumexp(0) - math.log(particles)


def _check_computed(model: GraphVAE, edges: object) -> None:
    """Checks that neither a factor, with what it holds, nor a distribution says of itself that it is estimated."""
    parts = edges.modules() if isinstance(edges, nn.Module) else [edges]
    if any(getattr(part, "estimated", False) for part in parts):
        raise ValueError(
            f"'model' must compute log p(A|Z), its edge factor {type(model.edges).__name__} estimates it, and noise "
            "inside the logarithm breaks the bound; use the factor it wraps, model.edges.factor, which sums exactly"
        )
