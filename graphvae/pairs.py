r"""The sum over all pairs of nodes, in tiles: value and gradient in one pass, memory O(N·D).

The likelihood of an edge set under independent pairs is \(\sum_{E} s_{ij} - \sum_{pairs} \mathrm{softplus}(s_{ij})\),
and only its second sum runs over all pairs. Scores here are \(s_{ij} = l_i^\top r_j + b\). No tensor of more than
`TILE**2` scores exists at a time. Small graphs share tiles (padded to a common size from `_WIDTHS`, so that at most
5/9 of a tile is padding), large ones are cut into several: nothing loops over graphs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphvae.graphs import Layout, at_least_single

TILE = 512
_WIDTHS = sorted({2**k for k in range(1, 10)} | {3 * 2**k for k in range(8)})


@dataclass(frozen=True)
class Tile:
    """A stack of `b` blocks of pairs, each within one graph.

    Attributes:
        rows: `(b, m)` first node of the pairs; cols: `(b, k)` second node.
        keep: `(b, m, k)` which of the pairs count, or None for all.
        graphs: `(b,)` graph of each block.
    """

    rows: Tensor
    cols: Tensor
    keep: Tensor | None
    graphs: Tensor

    def scores(self, left: Tensor, right: Tensor, bias: Tensor) -> Tensor:
        """`(b, m, k)` scores of the pairs, those not kept included."""
        with torch.autocast(left.device.type, enabled=False):
            return left[self.rows] @ right[self.cols].mT + bias

    def masked(self, values: Tensor) -> Tensor:
        """`values` with zero at the pairs that do not count."""
        return values if self.keep is None else values.masked_fill(~self.keep, 0)


def tiles(layout: Layout, directed: bool) -> Iterator[Tile]:
    """Covers every pair of nodes within a graph exactly once: i < j, or i != j if `directed`."""
    sizes = np.array(layout.host_sizes)
    for graph in np.flatnonzero(sizes > TILE).tolist():
        yield from _blocks_of(layout, graph, layout.host_sizes[graph], directed)
    width_of = np.searchsorted(_WIDTHS, sizes)
    for width in np.unique(width_of[(sizes > 1) & (sizes <= TILE)]):
        graphs = torch.from_numpy(np.flatnonzero((width_of == width) & (sizes > 1))).to(layout.ptr.device)
        for chunk in graphs.split(max(1, TILE**2 // _WIDTHS[width] ** 2)):
            yield _padded(layout, chunk, _WIDTHS[width], directed)


def _blocks_of(layout: Layout, graph: int, size: int, directed: bool) -> Iterator[Tile]:
    nodes = layout.ptr[graph] + torch.arange(size, device=layout.ptr.device)
    blocks = nodes.split(TILE)
    owner = torch.tensor([graph], device=layout.ptr.device)
    for row, rows in enumerate(blocks):
        for column in range(0 if directed else row, len(blocks)):
            cols = blocks[column]
            keep = _order(rows, cols, directed)[None] if row == column else None
            yield Tile(rows[None], cols[None], keep, owner)


def _padded(layout: Layout, graphs: Tensor, width: int, directed: bool) -> Tile:
    place = torch.arange(width, device=graphs.device)
    sizes = layout.sizes[graphs, None]
    real = place < sizes
    nodes = layout.ptr[graphs, None] + torch.minimum(place, sizes - 1)
    keep = _order(place, place, directed) & real[:, :, None] & real[:, None, :]
    return Tile(nodes, nodes, keep, graphs)


def _order(rows: Tensor, cols: Tensor, directed: bool) -> Tensor:
    return rows[:, None] != cols if directed else rows[:, None] < cols


def softplus_sum(left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool = False) -> Tensor:
    r"""\(\sum_{i<j} \mathrm{softplus}(l_i^\top r_j + b)\) per graph, or over i != j if `directed`.

    Exact; differentiable once, in `left`, `right` and `bias`. Accumulates in float64; half precision is computed in
    float32.

    Args:
        left: `(N, D)`.
        right: `(N, D)`; for i < j the score must be symmetric, or relabelling changes the sum.
        bias: `()`, added to every score.
        layout: Of the nodes.
        directed: Sum over ordered pairs.

    Returns:
        `(B,)`, 0 for a graph of one node.
    """
    left, right, bias = at_least_single(left), at_least_single(right), at_least_single(bias)
    if not torch.is_grad_enabled():
        left, right, bias = left.detach(), right.detach(), bias.detach()
    with torch.autocast(left.device.type, enabled=False):
        return _SoftplusSum.apply(left, right, bias, layout, directed)


def softplus(scores: Tensor) -> Tensor:
    """log(1 + exp(s)), exact to float64; PyTorch's default drops the exponential from s = 20 on, an error of 2e-9."""
    return F.softplus(scores, threshold=40)


def sigmoid_sum(left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool = False) -> Tensor:
    """The expected number of edges per graph, `(B,)`: the sum of the sigmoids of all pairs, without gradient."""
    total = _accumulator(left, layout.num_graphs)
    with torch.no_grad():
        for tile in tiles(layout, directed):
            probabilities = tile.masked(tile.scores(left, right, bias).sigmoid())
            total.index_add_(0, tile.graphs, _block_sums(probabilities, total))
    return total.to(left.dtype)


def _accumulator(like: Tensor, *shape: int) -> Tensor:
    # Apple's GPU has no float64.
    return like.new_zeros(shape, dtype=torch.float32 if like.device.type == "mps" else torch.float64)


def _block_sums(values: Tensor, total: Tensor) -> Tensor:
    """`(b, m, k)` to `(b,)` in the type of `total`; rows first, so that only row sums are converted."""
    return values.sum(2).to(total.dtype).sum(1)


class _SoftplusSum(torch.autograd.Function):
    """Value and gradient of `softplus_sum` tile by tile, so that no tile is computed twice or kept."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool) -> Tensor:
        total = _accumulator(left, layout.num_graphs)
        needs_gradient = any(ctx.needs_input_grad[:3])
        grad_left, grad_right = torch.zeros_like(left), torch.zeros_like(right)
        grad_bias = torch.zeros_like(total)
        for tile in tiles(layout, directed):
            scores = tile.scores(left, right, bias)
            total.index_add_(0, tile.graphs, _block_sums(tile.masked(softplus(scores)), total))
            if needs_gradient:
                slope = tile.masked(scores.sigmoid_())
                grad_left.index_add_(0, tile.rows.flatten(), (slope @ right[tile.cols]).flatten(0, 1))
                grad_right.index_add_(0, tile.cols.flatten(), (slope.mT @ left[tile.rows]).flatten(0, 1))
                grad_bias.index_add_(0, tile.graphs, _block_sums(slope, total))
        ctx.layout = layout
        ctx.save_for_backward(grad_left, grad_right, grad_bias)
        return total.to(left.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        grad_left, grad_right, grad_bias = ctx.saved_tensors
        per_row = grad[ctx.layout.batch, None]
        bias = (grad.to(grad_bias.dtype) * grad_bias).sum().to(grad.dtype)
        return per_row * grad_left, per_row * grad_right, bias, None, None
