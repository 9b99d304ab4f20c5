"""Objectives of link prediction. None is a bound."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.distributions import PointMass
from graphvae.edge_distributions import BernoulliEdges
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import Graphs
from graphvae.model import GraphVAE
from graphvae.pairs import softplus


def kipf_welling(model: GraphVAE, graphs: Graphs, noise: Tensor | None = None) -> Tensor:
    r"""The published objective of the (variational) graph autoencoder. Not a bound on any likelihood.

    Over all N² ordered pairs, the diagonal included with label 1, the mean of the log-likelihood in which present
    edges weigh (N² - S)/S for S = 2|E|, times N²/(2(N² - S)), less the KL over N². Present edges count hundreds of
    times, so probabilities are far too high (a density of one half); ranking is unaffected. A `PointEncoder` (the
    plain autoencoder) has no KL term. A graph without edges is weighed as one with a single edge.

    Args:
        model: With an undirected edge factor; its feature factor is not used.
        graphs: A PyG graph, batch or list.
        noise: As in `bounds.elbo`.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The edge factor has no scores for self loops.
        ValueError: It is directed, or there is none.

    References:
        Kipf & Welling, 2016, arXiv:1611.07308, and the authors' code, in which the weights are.
    """
    if model.edges is None or model.edges.directed or model.edge_types:
        raise ValueError("'model' must have an undirected edge factor without types for the Kipf-Welling objective")
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    z = q.rsample(noise)
    edges = model.edges(z, graphs.layout)
    if isinstance(edges, FixedOrderEdges):
        raise TypeError(
            "'model' must score self loops for the Kipf-Welling objective, DenseEdges has no places for them"
        )
    log_likelihood = _weighted_edges(edges, graphs.edge_index)
    if isinstance(q, PointMass):
        return log_likelihood
    return log_likelihood - q.kl(model.prior(q.layout), z) / graphs.layout.sizes**2


def _weighted_edges(edges: BernoulliEdges, edge_index: Tensor) -> Tensor:
    logits = edges.logits(edge_index)
    pairs = edges.layout.sizes**2
    present = (2 * edges.edge_sum(torch.ones_like(logits), edge_index)).clamp(min=2)
    absent = (pairs - present).clamp(min=1)
    nodes = torch.arange(edges.layout.num_rows, device=edge_index.device)
    loops = edges.logits(nodes.expand(2, -1))
    positive = 2 * edges.edge_sum(softplus(-logits), edge_index) + edges.layout.sum(softplus(-loops))
    negative = 2 * edges.log_normalizer() - 2 * edges.edge_sum(softplus(logits), edge_index)
    return -(absent / present * positive + negative) / (2 * absent)


def masked_edges(model: GraphVAE, graphs: Batch, noise: Tensor | None = None) -> Tensor:
    r"""Each edge predicted from the graph without it, non-edges too, at their true numbers. Not a bound. `(1,)`.

    \(\frac{\lvert E\rvert}{m} \sum_{targets} \log\sigma(s_{ij})
    + \frac{\lvert\bar E\rvert}{M} \sum_{drawn} \log\sigma(-s_{ij})\), scores s
    from one draw of Z given the message graph. Unbiased, over draws of batches, for the sum over all edges and all
    non-edges of the expected log-probability of each, where Z is encoded from the (sampled) graph without m edges
    drawn uniformly, an edge itself always among them. That is a sum of predictions of one pair each, as in a
    pseudo-likelihood, not the log-probability of one graph, hence no bound. Present edges are not weighed up, so that
    probabilities can be calibrated. Only the edge factor is trained, and the encoder.

    Args:
        model: With an edge factor.
        graphs: A batch of `masking.LinkBatches`, directed if and only if the edge factor is.
        noise: As in `bounds.elbo`.
    """
    if model.edges is None or "targets" not in graphs:
        raise ValueError("'model' must have an edge factor and 'graphs' be a batch of masking.LinkBatches")
    if model.edges.directed != graphs.directed:
        raise ValueError(f"'graphs' must come from LinkBatches(..., directed={model.edges.directed}) for this model")
    graphs = model.batch(graphs)
    edges = model.edges(model.posterior(graphs).rsample(noise), graphs.layout)
    targets, non_edges = graphs.targets, graphs.non_edges
    present = softplus(-edges.logits(targets)).sum() * (graphs.total_edges / targets.size(1))
    absent = softplus(edges.logits(non_edges)).sum() * (graphs.total_non_edges / non_edges.size(1))
    return -(present + absent)[None]
