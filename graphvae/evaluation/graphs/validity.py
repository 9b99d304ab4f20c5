"""Which graphs are of the kind a data set has. Each function takes graphs and returns `(B,)` bool, a predicate.

For stochastic block models there is none here: the published one needs graph-tool and is random, and its substitutes
disagree with it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import networkx as nx
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.graphs import Graphs, Selector, as_batch, batch_of, layout_of_edges, without_features
from graphvae.isomorphism import isomorphism_classes
from graphvae.layout import Layout
from graphvae.structure import lowest_connected

Predicate = Callable[[Graphs], Tensor]


def any_graph(graphs: Graphs) -> Tensor:
    """All of them: for data sets of which nothing is known."""
    batch = as_batch(graphs)
    return torch.ones(batch.layout.num_graphs, dtype=torch.bool, device=batch.edge_index.device)


def connected(graphs: Graphs) -> Tensor:
    """Graphs with one component."""
    batch = as_batch(graphs)
    lowest = lowest_connected(batch.edge_index, batch.layout.num_rows)
    return ~_any_node(lowest != batch.layout.first_rows, batch.layout)


def planar(graphs: Graphs) -> Tensor:
    """Connected graphs that can be drawn without crossings, the rule of the planar data set.

    References:
        Martinkus et al., "SPECTRE: Spectral conditioning helps to overcome the expressivity limits of one-shot graph
        generators", 2022, arXiv:2204.01613; networkx's test is that of Boyer & Myrvold / Brandes (left-right).
    """
    batch = as_batch(graphs)
    nodes, edges = batch.layout.sizes, _num_edges(batch)
    # Euler: no planar graph has more.
    found = connected(batch) & ((edges <= 3 * nodes - 6) | (nodes < 3))
    chosen = found.nonzero()[:, 0]
    if chosen.numel():
        few = Selector(without_features(batch))(chosen)
        pieces = few.edge_index.T.cpu().split(layout_of_edges(few).host_sizes)
        plane = [nx.check_planarity(nx.Graph(piece.tolist()))[0] for piece in pieces]
        found[chosen] = torch.tensor(plane, device=found.device)
    return found


def tree(graphs: Graphs) -> Tensor:
    """Connected graphs of n - 1 edges."""
    batch = as_batch(graphs)
    return connected(batch) & (_num_edges(batch) == batch.layout.sizes - 1)


def lobster(graphs: Graphs) -> Tensor:
    """Trees that are a path, or nothing, once their leaves are taken away, twice.

    References:
        Liao et al., 2019, arXiv:1910.00760.
    """
    batch = as_batch(graphs)
    kept = torch.ones(batch.layout.num_rows, dtype=torch.bool, device=batch.edge_index.device)
    for _ in range(2):
        kept &= _degrees_among(kept, batch) != 1
    return tree(batch) & ~_any_node(kept & (_degrees_among(kept, batch) > 2), batch.layout)


def grid(graphs: Graphs) -> Tensor:
    """Rectangular grids of at least 2 x 2 nodes."""
    batch = without_features(as_batch(graphs))
    nodes, edges = batch.layout.sizes.tolist(), _num_edges(batch).tolist()
    sides = [_sides(n, m) for n, m in zip(nodes, edges, strict=True)]
    found = torch.tensor([side is not None for side in sides])
    chosen = found.nonzero()[:, 0]
    if chosen.numel():
        candidates = Selector(batch)(chosen)
        wanted = _grids([side for side in sides if side is not None]).to(batch.edge_index.device)
        own, other = isomorphism_classes(candidates, wanted)
        found[chosen] = own == other
    return found.to(batch.edge_index.device)


def _sides(nodes: int, edges: int) -> tuple[int, int] | None:
    """Sides a and b, for ab nodes and 2ab - a - b edges, if there are any."""
    total = 2 * nodes - edges
    square = total**2 - 4 * nodes
    if square < 0 or isqrt(square) ** 2 != square or (total - isqrt(square)) % 2:
        return None
    low = (total - isqrt(square)) // 2
    return (low, total - low) if low >= 2 and low * (total - low) == nodes else None


def _grids(sides: list[tuple[int, int]]) -> Batch:
    layout = Layout.of([a * b for a, b in sides])
    columns = torch.tensor([b for _, b in sides]).repeat_interleave(layout.sizes)
    rows = torch.arange(layout.num_rows)
    right = rows[(layout.places + 1) % columns != 0]
    below = rows[layout.places + columns < layout.sizes[layout.batch]]
    once = torch.stack([torch.cat([right, below]), torch.cat([right + 1, below + columns[below]])])
    return batch_of(None, torch.cat([once, once.flip(0)], 1), layout)


def _num_edges(batch: Batch) -> Tensor:
    """`(B,)` edges, each counted once."""
    return layout_of_edges(batch).sizes // 2


def _any_node(marked: Tensor, layout: Layout) -> Tensor:
    return layout.sum(marked.double()) > 0


def _degrees_among(kept: Tensor, batch: Batch) -> Tensor:
    source, target = batch.edge_index
    return torch.zeros_like(kept, dtype=torch.long).index_add_(0, source, (kept[source] & kept[target]).long())
