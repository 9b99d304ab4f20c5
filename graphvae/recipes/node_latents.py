"""The graph VAE of latents of nodes as a generator of small graphs.

n ~ p(n), Z ~ p(Z) with a row for each node, every pair joined independently given Z (a network on rows, then inner
products or a network on pairs), node types from a GNN on (Z, A); q(Z | X, A) from a GNN. Encoder, decoders and priors
move with the nodes, so the probability of a graph does not depend on their order, and no matching is needed.

What it cannot do: edges are independent given Z, so nothing makes a sample connected, planar or free of cycles as a
whole; such a property must be in Z to the last edge. And with independent rows of Z all graphs of a size come from one
exchangeable latent-position model: they differ by chance, not in kind. `hierarchy` has priors without that limit.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GIN

from graphvae.edges import IndefiniteInnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.features import CategoricalFeatures
from graphvae.graphs import Graphs, as_batch, as_list, density
from graphvae.model import EdgeFactor, FeatureFactor, GraphVAE
from graphvae.priors import EmpiricalSizes, StandardNormal
from graphvae.recipes.training_graphs import featured
from graphvae.validation import check_not_negative, check_positive


def with_structure(graphs: Graphs, largest: int, steps: int = 0, eigenvectors: int = 0) -> list[Data]:
    """The graphs with what their edges say of each node as its features, the input of an encoder.

    Degrees, one-hot up to `largest` (larger ones as that); the probabilities that a random walk of 2, ..., `steps` + 1
    steps is back at its start; and the first eigenvectors of the normalised Laplacian after that of eigenvalue 0. The
    first two are the same in every order of the nodes; eigenvectors are but for ties, among eigenvalues or between the
    two signs, of which the one with the larger sum of cubes is taken. A bound holds for any encoder, and so with them.

    Args:
        graphs: Undirected; `x` is not looked at but replaced, all else, such as `edge_type` and `y`, is kept.
        largest: Degree.
        steps: How many probabilities.
        eigenvectors: How many; zeros where a graph has fewer. Their mean square is 1.

    Raises:
        TypeError, ValueError: As `as_batch`; or a number is negative.
    """
    check_not_negative(largest=largest, steps=steps, eigenvectors=eigenvectors)
    found = [_without_x(graph) for graph in as_list(graphs)]
    batch = as_batch(found)
    layout, degree = batch.layout, torch.bincount(batch.edge_index[0], minlength=batch.layout.num_rows)
    parts = [nn.functional.one_hot(degree.clamp(max=largest), largest + 1).to(torch.get_default_dtype())]
    if steps or eigenvectors:
        adjacency = _dense_adjacency(batch)
        more = [_return_probabilities(adjacency, steps), _eigenvectors(adjacency, layout.sizes, eigenvectors)]
        parts.append(torch.cat(more, 2)[layout.batch, layout.places])
    for graph, x in zip(found, torch.cat(parts, 1).split(layout.host_sizes), strict=True):
        graph.x = x
    return found


def node_latent_vae(
    train: Graphs,
    prior: nn.Module | None = None,
    edges: EdgeFactor | None = None,
    features: FeatureFactor | None = None,
    hidden: int = 64,
    latent: int = 8,
    layers: int = 4,
) -> GraphVAE:
    """A GIN to a normal latent of each node, and a network on rows to an indefinite inner product.

    Args:
        train: With features, for the density of edges and the sizes.
        prior: p(Z) of `latent` dimensions, such as `hierarchy.GraphLevelPrior`; `StandardNormal` if None.
        edges: p(A | Z), such as `HadamardMLP(hidden, hidden, density(train), row_network(latent, hidden))`.
        features: p(X | A, Z), such as `node_types`, where x is part of the data; None where it is an input alone.
        hidden: Width.
        latent: Dimension of the latents.
        layers: Of the GIN.

    Raises:
        TypeError, ValueError: Graphs without features, numbers that are not positive, or a prior of other dimensions.
    """
    check_positive(hidden=hidden, latent=latent, layers=layers)
    graphs = featured(train)
    return GraphVAE(
        prior=StandardNormal(latent) if prior is None else prior,
        encoder=NormalEncoder(GIN(graphs.x.size(1), hidden, layers, norm="batch_norm"), hidden, latent),
        edges=IndefiniteInnerProduct(hidden, density(graphs), row_network(latent, hidden)) if edges is None else edges,
        features=features,
        # One pseudo-graph of each size would be a third of all, where 128 graphs have 64 nodes each.
        sizes=EmpiricalSizes(graphs.layout.host_sizes, smoothing=0.01),
    )


def row_network(latent: int, hidden: int) -> nn.Sequential:
    """From the latent of each node to `hidden` columns, for a decoder of edges."""
    return nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), _last(hidden))


def node_types(latent: int, hidden: int, types: int) -> CategoricalFeatures:
    """One of `types` classes for each node, from a GNN that sees latents and edges."""
    return CategoricalFeatures(GIN(latent, hidden, 2), hidden, types)


def _last(hidden: int) -> nn.Linear:
    """Small at first, so that the odds of edges begin near those of the density."""
    layer = nn.Linear(hidden, hidden)
    with torch.no_grad():
        layer.weight.mul_(0.3)
    return layer


def _without_x(graph: Data) -> Data:
    bare = copy.copy(graph)
    if isinstance(graph, Data):  # What is not is told by `as_batch`.
        bare.num_nodes, bare.x = graph.num_nodes, None
    return bare


def _dense_adjacency(graphs: Batch) -> Tensor:
    """`(B, n, n)`, padded with zeros."""
    layout, (source, target) = graphs.layout, graphs.edge_index
    n = max(layout.host_sizes)
    adjacency = torch.zeros(layout.num_graphs, n, n, device=source.device)
    adjacency[layout.batch[source], layout.places[source], layout.places[target]] = 1
    return adjacency


def _return_probabilities(adjacency: Tensor, steps: int) -> Tensor:
    """`(B, n, steps)`."""
    walk = adjacency / adjacency.sum(2, keepdim=True).clamp(min=1)
    power, found = walk, [adjacency.new_empty(*adjacency.shape[:2], 0)]
    for _ in range(steps):
        power = power @ walk
        found.append(power.diagonal(dim1=1, dim2=2)[:, :, None])
    return torch.cat(found, 2)


def _eigenvectors(adjacency: Tensor, sizes: Tensor, number: int) -> Tensor:
    """`(B, n, number)`, zero at padding."""
    if number == 0:
        return adjacency.new_empty(*adjacency.shape[:2], 0)
    scale = adjacency.sum(2).clamp(min=1).rsqrt()
    n = adjacency.size(1)
    real = torch.arange(n, device=sizes.device) < sizes[:, None]
    # Eigenvalues of padding are beyond those of any graph, which are at most 2.
    laplacian = torch.diag_embed(torch.where(real, 1.0, 4.0)) - scale[:, :, None] * adjacency * scale[:, None]
    vectors = torch.linalg.eigh(laplacian.double()).eigenvectors[:, :, 1 : number + 1].to(adjacency.dtype)
    vectors = nn.functional.pad(vectors, (0, number - vectors.size(2))) * real[:, :, None]
    sign = torch.where(vectors.pow(3).sum(1, keepdim=True) < 0, -1, 1)
    return vectors * sign * sizes[:, None, None].sqrt()
