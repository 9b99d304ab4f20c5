"""GraphVAE as published: a graph to one latent, and back to a probabilistic graph on numbered places by matching.

Simonovsky & Komodakis (2018, arXiv:1802.03480). Two edge-conditioned convolutions of 32 and 64 columns with batch
normalisation, gated pooling to 128, a normal latent; a network of 128, 256 and 512 columns to existence, edges and
nodes. Trained by `bounds.matching_bound`, which sums what the paper averages.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch_geometric.nn import GraphConv, RGCNConv

from graphvae.backbones import GatedSum, Stack
from graphvae.decoders import DenseGraph
from graphvae.encoders import NormalEncoder
from graphvae.graphs import Graphs, density, field
from graphvae.model import GraphVAE
from graphvae.priors import StandardNormal
from graphvae.recipes.training_graphs import featured, places_for
from graphvae.validation import check_positive

_POOLED = 128


def places_vae(
    train: Graphs,
    latent: int = 40,
    prior: nn.Module | None = None,
    node_types: bool = False,
    max_nodes: int | None = None,
) -> GraphVAE:
    """The model of the paper, untrained.

    Edges have types if those of `train` have.

    Args:
        train: With features, for their number, the sizes, the density and the types of edges.
        latent: Dimension of the latent.
        prior: p(z), standard normal if None.
        node_types: Whether x is one-hot types of nodes, which are then part of the graph; else only the encoder sees x.
        max_nodes: Places, as many as the largest graph has nodes if None.

    Raises:
        TypeError, ValueError: Graphs without features, or with more nodes than places; numbers that are not positive.
    """
    check_positive(latent=latent)
    graphs = featured(train)
    types = field(graphs, "edge_type")
    edge_types = 0 if types is None else max(2, int(types.max()) + 1)
    columns = graphs.x.size(1)
    network = _layers(latent, 128, 256, 512)
    return GraphVAE(
        prior=StandardNormal(latent) if prior is None else prior,
        encoder=NormalEncoder(_encoder(columns, edge_types), _POOLED, latent, pool=GatedSum(64, _POOLED)),
        decoder=DenseGraph(
            places_for(graphs, max_nodes),
            512,
            density(graphs),
            node_types=columns if node_types else 0,
            edge_types=edge_types,
            network=network,
        ),
    )


def _encoder(columns: int, edge_types: int) -> Stack:
    # With one-hot types the network of an edge-conditioned convolution is a matrix for each type.
    def convolution(inputs: int, outputs: int) -> nn.Module:
        return RGCNConv(inputs, outputs, edge_types) if edge_types else GraphConv(inputs, outputs, aggr="mean")

    first, second = convolution(columns, 32), convolution(32, 64)
    return Stack(first, nn.BatchNorm1d(32), nn.ReLU(), second, nn.BatchNorm1d(64), nn.ReLU())


def _layers(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)
