"""Which graph of a batch each row of a tensor belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from graphvae.sparse import at_least_single


class Layout:
    """Which graph of a batch each row of a tensor belongs to.

    Rows of one graph are contiguous: graph `b` owns rows `ptr[b]:ptr[b + 1]`. Node latents have the layout of the
    nodes; latents of whole graphs have the layout of the graphs, one row each.

    Args:
        ptr: `(B + 1,)` int64, the first row of each graph and, last, the number of rows.
        num_rows: `ptr[-1]`, given so that no device is asked for it.

    Attributes:
        one_row_each: Whether it is known, without asking a device, that every graph has exactly one row.
    """

    def __init__(self, ptr: Tensor, num_rows: int) -> None:
        self.ptr = ptr
        self.num_rows = num_rows
        self.num_graphs = ptr.numel() - 1
        self.one_row_each = self.num_graphs == num_rows == 1

    @classmethod
    def from_batch(cls, batch: Tensor, num_graphs: int | None = None) -> Layout:
        """The layout of a PyG `batch` vector `(N,)`, which must be sorted."""
        if batch.dim() != 1 or batch.numel() == 0 or bool((batch.diff() < 0).any()):
            raise ValueError("'batch' must be a sorted vector of graph numbers, one per node")
        return cls.of(torch.bincount(batch, minlength=num_graphs or 0))

    @classmethod
    def of(cls, sizes: Sequence[int] | Tensor, device: torch.device | str | None = None) -> Layout:
        """The layout of graphs with `sizes` rows each, a sequence or a `(B,)` integer tensor."""
        sizes = torch.as_tensor(sizes, device=device)
        if sizes.is_floating_point() or sizes.dim() != 1 or sizes.numel() == 0 or bool((sizes < 0).any()):
            raise ValueError(f"'sizes' must be a non-empty list of non-negative integers, got {sizes.tolist()}")
        ptr = torch.nn.functional.pad(sizes.long().cumsum(0), (1, 0))
        return cls(ptr, int(ptr[-1]))

    @classmethod
    def single(cls, num_rows: int, device: torch.device | str | None = None) -> Layout:
        """One graph that owns all rows."""
        return cls(torch.tensor([0, num_rows], device=device), num_rows)

    @classmethod
    def singles(cls, num_rows: int, device: torch.device | str | None = None) -> Layout:
        """Graphs of one row each: vectors, and latents of whole graphs."""
        layout = cls(torch.arange(num_rows + 1, device=device), num_rows)
        layout.one_row_each = True
        return layout

    @cached_property
    def sizes(self) -> Tensor:
        """`(B,)` rows of each graph."""
        return self.ptr.diff()

    @cached_property
    def batch(self) -> Tensor:
        """`(N,)` graph of each row, PyG's `batch` vector."""
        graphs = torch.arange(self.num_graphs, device=self.ptr.device)
        return graphs.repeat_interleave(self.sizes, output_size=self.num_rows)

    @cached_property
    def first_rows(self) -> Tensor:
        """`(N,)` first row of the graph of each row."""
        return self.ptr.index_select(0, self.batch)

    @cached_property
    def places(self) -> Tensor:
        """`(N,)` the place 0, 1, ... of each row within its graph."""
        return torch.arange(self.num_rows, device=self.ptr.device) - self.first_rows

    @cached_property
    def host_sizes(self) -> list[int]:
        """The sizes as Python integers; on a GPU the first access waits for the device."""
        return self.sizes.tolist()

    @cached_property
    def num_pairs(self) -> Tensor:
        """`(B,)` unordered pairs of different nodes, n(n - 1)/2 for each graph."""
        return self.sizes * (self.sizes - 1) // 2

    def sum(self, rows: Tensor) -> Tensor:
        """Sums `rows` of shape `(N, ...)` over all but the graph: `(B,)`, half precision in float32."""
        rows = at_least_single(rows)
        if rows.dim() > 1:
            rows = rows.flatten(1).sum(1)
        if self.one_row_each:
            return rows
        if self.num_graphs == 1:
            return rows.sum(0, keepdim=True)
        return rows.new_zeros(self.num_graphs).index_add(0, self.batch, rows)

    def dense(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Pads `(N, D)` rows to `(B, n, D)`, `n` the largest size, with a `(B, n)` mask of the real ones."""
        mask = torch.arange(max(self.host_sizes), device=rows.device) < self.sizes[:, None]
        padded = rows.new_zeros(*mask.shape, *rows.shape[1:])
        padded[mask] = rows
        return padded, mask

    def repeated(self, times: int) -> Layout:
        """The layout of as many copies, one after another."""
        shifts = self.num_rows * torch.arange(times, device=self.ptr.device)
        ptr = torch.cat([(shifts[:, None] + self.ptr[:-1]).flatten(), shifts[-1:] + self.num_rows])
        copies = Layout(ptr, times * self.num_rows)
        copies.one_row_each = self.one_row_each
        if "host_sizes" in vars(self):
            copies.host_sizes = times * self.host_sizes
        return copies

    def to(self, device: torch.device | str | int | None, non_blocking: bool = False) -> Layout:
        """The same layout on another device (PyG's `Batch.to` calls this)."""
        moved = Layout(self.ptr.to(device, non_blocking=non_blocking), self.num_rows)
        moved.one_row_each = self.one_row_each
        if "host_sizes" in vars(self):
            moved.host_sizes = self.host_sizes
        return moved

    def cpu(self) -> Layout:
        """The same layout on the CPU (PyG's `Batch.cpu` calls this)."""
        return self.to("cpu")

    def cuda(self, device: torch.device | str | int | None = None, non_blocking: bool = False) -> Layout:
        """The same layout on a GPU (PyG's `Batch.cuda` calls this)."""
        return self.to("cuda" if device is None else device, non_blocking)

    def check_rows(self, z: Tensor) -> None:
        """Checks that latents `z` have one row per node of this layout.

        Raises:
            ValueError: They have not: latents of whole graphs were given to a factor that decodes nodes.
        """
        if z.size(0) != self.num_rows:
            raise ValueError(
                f"'z' must have one row for each of the {self.num_rows} nodes, got {z.size(0)}; latents of whole "
                "graphs (an encoder with 'pool') need a factor that decodes whole graphs"
            )

    def __repr__(self) -> str:
        return f"Layout(num_graphs={self.num_graphs}, num_rows={self.num_rows})"


def counted(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For each k `lengths[k]` entries, one k after another: `(sum,)` the k, and `(sum,)` 0, ..., `lengths[k] - 1`."""
    owner = torch.arange(lengths.numel(), device=lengths.device).repeat_interleave(lengths)
    before = lengths.cumsum(0) - lengths
    return owner, torch.arange(owner.numel(), device=lengths.device) - before[owner]
