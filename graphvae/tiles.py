"""All pairs of nodes of a batch of graphs, in tiles of at most `TILE**2` pairs, without a loop over small graphs.

Small graphs share tiles, padded to a common size from a ladder of widths, so that at most 5/9 of a tile is padding;
large ones are cut into several tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphvae.graphs import Layout

TILE = 512
_WIDTHS = sorted({2**k for k in range(1, 10)} | {3 * 2**k for k in range(8)})


@dataclass(frozen=True)
class Tile:
    """A stack of `b` blocks of pairs, each within one graph.

    Attributes:
        rows: `(b, m)` first node of the pairs; cols: `(b, k)` second node.
        penalties: Broadcast to `(b, m, k)`; 0 where a pair counts, minus infinity in one of them where it does not. To
            add them is many times faster than to fill by a mask.
        graphs: `(b,)` graph of each block.
    """

    rows: Tensor
    cols: Tensor
    penalties: tuple[Tensor, ...]
    graphs: Tensor

    def scores(self, left: Tensor, right: Tensor, bias: Tensor) -> Tensor:
        """`(b, m, k)` scores of the pairs, minus infinity at those that do not count."""
        with torch.autocast(left.device.type, enabled=False):
            return self.penalised(left[self.rows] @ right[self.cols].mT + bias)

    def penalised(self, scores: Tensor) -> Tensor:
        """`scores` `(b, m, k)`, changed to minus infinity at the pairs that do not count."""
        for penalty in self.penalties:
            scores.add_(penalty)
        return scores


def tiles(layout: Layout, directed: bool) -> Iterator[Tile]:
    """Covers every pair of nodes within a graph exactly once: i < j, or i != j if `directed`."""
    for graph in large_graphs(layout):
        yield from _blocks(layout, graph, directed)
    yield from stacks(layout, directed)


def large_graphs(layout: Layout) -> list[int]:
    """The graphs that do not fit into one tile."""
    return np.flatnonzero(np.array(layout.host_sizes) > TILE).tolist()


def _blocks(layout: Layout, graph: int, directed: bool) -> Iterator[Tile]:
    device = layout.ptr.device
    blocks = (layout.ptr[graph] + torch.arange(layout.host_sizes[graph], device=device)).split(TILE)
    owner = torch.tensor([graph], device=device)
    for row, rows in enumerate(blocks):
        for column in range(0 if directed else row, len(blocks)):
            penalties = (order_penalty(len(rows), directed, device),) if row == column else ()
            yield Tile(rows[None], blocks[column][None], penalties, owner)


def stacks(layout: Layout, directed: bool) -> Iterator[Tile]:
    """The tiles of the graphs that fit into one; every node of theirs is in exactly one tile."""
    sizes = np.array(layout.host_sizes)
    small = (sizes > 1) & (sizes <= TILE)
    width_of = np.searchsorted(_WIDTHS, sizes)
    for width in np.unique(width_of[small]):
        graphs = np.flatnonzero(small & (width_of == width))
        padded = bool((sizes[graphs] < _WIDTHS[width]).any())
        chunks = torch.from_numpy(graphs).to(layout.ptr.device).split(max(1, TILE**2 // _WIDTHS[width] ** 2))
        for chunk in chunks:
            yield _stack(layout, chunk, _WIDTHS[width], directed, padded)


def _stack(layout: Layout, graphs: Tensor, width: int, directed: bool, padded: bool) -> Tile:
    penalties: tuple[Tensor, ...] = (order_penalty(width, directed, graphs.device),)
    place = torch.arange(width, device=graphs.device)
    if not padded:
        nodes = layout.ptr[graphs, None] + place
        return Tile(nodes, nodes, penalties, graphs)
    sizes = layout.sizes[graphs, None]
    nodes = layout.ptr[graphs, None] + torch.minimum(place, sizes - 1)
    beyond = torch.zeros(nodes.shape, device=graphs.device).masked_fill_(place >= sizes, -torch.inf)
    # Where i < j, a padded row has no column left.
    penalties += (beyond[:, None, :], beyond[:, :, None]) if directed else (beyond[:, None, :],)
    return Tile(nodes, nodes, penalties, graphs)


def order_penalty(size: int, directed: bool, device: torch.device) -> Tensor:
    """`(size, size)`: 0 at the pairs i != j if `directed`, at i < j if not, minus infinity elsewhere."""
    if directed:
        return torch.zeros(size, size, device=device).fill_diagonal_(-torch.inf)
    return torch.full((size, size), -torch.inf, device=device).tril()
