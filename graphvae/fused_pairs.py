"""The sum over all pairs of one graph on a CUDA GPU, fused: scores and slopes live in registers and nowhere else.

Needs Triton, which PyTorch's CUDA builds bring; without it `pairs` runs the tiles of PyTorch operations there.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEST = 128
_COLUMN_BLOCKS = 16


def add_graph(
    value: Tensor,
    slopes: tuple[Tensor, Tensor, Tensor | None] | None,
    left: Tensor,
    right: Tensor,
    bias: Tensor,
    directed: bool,
) -> None:
    """Adds a graph's softplus sum to `value` and its gradient to `slopes`; float32, at most `WIDEST` columns.

    The order in which blocks add to the gradient is not fixed, so that its last digits may differ from run to run.

    Args:
        value: `()` float64.
        slopes: Gradients of left `(n, D)`, of right `(D, n)` and of the bias `()` float64 or
            None; None without gradient.
        left: `(n, D)`.
        right: `(n, D)`.
        bias: `()`.
        directed: Sum over i != j and not i < j.
    """
    width = max(16, triton.next_power_of_2(left.size(1)))
    block = 64 if width <= 64 else 32  # What these need of shared memory, at most 80 KiB, data-centre GPUs have.
    blocks = triton.cdiv(len(left), block)
    grid = blocks, triton.cdiv(blocks, _COLUMN_BLOCKS)
    parts = value.new_zeros(2, blocks)
    left, right = left.contiguous(), right.contiguous()
    grad_left, grad_right = (left, right.t()) if slopes is None else slopes[:2]
    strides = (*grad_left.stride(), *grad_right.stride())
    # Triton launches on the current device, whatever that of the tensors.
    with torch.cuda.device(left.device) if left.is_cuda else nullcontext():
        _sum_blocks[grid](
            left, right, bias, parts[0], parts[1], grad_left, grad_right, len(left), *strides, D=left.size(1),
            WIDTH=width, BLOCK=block, STEPS=_COLUMN_BLOCKS, DIRECTED=directed, GRADIENT=slopes is not None,
        )  # fmt: skip
    value += parts[0].sum()
    if slopes is not None and slopes[2] is not None:
        slopes[2].add_(parts[1].sum())


@triton.jit
def _sum_blocks(  # type: ignore[no-untyped-def]
    left, right, bias, values, totals, grad_left, grad_right, n, left_row, left_column, right_column, right_row,
    D: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, STEPS: tl.constexpr,
    DIRECTED: tl.constexpr, GRADIENT: tl.constexpr,
):  # fmt: skip
    """One block of rows against `STEPS` blocks of columns."""
    first = tl.program_id(0) * BLOCK
    if not DIRECTED and (tl.program_id(1) + 1) * STEPS * BLOCK <= first:
        return  # All of it lies below the diagonal.
    rows, feature = first + tl.arange(0, BLOCK), tl.arange(0, WIDTH)
    row_real = (rows < n)[:, None] & (feature < D)[None, :]
    l = tl.load(left + rows[:, None] * D + feature[None, :], mask=row_real, other=0.0)  # noqa: E741
    b = tl.load(bias)
    slope_of_l = tl.zeros((BLOCK, WIDTH), dtype=tl.float32)
    value = tl.zeros((), dtype=tl.float64)
    total = tl.zeros((), dtype=tl.float64)
    for step in range(STEPS):
        start = (tl.program_id(1) * STEPS + step) * BLOCK
        if (start < n) and (DIRECTED or start >= first):
            columns = start + tl.arange(0, BLOCK)
            column_real = (columns < n)[:, None] & (feature < D)[None, :]
            r = tl.load(right + columns[:, None] * D + feature[None, :], mask=column_real, other=0.0)
            s = tl.dot(l, tl.trans(r), input_precision="tf32x3") + b
            ordered = rows[:, None] != columns[None, :] if DIRECTED else rows[:, None] < columns[None, :]
            counts = ordered & (rows < n)[:, None] & (columns < n)[None, :]
            small = tl.exp(-tl.abs(s))
            grown = 1.0 + small
            # log(1 + small) with all the digits of `small`: what rounding took from 1 + small is put back.
            log = tl.where(grown == 1.0, small, tl.log(grown) * (small / tl.where(grown == 1.0, 1.0, grown - 1.0)))
            value += tl.sum(tl.where(counts, tl.maximum(s, 0.0) + log, 0.0)).to(tl.float64)
            if GRADIENT:
                slope = tl.where(counts, tl.where(s > 0, 1.0, small) / grown, 0.0)
                total += tl.sum(slope).to(tl.float64)
                slope_of_l += tl.dot(slope, r, input_precision="tf32x3")
                slope_of_r = tl.dot(tl.trans(slope), l, input_precision="tf32x3")
                place = grad_right + columns[:, None] * right_row + feature[None, :] * right_column
                tl.atomic_add(place, slope_of_r, mask=column_real)
    tl.atomic_add(values + tl.program_id(0), value)
    tl.atomic_add(totals + tl.program_id(0), total)
    if GRADIENT:
        tl.atomic_add(grad_left + rows[:, None] * left_row + feature[None, :] * left_column, slope_of_l, mask=row_real)
