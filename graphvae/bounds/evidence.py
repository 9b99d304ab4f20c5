"""The evidence lower bound, of a graph and of its hidden edges given the visible ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.graphs import Graphs
from graphvae.model import GraphVAE
from graphvae.pairs import softplus
from graphvae.validation import check_edges


def elbo(model: GraphVAE, graphs: Graphs, beta: float = 1.0, noise: Tensor | None = None) -> Tensor:
    r"""One-sample estimate of \(E_q[\log p(X, A | Z)] - \beta\, KL(q(Z | X, A) \| p(Z)) \le \log p(X, A)\).

    The expectation is a bound for `beta` >= 1; with a smaller one it is an objective, not a bound. Labelled
    convention. Invariant under relabelling if encoder and decoder are equivariant and the noise moves with the nodes.
    Where the KL divergence to the prior has no closed form it is estimated at the draw that is decoded, so that with
    `beta` = 1 the value is log p(X, A, z) - log q(z | X, A).

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
    z = q.rsample(noise)
    kl = q.kl(model.prior(q.layout), z)
    return model.log_likelihood(graphs, z) - beta * kl


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
    if model.edges is None or model.edge_types:
        raise ValueError("'model' must have an edge factor without types for a bound on hidden edges")
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
