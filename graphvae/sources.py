"""What a training reads: the batches of each epoch, from graphs, from vectors or from a source that samples them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch_geometric.data import Batch, Data

from graphvae.encoders import FreeNormal
from graphvae.graphs import Graphs, Selector, contents, edgeless, with_features
from graphvae.model import GraphVAE

_GATHERED = 2**18  # Numbers at once: what a processor's cache holds.


@runtime_checkable
class BatchSource(Protocol):
    """Batches that are made as they are needed, such as `masking.LinkBatches`; what one of your own must offer."""

    def __len__(self) -> int:
        """Batches of an epoch."""

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The checked batches of one epoch; all randomness is from `generator`, on the CPU."""

    def few(self) -> Batch:
        """A small batch of the same kind, on which a model is tried out."""

    def facts(self) -> tuple[list[Tensor], str]:
        """Tensors and settings by which an interrupted run knows its data."""


class Batches(Protocol):
    """Batches of one epoch, anew each time it is iterated."""

    def __len__(self) -> int:
        """Of an epoch."""

    def __iter__(self) -> Iterator[Batch]:
        """An epoch."""


@dataclass(frozen=True)
class Reading:
    """Data as `fit` needs it.

    Attributes:
        few: A checked batch on which a model is tried out.
        facts: Tensors and settings by which an interrupted run knows its data.
        batches: An epoch each time it is iterated.
    """

    few: Batch
    facts: tuple[list[Tensor], str]
    batches: Batches


def read(
    model: GraphVAE,
    graphs: Graphs | Tensor | Selector | BatchSource,
    batch_size: int,
    shuffle: torch.Generator,
    accelerator: Accelerator,
) -> Reading:
    """Checks data against `model` and cuts it into batches in an order drawn by `shuffle`. Arguments as for `fit`."""
    if isinstance(graphs, BatchSource):
        if accelerator.num_processes > 1:
            raise ValueError(
                f"'accelerator' must have one process for sampled batches, got {accelerator.num_processes}"
            )
        return Reading(model.batch(graphs.few()), graphs.facts(), _Epochs(graphs, shuffle, accelerator.device))
    given = graphs.graphs if isinstance(graphs, Selector) else graphs
    whole = model.batch(edgeless(given) if isinstance(given, Tensor) else given)
    facts = contents(whole), ""
    if isinstance(graphs, Data) or isinstance(model.encoder, FreeNormal):  # Whose rows are those of the whole.
        return Reading(whole, facts, [copy.copy(whole).to(accelerator.device)])  # `Batch.to` moves in place.
    selected = Selector(whole)
    few = selected(range(min(16 if isinstance(graphs, Tensor) else 2, whole.num_graphs)))
    if isinstance(graphs, Tensor) and accelerator.num_processes == 1:
        return Reading(few, facts, _Vectors(whole, batch_size, shuffle, accelerator.device))
    if accelerator.num_processes == 1:
        return Reading(few, facts, _Selected(selected, batch_size, shuffle, accelerator.device))
    loader = DataLoader(_Graphs(selected), batch_size, shuffle=True, generator=shuffle, collate_fn=lambda batch: batch)
    return Reading(few, facts, accelerator.prepare(loader))


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Sizes of the mini-batches of an epoch of `count`; a last one of one alone is joined to the one before it.

    Batch normalisation has nothing to normalise in one graph.
    """
    full, rest = divmod(count, batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    if rest == 1 and full > 0:
        sizes[-2:] = [batch_size + 1]
    return sizes


def epochs_of(steps: int, count: int, batch_size: int) -> int:
    """How many epochs of `count` come nearest to a number of steps; at least one."""
    return max(1, round(steps / len(batch_sizes(count, batch_size))))


class _Epochs:
    """The epochs of a source, one after another, on a device."""

    def __init__(self, source: BatchSource, generator: torch.Generator, device: torch.device) -> None:
        self.source, self.generator, self.device = source, generator, device

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Batch]:
        return (batch.to(self.device) for batch in self.source.epoch(self.generator))


class _Vectors:
    """Vectors in mini-batches: views of rows that are gathered for many steps at once; equal batches share a layout."""

    def __init__(self, whole: Batch, batch_size: int, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device
        self._x, self._checked_for = _moved(whole.x, device), whole.checked_for
        self._sizes = batch_sizes(self._x.size(0), batch_size)
        steps = max(1, _GATHERED // (batch_size * max(1, self._x.size(1))))
        self._gathered = [self._sizes[first : first + steps] for first in range(0, len(self._sizes), steps)]
        self._blank: dict[int, Batch] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(self._x.size(0), generator=self.generator).to(self._x.device)
        for rows, sizes in zip(order.split([sum(sizes) for sizes in self._gathered]), self._gathered, strict=True):
            for x in self._x.index_select(0, rows).to(self.device).split(sizes):
                yield with_features(self._alike(x), x)

    def _alike(self, x: Tensor) -> Batch:
        if x.size(0) not in self._blank:
            batch = edgeless(x, check=False)
            batch.checked_for = self._checked_for
            self._blank[x.size(0)] = with_features(batch, x[:0])
        return self._blank[x.size(0)]


def _moved(x: Tensor, device: torch.device) -> Tensor:
    try:
        return x.to(device)
    except torch.OutOfMemoryError:  # It stays where it is, and moves piece by piece.
        return x


class _Selected:
    """Graphs in mini-batches, gathered from the tensors of one checked batch; a loader would cost as much again."""

    def __init__(self, select: Selector, batch_size: int, generator: torch.Generator, device: torch.device) -> None:
        self.select, self.generator, self.device = select, generator, device
        self._sizes = batch_sizes(select.graphs.layout.num_graphs, batch_size)

    def __len__(self) -> int:
        return len(self._sizes)

    def __iter__(self) -> Iterator[Batch]:
        order = torch.randperm(self.select.graphs.layout.num_graphs, generator=self.generator)
        batches = (self.select(graphs) for graphs in order.split(self._sizes))
        return batches if self.device.type == "cpu" else (batch.to(self.device) for batch in batches)


class _Graphs(Dataset[Batch]):
    """The same for several processes, each of which takes its share; accelerate fills up the last mini-batches."""

    def __init__(self, select: Selector) -> None:
        self.select = select

    def __len__(self) -> int:
        return self.select.graphs.layout.num_graphs

    def __getitems__(self, graphs: list[int]) -> Batch:
        return self.select(graphs)
