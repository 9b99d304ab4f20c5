"""`fit`: one loop over Hugging Face accelerate, which brings devices, mixed precision, data parallelism and state."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch_geometric.data import Batch

from graphvae.bounds import elbo
from graphvae.contracts import try_out
from graphvae.graphs import Graphs, Selector
from graphvae.masking import LinkBatches, MaskedGraphs
from graphvae.model import GraphVAE
from graphvae.resuming import RunFolder, fingerprint
from graphvae.sources import Batches, BatchSource, read
from graphvae.stepping import Stepper
from graphvae.validation import check_positive

Objective = Callable[[GraphVAE, Batch], Tensor]


@runtime_checkable
class Schedule(Protocol):
    """An objective that changes in the course of training, such as `objectives.WarmUp`."""

    def at(self, epoch: int) -> Objective:
        """The objective of an epoch; the first is 1."""


@dataclass
class Validation:
    """Selection on validation data: the weights with the largest score are kept.

    Args:
        score: The model, in evaluation mode and without gradient, to a number; larger is better.
        every: Epochs between scores.
        patience: Scores without a new best before training stops; None to never stop early.
    """

    score: Callable[[GraphVAE], float]
    every: int = 10
    patience: int | None = None

    def __post_init__(self) -> None:
        check_positive(every=self.every, patience=self.patience)


@dataclass
class History:
    """What happened: the mean objective per graph of each epoch, and the validation scores by epoch."""

    objective: list[float] = field(default_factory=list)
    scores: dict[int, float] = field(default_factory=dict)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch with the largest validation score."""
        return max(self.scores, key=lambda epoch: self.scores[epoch]) if self.scores else None

    def stalled(self, validation: Validation | None) -> bool:
        """Whether patience has run out."""
        since = sum(epoch > (self.best_epoch or 0) for epoch in self.scores)
        return validation is not None and validation.patience is not None and since >= validation.patience


def fit(
    model: GraphVAE,
    graphs: Graphs | Tensor | Selector | BatchSource,
    objective: Objective | Schedule = elbo,
    *,
    epochs: int = 200,
    batch_size: int = 128,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    validation: Validation | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool | Progress = True,
    accelerator: Accelerator | None = None,
) -> History:
    """Trains `model` in place to maximise `objective`, and leaves it in evaluation mode on the accelerator's device.

    Args:
        model: Trained in place; with `validation` it ends with the best weights, otherwise with the last.
        graphs: One graph or batch (trained on whole), a list or PyG `Dataset`, a `(B, F)` tensor of vectors, or a
            source of batches: `graphs.Selector` of a checked batch for mini-batches of it without a list,
            `masking.LinkBatches` for a graph too large for a step, `masking.MaskedGraphs`.
        objective: `(model, batch) -> (B,)`, larger is better: a bound or one of `objectives`; or a `Schedule` of them.
        epochs: Passes over the data.
        batch_size: Graphs or vectors per step, for a list, a tensor or a `Selector`. A last one left over in an epoch
            is joined to the step before it, because batch normalisation cannot do with one.
        optimizer: Over the model's parameters; Adam with learning rate 0.01 if None.
        scheduler: Of the learning rate of `optimizer`; stepped after every step of the optimiser, not every epoch.
        validation: Scores on validation data, for selection and early stopping.
        folder: Where to keep the state of the run every 10 % of the epochs; a run found there is continued, bit for
            bit as if it had not stopped (on a GPU, if PyTorch is told to use deterministic algorithms). Its optimiser
            state is a PyTorch file: point this at your own runs only.
        seed: Of all randomness in training; the global generators are left as they were.
        progress: Show a bar on a terminal (standard error); or a `rich.progress.Progress` to add one to.
        accelerator: Device and precision; by default a GPU where there is one. `Accelerator(cpu=True)` stays on CPU.
            It lets go of what it had prepared before, for other trainings.

    Returns:
        The history of objective and scores.

    Raises:
        FloatingPointError: The objective or its gradient became infinite or NaN, or a validation score NaN; the
            parameters are those before the step that did it.
        ValueError, TypeError: Bad graphs or arguments, or a folder of another run, before anything is changed.
    """
    check_positive(epochs=epochs, batch_size=batch_size)
    if isinstance(graphs, (LinkBatches, MaskedGraphs)) and objective is elbo:
        raise ValueError(
            f"'objective' must not be the ELBO for {type(graphs).__name__}: it would count the edges that "
            "a batch hides as absent; use objectives.masked_edges for LinkBatches, bounds.masked_elbo for MaskedGraphs"
        )
    shuffle = torch.Generator()
    if accelerator is None:
        accelerator = Accelerator(cpu=not torch.cuda.is_available())
    else:
        accelerator.free_memory()  # An earlier model would be saved into, and read from, this run's folder.
    reading = read(model, graphs, batch_size, shuffle, accelerator)
    try_out(model, reading.few)
    optimizer = _over_parameters(optimizer, model, scheduler)
    _check_length(scheduler, epochs * len(reading.batches) * accelerator.num_processes)
    run = None
    if folder is not None:
        settings: dict[str, int | str] = {"seed": seed, "batch_size": batch_size, "data": fingerprint(*reading.facts)}
        settings["steps_per_epoch"] = len(reading.batches)
        run = RunFolder(Path(folder), accelerator, settings | _rule_of(optimizer, scheduler))
    training = _Objective(model, objective)
    step, optimizer, scheduler = accelerator.prepare(training, optimizer, scheduler)
    history, best, start = History(), None, 0
    with _seeded(seed, accelerator), _bar(progress, epochs, accelerator) as report:
        if run is not None:
            start, best = run.load(step, history, epochs)
            report(start)
        for epoch in range(start + 1, epochs + 1):
            if history.stalled(validation):
                break
            shuffle.manual_seed(int(torch.randint(2**62, ())))
            model.train()
            training.in_epoch(epoch)
            history.objective.append(_epoch(step, reading.batches, optimizer, scheduler, accelerator, epoch, report))
            if validation is not None and (epoch % validation.every == 0 or epoch == epochs):
                best = _validate(model, validation, history, best, epoch)
            if run is not None and (
                epoch % max(1, epochs // 10) == 0 or epoch == epochs or history.stalled(validation)
            ):
                run.save(history, best, epoch)
    if best is not None:
        model.load_state_dict(best)
    model.eval()
    return history


def _over_parameters(optimizer: Optimizer | None, model: GraphVAE, scheduler: LRScheduler | None) -> Optimizer:
    if isinstance(scheduler, ReduceLROnPlateau):
        raise TypeError("'scheduler' must step by itself, ReduceLROnPlateau waits for a score; use Validation to stop")
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("'scheduler' must be of the 'optimizer' that is given with it")
    optimizer = optimizer or Adam(model.parameters(), lr=0.01, fused=True)
    if {id(p) for group in optimizer.param_groups for p in group["params"]}.isdisjoint(map(id, model.parameters())):
        raise ValueError("'optimizer' must be over the parameters of 'model', it has none of them")
    return optimizer


def _check_length(scheduler: LRScheduler | None, steps: int) -> None:
    total = getattr(scheduler, "total_steps", steps)
    if total < steps:
        raise ValueError(f"'scheduler' must have 'total_steps' for the {steps} steps of this training, got {total}")


def _rule_of(optimizer: Optimizer, scheduler: LRScheduler | None) -> dict[str, int | str]:
    rule = f"{type(optimizer).__name__} {optimizer.defaults}"
    return {"optimizer": rule, "scheduler": type(scheduler).__name__}


@contextmanager
def _seeded(seed: int, accelerator: Accelerator) -> Iterator[None]:
    # Not torch.manual_seed: it also seeds the GPUs that this run does not use.
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        # Processes differ in their noise; accelerate gives them one order of the data.
        torch.default_generator.manual_seed(seed + accelerator.process_index)
        if accelerator.device.type == "cuda":
            torch.cuda.manual_seed(seed + accelerator.process_index)
        yield


class _Objective(nn.Module):
    """Gives an objective the `forward` that data-parallel and mixed-precision wrappers look for."""

    def __init__(self, model: GraphVAE, objective: Objective | Schedule) -> None:
        super().__init__()
        self.model, self.given = model, objective
        self.in_epoch(1)

    def in_epoch(self, epoch: int) -> None:
        """Turns to the objective of an epoch."""
        self.objective = self.given.at(epoch) if isinstance(self.given, Schedule) else self.given

    def forward(self, batch: Batch) -> Tensor:
        return self.objective(self.model, batch)


def _epoch(
    step: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    scheduler: LRScheduler | None,
    accelerator: Accelerator,
    epoch: int,
    report: Callable[[float], None],
) -> float:
    stepper = Stepper(optimizer, accelerator)
    total, count = 0.0, 0
    for done, batch in enumerate(batches, 1):
        values = step(batch)
        if values.shape != (batch.layout.num_graphs,):
            raise ValueError(
                f"'objective' must return one value for each of the {batch.layout.num_graphs} graphs, got shape "
                f"{tuple(values.shape)}"
            )
        mean = values.mean()
        stepper.backward(mean)
        if not stepper.finite(mean):
            raise FloatingPointError(
                f"the objective became {mean.item()}, or its gradient infinite or NaN, in epoch {epoch}; the "
                "parameters are those before it. Lower the learning rate, or check the features for extreme values"
            )
        stepper.step()
        if scheduler is not None:
            scheduler.step()
        total, count = total + values.numel() * mean.item(), count + values.numel()
        report(epoch - 1 + done / len(batches))
    return total / count


@torch.no_grad()
def _validate(
    model: GraphVAE, validation: Validation, history: History, best: dict[str, Tensor] | None, epoch: int
) -> dict[str, Tensor]:
    model.eval()
    score = float(validation.score(model))
    if math.isnan(score):
        raise FloatingPointError(f"the validation score became NaN in epoch {epoch}")
    history.scores[epoch] = score
    if history.best_epoch == epoch or best is None:
        return copy.deepcopy(model.state_dict())
    return best


@contextmanager
def _bar(progress: bool | Progress, epochs: int, accelerator: Accelerator) -> Iterator[Callable[[float], None]]:
    """Gives a function that takes the number of epochs done, which may be a fraction."""
    console = Console(stderr=True)
    if isinstance(progress, Progress):
        task = progress.add_task("training", total=epochs)
        try:
            yield lambda done: progress.update(task, completed=done)
        finally:
            progress.remove_task(task)
    elif progress and accelerator.is_main_process and console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as own, _bar(own, epochs, accelerator) as report:
            yield report
    else:
        yield lambda done: None
