r"""The sum over all pairs of nodes: value and gradient in one pass over tiles, memory O(N·D).

The likelihood of an edge set under independent pairs is \(\sum_{E} s_{ij} - \sum_{pairs} \mathrm{softplus}(s_{ij})\),
and only its second sum runs over all pairs. Scores here are \(s_{ij} = l_i^\top r_j + b\): inner products, indefinite,
bilinear and degree-corrected ones differ in what l and r are. On a CPU no tensor of more than `TILE**2` scores exists.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import repeat
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graphvae.layout import Layout
from graphvae.softplus_tile import LOG2_E, SoftplusTile, softplus
from graphvae.sparse import at_least_single
from graphvae.tiles import TILE, large_graphs, order_penalty, padded_graphs, tiles

_DEVICE_TILE = 2048
__all__ = ["sigmoid_sum", "softplus", "softplus_sum"]


def softplus_sum(left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool = False) -> Tensor:
    r"""\(\sum_{i<j} \mathrm{softplus}(l_i^\top r_j + b)\) per graph, or over i != j if `directed`.

    Exact; differentiable once, in `left`, `right` and `bias`. Tiles are summed in float64; half precision is computed
    in float32. Beside value and gradients, the memory is one copy of `left` and `right` and a few tiles.

    Args:
        left: `(N, D)`.
        right: `(N, D)`; for i < j the score must be symmetric, or relabelling changes the sum.
        bias: `()`, added to every score.
        layout: Of the nodes.
        directed: Sum over ordered pairs.

    Returns:
        `(B,)`, 0 for a graph of one node.
    """
    left, right = at_least_single(left), at_least_single(right)
    kind = torch.promote_types(left.dtype, right.dtype)
    left, right, bias = left.to(kind), right.to(kind), bias.to(kind)
    if not torch.is_grad_enabled():
        left, right, bias = left.detach(), right.detach(), bias.detach()
    with torch.autocast(left.device.type, enabled=False):
        return _SoftplusSum.apply(left, right, bias, layout, directed)


def sigmoid_sum(left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool = False) -> Tensor:
    """The expected number of edges per graph, `(B,)`: the sum of the sigmoids of all pairs, without gradient."""
    total = _accumulator(left, layout.num_graphs)
    with torch.no_grad():
        for tile in tiles(layout, directed):
            rows = tile.scores(left, right, bias).sigmoid_().sum(2)
            total.index_add_(0, tile.graphs, rows.to(total.dtype).sum(1))
    return total.to(left.dtype)


def _accumulator(like: Tensor, *shape: int) -> Tensor:
    # Apple's GPU has no float64.
    return like.new_zeros(shape, dtype=torch.float32 if like.device.type == "mps" else torch.float64)


class _SoftplusSum(torch.autograd.Function):
    """The gradient is linear in the upstream value of its graph, so that the forward pass can compute it."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool) -> Tensor:
        value = _accumulator(left, layout.num_graphs)
        wanted = ctx.needs_input_grad
        slopes = _Slopes.zeros(left, right, value if wanted[2] else None) if any(wanted[:3]) else None
        _add_large(value, slopes, left, right, bias, layout, directed)
        _add_padded(value, slopes, left, right, bias, layout, directed)
        ctx.layout = layout
        if slopes is not None:
            ctx.save_for_backward(slopes.left, slopes.right, slopes.bias)
        return value.to(left.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        left, right, bias = ctx.saved_tensors
        per_row = grad if ctx.layout.num_graphs == 1 else grad.index_select(0, ctx.layout.batch)
        grad_bias = None if bias is None else (grad.to(bias.dtype) * bias).sum().to(grad.dtype)
        return left * per_row[:, None], (right * per_row).t(), grad_bias, None, None


@dataclass(frozen=True)
class _Slopes:
    """The gradient, to which the tiles add: left `(N, D)`, right `(D, N)`, bias `(B,)` if it is wanted."""

    left: Tensor
    right: Tensor
    bias: Tensor | None

    @classmethod
    def zeros(cls, left: Tensor, right: Tensor, bias: Tensor | None) -> _Slopes:
        # (D, N): the product that fills it takes half the time of its transpose.
        rows, columns = torch.zeros_like(left), right.new_zeros(right.t().shape)
        return cls(rows, columns, None if bias is None else torch.zeros_like(bias))

    def of(self, graph: int, nodes: slice) -> _Slopes:
        """The parts of one graph."""
        return _Slopes(self.left[nodes], self.right[:, nodes], None if self.bias is None else self.bias[graph])


def _add_large(
    value: Tensor, slopes: _Slopes | None, left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool
) -> None:
    """Graphs of more than a tile, one after another."""
    if not (graphs := large_graphs(layout)):
        return
    fused = _fused(left)
    tile = SoftplusTile(left, 0 if fused else _block_width(left) ** 2)
    bounds = layout.ptr.tolist()
    for graph in graphs:
        mine = slice(bounds[graph], bounds[graph + 1])
        own = None if slopes is None else slopes.of(graph, mine)
        if fused is not None:
            gradients = None if own is None else (own.left, own.right, own.bias)
            fused.add_graph(value[graph], gradients, left[mine], right[mine], bias, directed)
        else:
            _add_blocks(tile, value[graph], own, left[mine], right[mine], bias, directed)


def _fused(like: Tensor) -> ModuleType | None:
    """The fused kernel, where it runs: float32 on an NVIDIA GPU since Ampere, with Triton, if order may vary."""
    if like.device.type != "cuda" or like.dtype != torch.float32 or torch.are_deterministic_algorithms_enabled():
        return None
    if torch.version.cuda is None or torch.cuda.get_device_capability(like.device) < (8, 0):
        return None
    kernel = _kernel()
    return kernel if kernel is not None and like.size(1) <= kernel.WIDEST else None


@cache
def _kernel() -> ModuleType | None:
    # Looked for once: where it is not, a search goes through the whole path.
    if find_spec("triton") is None:
        return None
    from graphvae import fused_pairs

    return fused_pairs


class _RowBlock(NamedTuple):
    """A block of left rows: `(m, D + 1)` in units of log 2 with the bias; `(D, m)`; their slopes `(m, D)`."""

    with_bias: Tensor
    transposed: Tensor
    slope: Tensor | None


class _ColumnBlock(NamedTuple):
    """A block of right rows: `(D + 1, k)` with a one; `(k, D)`; their slopes `(D, k)`."""

    with_one: Tensor
    rows: Tensor
    slope: Tensor | None


class _Blocks:
    """The two sides of the pairs of one graph, in blocks of a width and of half of it; cut once, calls are dear."""

    def __init__(self, left: Tensor, right: Tensor, bias: Tensor, slopes: _Slopes | None, width: int) -> None:
        with_bias = torch.cat([left * LOG2_E, (bias * LOG2_E).expand(len(left), 1)], 1)
        with_one = torch.cat([right, right.new_ones(len(right), 1)], 1)
        slope_of = (None, None) if slopes is None else (slopes.left, slopes.right)
        self.rows, self.columns = [], []
        for size in (width, width // 2):
            rows = (with_bias.split(size), left.t().split(size, 1), _split(slope_of[0], size, 0))
            columns = (with_one.t().split(size, 1), right.split(size), _split(slope_of[1], size, 1))
            self.rows.append([_RowBlock(*parts) for parts in zip(*rows, strict=False)])
            self.columns.append([_ColumnBlock(*parts) for parts in zip(*columns, strict=False)])

    def of_row(self, row: int, directed: bool) -> list[tuple[_RowBlock, _ColumnBlock, bool]]:
        """The blocks of pairs of a block of rows, and whether each is on the diagonal; of that, the upper triangle."""
        rows, columns = self.rows[0][row], self.columns[0]
        if directed:
            return [(rows, other, column == row) for column, other in enumerate(columns)]
        halves = slice(2 * row, 2 * row + 2)
        upper = enumerate(self.rows[1][halves])
        triangle = [(own, other, k == 0) for i, own in upper for k, other in enumerate(self.columns[1][halves][i:])]
        return triangle + [(rows, other, False) for other in columns[row + 1 :]]


def _split(slope: Tensor | None, size: int, dim: int) -> Iterable[Tensor | None]:
    return repeat(None) if slope is None else slope.split(size, dim)


def _add_blocks(
    tile: SoftplusTile,
    value: Tensor,
    slopes: _Slopes | None,
    left: Tensor,
    right: Tensor,
    bias: Tensor,
    directed: bool,
) -> None:
    """The pairs of one graph, block by block."""
    width = _block_width(left)
    blocks = _Blocks(left, right, bias, slopes, width)
    diagonal = order_penalty(width, directed, left.device)
    for row in range(len(blocks.rows[0])):
        values, totals = [], []
        for own, other, on_diagonal in blocks.of_row(row, directed):
            shape = own.with_bias.size(0), other.rows.size(0)
            scores = torch.mm(own.with_bias, other.with_one, out=tile.scores(*shape))
            if on_diagonal:
                scores.add_(diagonal[: shape[0], : shape[1]])
            block, slope = tile(*shape, slope=slopes is not None)
            values.append(block)
            if slope is not None and own.slope is not None and other.slope is not None:
                own.slope.addmm_(slope, other.rows)
                other.slope.addmm_(own.transposed, slope)
                if slopes is not None and slopes.bias is not None:
                    totals.append(slope.sum())
        value += torch.cat(values).sum(dtype=value.dtype)
        if totals and slopes is not None and slopes.bias is not None:
            slopes.bias.add_(torch.stack(totals).sum(dtype=value.dtype))


def _add_padded(
    value: Tensor, slopes: _Slopes | None, left: Tensor, right: Tensor, bias: Tensor, layout: Layout, directed: bool
) -> None:
    """Graphs that fit into a tile, many at a time."""
    tile, room = None, 0
    for padded in padded_graphs(layout, directed):
        own, other = padded.pad(left), padded.pad(right)
        shape = len(own), padded.width, padded.width
        if tile is None or math.prod(shape) > room:
            room = math.prod(shape)
            tile = SoftplusTile(left, room)
        padded.penalised(torch.baddbmm(bias * LOG2_E, own, other.mT, alpha=LOG2_E, out=tile.scores(*shape)))
        block, slope = tile(*shape, slope=slopes is not None)
        value.index_add_(0, padded.graphs, block.to(value.dtype))
        if slopes is not None and slope is not None:
            if slopes.bias is not None:
                slopes.bias.index_add_(0, padded.graphs, slope.flatten(1).sum(1).to(value.dtype))
            rows = (slope @ other).flatten(0, 1)
            slopes.left.index_copy_(0, padded.nodes, rows.index_select(0, padded.slots))
            columns = (own.mT @ slope).transpose(0, 1).flatten(1)
            slopes.right.index_copy_(1, padded.nodes, columns.index_select(1, padded.slots))


def _block_width(like: Tensor) -> int:
    # A GPU needs more pairs at a time to be busy.
    return TILE if like.device.type == "cpu" else _DEVICE_TILE
