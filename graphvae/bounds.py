"""Lower bounds on log p(G), in nats, one per graph. Bounds go up; the one minus sign is in training."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from graphvae.distributions import PointMass
from graphvae.model import Graphs, GraphVAE
from graphvae.pairs import softplus
from graphvae.validation import check_edges


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


def masked_elbo(model: GraphVAE, graphs: Graphs, hidden: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
    r"""One-sample estimate of \(E_{q(Z | X, A_v)}[\log p(A_h | Z)] \le \log p(A_h | X, A_v)\), hidden given visible.

    The bound is on the conditional model in which q itself, the encoder on the visible graph, is the prior of Z: there
    is no KL term. The likelihood runs over every pair that is not visible: of these just the hidden ones are joined.
    Labelled convention; the factors p(n), p(Z) and p(X | A, Z) take no part.

    Args:
        model: With an edge factor.
        graphs: The visible graph, batch or list; or a batch of `masking.MaskedGraphs`, which carries `hidden`.
        hidden: `(2, H)` hidden edges in batch numbering, both directions of an undirected one.
        noise: As in `elbo`.

    Returns:
        `(B,)`.

    Raises:
        ValueError: A hidden edge is visible, or joins two graphs, or is no simple edge; no edge factor.

    References:
        Kingma & Welling, 2013, arXiv:1312.6114, conditioned as in Sohn et al., 2015, with the prior as posterior.
    """
    if model.edges is None:
        raise ValueError("'model' must have an edge factor for a bound on hidden edges")
    graphs = model.batch(graphs)
    hidden = graphs.get("hidden") if hidden is None else _checked(hidden, graphs, model.edges.directed)
    if hidden is None:
        raise ValueError("'hidden' must be given, unless 'graphs' is a batch of masking.MaskedGraphs")
    edges, visible = model.edges(model.posterior(graphs).rsample(noise), graphs.layout), graphs.edge_index
    log_visible = edges.edge_sum(-softplus(-edges.logits(visible)), visible)
    return edges.log_prob(torch.cat([visible, hidden], 1)) - log_visible


def _checked(hidden: Tensor, graphs: Batch, directed: bool) -> Tensor:
    num_nodes, graph_of = graphs.layout.num_rows, graphs.layout.batch
    try:
        hidden = check_edges(hidden, num_nodes, directed).to(graph_of.device)
    except (TypeError, ValueError) as error:
        raise type(error)(f"'hidden': {error}") from None
    if bool((graph_of[hidden[0]] != graph_of[hidden[1]]).any()):
        raise ValueError("'hidden' must join nodes of one graph, an edge joins two graphs of the batch")
    numbers = [edge_index[0] * num_nodes + edge_index[1] for edge_index in (hidden, graphs.edge_index)]
    shared = int(torch.isin(*numbers).sum())
    if shared:
        raise ValueError(f"'hidden' must not be visible, {shared} of its {hidden.size(1)} columns are in 'graphs'")
    return hidden
