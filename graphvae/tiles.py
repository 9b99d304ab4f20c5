"""All pairs of nodes of a batch of graphs, in tiles of at most `TILE**2` pairs, without a loop over small graphs.

Small graphs share tiles. If one tile holds them all, padded to the largest, there is one; else they are padded to a
common size from a ladder of widths, so that at most 5/9 of a tile is padding. Large ones are cut into several tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from graphvae.layout import Layout

TILE = 512
_Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
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
        return _penalised(scores, self.penalties)


def _penalised(scores: Tensor, penalties: tuple[Tensor, ...]) -> Tensor:
    for penalty in penalties:
        scores.add_(penalty)
    return scores


def tiles(layout: Layout, directed: bool) -> Iterator[Tile]:
    """Covers every pair of nodes within a graph exactly once: i < j, or i != j if `directed`."""
    for graph in large_graphs(layout):
        yield from _blocks(layout, graph, directed)
    for padded in padded_graphs(layout, directed):
        yield padded.tile(layout)


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


@dataclass(frozen=True)
class Padded:
    """Small graphs padded to one width, to be one tile.

    Attributes:
        width: Nodes of a padded graph.
        graphs: `(b,)` which graphs.
        nodes: `(R,)` their nodes; slots: `(R,)` the place of each among all `b * width`.
        penalties: As in `Tile`.
    """

    width: int
    graphs: Tensor
    nodes: Tensor
    slots: Tensor
    penalties: tuple[Tensor, ...]

    def pad(self, rows: Tensor) -> Tensor:
        """`(N, D)` rows of nodes to `(b, width, D)`, zero where there is no node."""
        padded = rows.new_zeros(self.graphs.numel() * self.width, rows.size(1))
        padded.index_copy_(0, self.slots, rows.index_select(0, self.nodes))
        return padded.view(-1, self.width, rows.size(1))

    def penalised(self, scores: Tensor) -> Tensor:
        """As `Tile.penalised`."""
        return _penalised(scores, self.penalties)

    def tile(self, layout: Layout) -> Tile:
        """The same pairs by the numbers of their nodes; a padded place has those of the graph's last node."""
        place = torch.arange(self.width, device=self.graphs.device)
        nodes = layout.ptr[self.graphs, None] + torch.minimum(place, layout.sizes[self.graphs, None] - 1)
        return Tile(nodes, nodes, self.penalties, self.graphs)


def padded_graphs(layout: Layout, directed: bool) -> Iterator[Padded]:
    """Covers the graphs that fit into a tile; every node of theirs is in exactly one of them."""
    sizes = np.array(layout.host_sizes)
    small = (sizes > 1) & (sizes <= TILE)
    largest = int(sizes[small].max(initial=2))
    # Less arithmetic is not worth more calls where there is little of it.
    widths = [largest] if small.sum() * largest**2 <= TILE**2 else _WIDTHS
    width_of = np.searchsorted(widths, sizes)
    starts = sizes.cumsum() - sizes
    for place in np.unique(width_of[small]).tolist():
        graphs, width = np.flatnonzero(small & (width_of == place)), widths[place]
        for first in range(0, graphs.size, room := max(1, TILE**2 // width**2)):
            chunk = graphs[first : first + room]
            yield _padded(chunk, starts[chunk], sizes[chunk], width, directed, layout.ptr.device)


def _padded(
    graphs: _Integers, starts: _Integers, sizes: _Integers, width: int, directed: bool, device: torch.device
) -> Padded:
    # Reckoned on the host, whose calls cost a fraction of torch's for a few thousand numbers.
    ends = sizes.cumsum()
    within = np.arange(ends[-1]) - (ends - sizes).repeat(sizes)
    nodes, slots = within + starts.repeat(sizes), within + (width * np.arange(graphs.size)).repeat(sizes)
    penalties: tuple[Tensor, ...] = (order_penalty(width, directed, device),)
    if (sizes < width).any():
        beyond = np.where(np.arange(width) < sizes[:, None], 0, -np.inf).astype(np.float32)
        padding = torch.from_numpy(beyond).to(device)
        # Where i < j, a padded row has no column left.
        penalties += (padding[:, None, :], padding[:, :, None]) if directed else (padding[:, None, :],)
    graphs_, nodes_, slots_ = (torch.from_numpy(numbers).to(device) for numbers in (graphs, nodes, slots))
    return Padded(width, graphs_, nodes_, slots_, penalties)


@lru_cache(maxsize=4)
def order_penalty(size: int, directed: bool, device: torch.device) -> Tensor:
    """`(size, size)` float32: 0 at i != j if `directed`, at i < j if not, minus infinity elsewhere; shared."""
    with torch.inference_mode(False):
        if directed:
            return torch.zeros(size, size, device=device, dtype=torch.float32).fill_diagonal_(-torch.inf)
        return torch.full((size, size), -torch.inf, device=device, dtype=torch.float32).tril_()
