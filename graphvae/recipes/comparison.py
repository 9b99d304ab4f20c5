"""Generative methods compared: trained, sampled, timed and judged alike, whatever kind of graphs a task is about."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch_geometric.data import Batch

from graphvae.evaluation.graphs import wilson
from graphvae.evaluation.vectors import active_units
from graphvae.graphs import Graphs, as_batch
from graphvae.model import GraphVAE
from graphvae.recipes.seeded import seeded
from graphvae.validation import check_positive

Sampler: TypeAlias = Callable[[int, torch.Generator], Batch]
Row: TypeAlias = dict[str, Any]
_AT_ONCE = 250  # Graphs in a batch of samples.


class Honesty(NamedTuple):
    """Rows that every table has, and the share of the test graphs that are isomorphic to a training graph."""

    rows: list[Row]
    test_in_train: float


class Task(Protocol):
    """Data, and what is asked of graphs that are like them."""

    @property
    def shares(self) -> Sequence[str]:
        """The numbers of a row that are shares of its samples."""

    @property
    def size(self) -> int:
        """How many samples there should be in a draw, for its numbers to be like those of others."""

    def evaluate(self, samples: Any, generator: torch.Generator) -> Row:
        """What is said of one draw, of numbers and of tables of numbers, with 95% intervals as "intervals"."""

    def honesty(self, draws: int, size: int, seed: int) -> Honesty:
        """What copying the training set scores, and the process the data are from, if it is known."""


@dataclass(frozen=True)
class Run:
    """How a method is trained.

    Attributes:
        seed: Of initialisation and training.
        accelerator: Device.
        progress: Bar to report to, if any.
        steps: Optimiser steps, rounded to whole epochs, at least one; as the method says if None.
    """

    seed: int
    accelerator: Accelerator
    progress: Progress | bool = False
    steps: int | None = None


@dataclass(frozen=True)
class Fitted:
    """What a method returns.

    Attributes:
        sample: Draws graphs.
        model: What was trained, if anything was.
        numbers: For the row, such as the epoch that was chosen.
        decoding: What `sample` gives to the `sample` of the model, which is not saved with it.
    """

    sample: Sampler
    model: GraphVAE | None = None
    numbers: Mapping[str, float | None] = field(default_factory=dict)
    decoding: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """A method that was run: what it returned, all draws one after another, and its row."""

    fitted: Fitted
    samples: Batch
    row: Row


def compare(
    name: str,
    method: Callable[[Any, Run], Fitted],
    task: Task,
    run: Run,
    draws: int,
    size: int,
    timed: int = 1000,
) -> Outcome:
    """Trains a method, then draws `draws` times `size` graphs from it.

    Args:
        name: Of the row.
        method: `(task, run)` to what was fitted.
        task: That all methods share.
        run: Its seed is also that of the samples.
        draws: How often.
        size: Graphs in a draw.
        timed: Graphs that are drawn to time it, after one batch that is not.

    Returns:
        Its row has means over draws and intervals as `pooled` gives them, `seconds` of training, `graphs_per_second` of
        sampling, and the numbers of the method.
    """
    started = time.perf_counter()
    fitted = method(task, run)
    seconds = time.perf_counter() - started
    parts, found = judged(fitted.sample, task, draws, size, run.seed)
    rate = graphs_per_second(fitted.sample, timed, run.accelerator.device)
    row = {"method": name, **found, "seconds": seconds, "graphs_per_second": rate, **fitted.numbers}
    return Outcome(fitted, _joined(parts), row)


def judged(sample: Sampler, task: Task, draws: int, size: int, seed: int) -> tuple[list[Batch], Row]:
    """Draws of `size` graphs, on the CPU, and a row of them together."""
    check_positive(draws=draws, size=size)
    generator, resampling = (torch.Generator().manual_seed(seed + extra) for extra in (0, 1))
    parts = [drawn(sample, size, generator) for _ in range(draws)]
    return parts, pooled([task.evaluate(part, resampling) for part in parts], task.shares)


def drawn(sample: Sampler, count: int, generator: torch.Generator) -> Batch:
    """That many graphs, drawn some at a time, on the CPU."""
    batches = [sample(min(_AT_ONCE, count - first), generator).to("cpu") for first in range(0, count, _AT_ONCE)]
    return _joined(batches)


def _joined(batches: Sequence[Batch]) -> Batch:
    """The graphs of several checked batches as one."""
    if len(batches) == 1:
        return batches[0]
    return as_batch([graph for batch in batches for graph in batch.to_data_list()])


def graphs_per_second(sample: Sampler, count: int, device: torch.device) -> float:
    """Of sampling in batches, without what is done with the samples."""
    generator = torch.Generator().manual_seed(0)
    sample(min(_AT_ONCE, count), generator)
    _wait(device)
    started = time.perf_counter()
    for first in range(0, count, _AT_ONCE):
        sample(min(_AT_ONCE, count - first), generator)
    _wait(device)
    return count / (time.perf_counter() - started)


@torch.no_grad()
def use_of_latents(model: GraphVAE, graphs: Graphs, seed: int) -> dict[str, float]:
    """How many dimensions of the latents vary over graphs, of how many, and the KL divergence in nats per graph."""
    with seeded(seed, scoring=True):
        q = model.posterior(graphs)
        kl = q.kl(model.prior(q.layout), q.rsample()).mean().item()
    active = active_units(model, graphs)
    return {"latent": active.numel(), "active_units": int(active.sum()), "kl": kl}


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pooled(rows: Sequence[Row], shares: Sequence[str]) -> Row:
    """One row of several draws: means, and `spread`, the standard deviations over draws (n - 1) of shares and tables.

    Intervals of shares are Wilson's for all samples together. Those of other numbers are averages of the ends over
    draws: they are about one draw, like the number itself, which as a rule depends on how many graphs are in it.
    """
    found = _mean(rows)
    total = sum(row["num_graphs"] for row in rows)
    for name in shares:
        found["intervals"][name] = list(wilson(round(found[name] * total), total))
    spread = {name: _spread([row[name] for row in rows]) for name in shares}
    tables = {name: table for name, table in found.items() if isinstance(table, dict) and name != "intervals"}
    for name, table in tables.items():
        spread |= {f"{name}.{key}": _spread([row[name][key] for row in rows]) for key in table}
    return found | {"num_graphs": total, "draws": len(rows), "spread": spread}


def _mean(values: Sequence[Any]) -> Any:
    """The mean of numbers; of tables and lists of them, entry by entry. What is unknown in one draw is left out."""
    known = [value for value in values if value is not None]
    if not known or isinstance(known[0], str):
        return known[0] if known else None
    if isinstance(known[0], dict):
        return {name: _mean([value.get(name) for value in known]) for name in known[0]}
    if isinstance(known[0], list):
        return [_mean(entries) for entries in zip(*known, strict=True)]
    return fmean(known)


def _spread(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return stdev(known) if len(known) > 1 else None


def finite(value: Any) -> Any:
    """For JSON: numbers that are not finite become None, in tables and lists too."""
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
