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

from graphvae.colours import refined
from graphvae.edges import DenseEdges
from graphvae.encoders import NormalEncoder
from graphvae.graphs import Graphs, as_batch, density
from graphvae.model import GraphVAE
from graphvae.orderings import Ordering
from graphvae.priors import EmpiricalSizes, StandardNormal
from graphvae.recipes.node_latents import with_structure
from graphvae.recipes.training_graphs import featured, places_for
from graphvae.validation import check_positive


def with_degrees(graphs: Graphs, largest: int) -> list[Data]:
    """The graphs with the degree of each node, one-hot, as its features: `node_latents.with_structure` without more."""
    return with_structure(graphs, largest)


def fixed_order_vae(
    train: Graphs, max_nodes: int | None = None, orderings: Ordering | None = None, hidden: int = 64, latent: int = 8
) -> GraphVAE:
    """An invariant encoder (GIN, mean over nodes), one normal latent, and an MLP to a logit for every pair of places.

    Args:
        train: With features, for the density of edges and the sizes.
        max_nodes: Places, as many as the largest graph has nodes if None.
        orderings: r(order | G), kept in the model.
        hidden: Width of the encoder; the decoder is four times as wide.
        latent: Dimension of the latent.

    Raises:
        TypeError, ValueError: Graphs without features, or with more nodes than places; numbers that are not positive.
    """
    check_positive(hidden=hidden, latent=latent)
    graphs, wide = featured(train), 4 * hidden
    network = nn.Sequential(nn.Linear(latent, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU())
    return GraphVAE(
        prior=StandardNormal(latent),
        encoder=NormalEncoder(graph_network(graphs, hidden), hidden, latent, pool=MeanAggregation()),
        edges=DenseEdges(places_for(graphs, max_nodes), wide, density(graphs), network),
        sizes=EmpiricalSizes(graphs.layout.host_sizes),
        orderings=orderings,
    )


def graph_network(graphs: Graphs, hidden: int, layers: int = 3) -> nn.Module:
    """A GIN from the features of the graphs to `hidden` columns."""
    check_positive(hidden=hidden, layers=layers)
    return GIN(featured(graphs).x.size(1), hidden, layers)


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
