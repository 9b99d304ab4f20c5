"""The fixed-order graph VAE on small graphs, trained over node orderings.

Simonovsky & Komodakis (2018, arXiv:1802.03480) decode a latent of the graph to a graph on numbered places, and match it
with the graph it should be. Here the numbering is marginalised instead, by `bounds.permutation_bound`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GIN
from torch_geometric.nn.aggr import MeanAggregation
from torch_geometric.transforms import OneHotDegree

from graphvae.colours import refined
from graphvae.edges import DenseEdges
from graphvae.encoders import NormalEncoder
from graphvae.graphs import as_batch, density
from graphvae.model import GraphVAE
from graphvae.orderings import Ordering
from graphvae.priors import EmpiricalSizes, StandardNormal


def with_degrees(graphs: Sequence[Data], largest: int) -> list[Data]:
    """The graphs with the degree of each node, one-hot up to `largest`, as its features: all a bare graph has."""
    transform = OneHotDegree(largest)
    return [transform(Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes)) for graph in graphs]


def fixed_order_vae(
    train: Sequence[Data], max_nodes: int, orderings: Ordering | None = None, hidden: int = 64, latent: int = 8
) -> GraphVAE:
    """An invariant encoder (GIN, mean over nodes), one normal latent, and an MLP to a logit for every pair of places.

    Args:
        train: With features, for the density of edges and the sizes.
        max_nodes: Places.
        orderings: r(order | G), kept in the model.
        hidden: Width of the encoder; the decoder is four times as wide.
        latent: Dimension of the latent.
    """
    wide = 4 * hidden
    network = nn.Sequential(nn.Linear(latent, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU())
    return GraphVAE(
        prior=StandardNormal(latent),
        encoder=NormalEncoder(graph_network(train, hidden), hidden, latent, pool=MeanAggregation()),
        edges=DenseEdges(max_nodes, wide, density(train), network),
        sizes=EmpiricalSizes([int(graph.num_nodes or 0) for graph in train]),
        orderings=orderings,
    )


def graph_network(graphs: Sequence[Data], hidden: int, layers: int = 3) -> nn.Module:
    """A GIN from the features of the graphs to `hidden` columns."""
    return GIN(graphs[0].num_features, hidden, layers)


def split(graphs: Sequence[Data], held_out: int, seed: int) -> tuple[list[Data], list[Data]]:
    """The graphs in two parts, of which the second has at least `held_out`; isomorphic graphs stay together.

    So that the second part tells how a model does on graphs it has not seen under another numbering. Graphs that colour
    refinement cannot tell apart, isomorphic ones among them, are kept together.
    """
    batch = as_batch(graphs)
    kinds: dict[tuple[int, ...], list[Data]] = {}
    for graph, colours in zip(graphs, refined(batch).split(batch.layout.host_sizes), strict=True):
        kinds.setdefault(tuple(colours.sort().values.tolist()), []).append(graph)
    groups = list(kinds.values())
    first: list[Data] = []
    second: list[Data] = []
    for number in torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed)).tolist():
        (second if len(second) < held_out else first).extend(groups[number])
    return first, second
