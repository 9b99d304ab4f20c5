"""Lower bounds on log p(G), in nats, one per graph. Bounds go up; the one minus sign is in training."""

from __future__ import annotations

from torch import Tensor

from graphvae.model import Graphs, GraphVAE


def elbo(model: GraphVAE, graphs: Graphs, beta: float = 1.0, noise: Tensor | None = None) -> Tensor:
    r"""One-sample estimate of \(E_q[\log p(X, A | Z)] - \beta\, KL(q(Z | X, A) \| p(Z)) \le \log p(X, A)\).

    The expectation is a bound for `beta` >= 1; with a smaller one it is an objective, not a bound. Labelled
    convention. Invariant under relabelling if encoder and decoder are equivariant and the noise moves with the nodes.

    Args:
        model: With an encoder that has a density.
        graphs: A PyG graph, batch or list.
        beta: Weight of the KL divergence.
        noise: Standard normal, of the shape of the latents; drawn if None.

    Returns:
        `(B,)`.

    References:
        Kingma & Welling, 2013, arXiv:1312.6114; beta: Higgins et al., 2017.
    """
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    kl = q.kl(model.prior(q.layout))
    return model.log_likelihood(graphs, q.rsample(noise)) - beta * kl
