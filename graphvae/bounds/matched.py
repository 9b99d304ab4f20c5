"""GraphVAE's graph matching, read as what it is: a bound with one assignment of nodes to places, chosen given z."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.graphs import Graphs
from graphvae.matching import degree_similarity, max_pooling_matching, rounded
from graphvae.model import GraphVAE
from graphvae.placed import PlacedGraphs, edge_classes
from graphvae.validation import check_positive


def matching_bound(
    model: GraphVAE, graphs: Graphs, beta: float = 1.0, noise: Tensor | None = None, iterations: int = 75
) -> Tensor:
    r"""One-sample estimate of \(E_{q(z | G)} \log p(\hat\pi(z) G | z) - \beta\, KL(q(z | G) \| p(z))\).

    \(\hat\pi(z)\) puts the nodes of G where the graph decoded from z is most like it. Whatever it is, a good matching
    or a bad one, this bounds \(\log \sum_\pi p(\pi G)\), the sum over all assignments of nodes to places
    (`Convention.SUMMED`), from below for `beta` >= 1: it is `inner_bound` with one order, chosen anew for each z.
    Unlike there, the KL divergence may be in closed form, because nothing is inside an exponential.

    Differs from the paper in that log-probabilities are summed, not averaged apart for nodes, edges and types: the
    averages are no bound. Like there, the assignment is a constant for gradients.

    Args:
        model: With a `decoder` of whole graphs, such as `decoders.DenseGraph`.
        graphs: A PyG graph, batch or list.
        beta: As for `elbo`.
        noise: As for `elbo`.
        iterations: Of max-pooling matching.

    Returns:
        `(B,)`.

    Raises:
        ValueError: The model has no such decoder.

    References:
        Simonovsky & Komodakis, "GraphVAE", 2018, arXiv:1802.03480.
    """
    if model.decoder is None:
        raise ValueError("'model' must have a 'decoder' of whole graphs, such as DenseGraph, for nodes to be matched")
    check_positive(iterations=iterations)
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    z = q.rsample(noise)
    decoded = model.decoder(z)
    places = matched_places(decoded, graphs, iterations)
    return decoded.log_prob(graphs, places) - beta * q.kl(model.prior(q.layout), z)


@torch.no_grad()
def matched_places(decoded: PlacedGraphs, graphs: Batch, iterations: int = 75) -> Tensor:
    """The place of each node in the graph that was decoded, `(N,)`, by max-pooling matching and Hungarian rounding.

    Nodes without types are alike if their degrees are.
    """
    edges, existence = decoded.edge_probabilities(), decoded.existence.sigmoid()
    classes = edge_classes(graphs, typed=edges.size(1) > 1)
    types = torch.arange(1, edges.size(1) + 1, device=classes.device)
    adjacency = (classes[:, None] == types[:, None, None]).to(edges)
    alike = decoded.type_similarity(graphs)
    places = torch.arange(classes.size(1), device=classes.device)
    mask = places < graphs.layout.sizes[:, None]
    similarity = degree_similarity(adjacency, existence, edges) if alike is None else graphs.layout.dense(alike)[0]
    return rounded(max_pooling_matching(adjacency, similarity, existence, edges, mask, iterations), mask)[mask]
