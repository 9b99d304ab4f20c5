"""Integers to sort by, and what is counted along sorted rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphvae.layout import Layout

KEY_BITS = 62  # Of an int64 that a sort key may use.


def bits_for(count: int) -> int:
    """Bits that hold the numbers below `count`."""
    return max(1, (count - 1).bit_length())


def random_bits(
    bits: int, shape: Sequence[int], device: torch.device, generator: torch.Generator | None = None
) -> Tensor:
    """Uniform int64 below 2 to the power of `bits`."""
    return torch.randint(1 << bits, tuple(shape), generator=generator, device=device)


def picked(rows: Tensor, index: Tensor) -> Tensor:
    """`rows[index]` for one-dimensional `rows`; indexing by a matrix takes several times as long."""
    return rows.index_select(0, index.flatten()).view_as(index)


def run_places(values: Tensor) -> Tensor:
    """`(K, N)` float64: 1, 2, ... within each run of equal neighbours of the rows of `values` `(K, N)`."""
    return (torch.arange(values.size(1), device=values.device) - run_starts(values) + 1).double()


def run_starts(values: Tensor) -> Tensor:
    """`(K, N)` int64: the column where the run of equal values starts that a column belongs to."""
    start = torch.arange(values.size(1), device=values.device).repeat(len(values), 1)
    start[:, 1:] *= values[:, 1:] != values[:, :-1]
    return start.cummax(1).values if values.size(1) else start


def per_graph(logs: Tensor, layout: Layout) -> Tensor:
    """Sums of `(K, N)` over each graph, `(K, B)`."""
    return logs.new_zeros(len(logs), layout.num_graphs).index_add_(1, layout.batch, logs)


def minus_infinity(wrong: Tensor) -> Tensor:
    """Float64: minus infinity where `wrong`, else 0."""
    return torch.zeros(wrong.shape, dtype=torch.float64, device=wrong.device).masked_fill_(wrong, -torch.inf)


def block_starts(blocks: Tensor, sizes: Tensor) -> Tensor:
    """`(K, C)` first row of each block, if blocks of `sizes` `(C,)` follow one another as in `blocks` `(K, C)`."""
    sizes = sizes[blocks]
    return torch.empty_like(blocks).scatter_(1, blocks, sizes.cumsum(1) - sizes)


def first_of_each(values: Tensor) -> Tensor:
    """`(K, ...)` whether no earlier row has the same value in that column."""
    ordered, places = values.sort(dim=0, stable=True)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(new).scatter_(0, places, new)
