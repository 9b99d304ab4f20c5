"""What differs between the kinds of data that `graphvae generate` and `graphvae evaluate` take, in one object each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from graphvae.checkpoints import save
from graphvae.datasets.small import without_part
from graphvae.model import GraphVAE
from graphvae.recipes.comparison import Fitted, Outcome, Row, Run, Task


@dataclass(frozen=True)
class SampleSet:
    """Samples that get a row of their own.

    Attributes:
        name: Of the row.
        samples: Graphs, or what else the task judges.
        task: What judges them.
        notes: Lines of the legend about them.
    """

    name: str
    samples: Any
    task: Task
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedModel:
    """How samples are drawn from a saved model, and judged.

    Attributes:
        task: What judges them.
        decoding: Arguments of `GraphVAE.sample`, unless others are asked for.
        notes: Lines of the legend.
    """

    task: Task
    decoding: Mapping[str, bool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
        suits: Whether a name or path is of this kind.
        methods: By name.
        usual: Methods when none is named.
        draws: How often samples are drawn when not said.
        steps: Of a training when not said; None if each method has its own.
        unsuitable: `(method, task)` to why not, or None.
        task: What `generate` was asked for, from its options.
        against: What `evaluate` was asked for, from its options.
        read: `(path, task)` to the samples in a file, or in each file of a folder.
        of_model: `(model, folder, task)` to how a saved model is drawn from.
        table: `(task, rows, title)` to the table of what samples are like.
        legend: `(task, share of test graphs in train)` to the lines below it.
        write: `(task, outcome, folder, method)`; writes files of samples and the model, and returns their paths.
        draw: `(task, samples by method, folder)` to the pictures it made.
        facts: For the protocol of the result.
    """

    suits: Callable[[str], bool]
    methods: Mapping[str, Callable[[Any, Run], Fitted]]
    usual: Sequence[str]
    draws: int
    steps: int | None
    unsuitable: Callable[[str, Any], str | None]
    task: Callable[[argparse.Namespace], Task]
    against: Callable[[argparse.Namespace], Task]
    read: Callable[[Path, Any], list[SampleSet]]
    of_model: Callable[[GraphVAE, Path, Any], SavedModel]
    table: Callable[[Any, Sequence[Row], str], Table]
    legend: Callable[[Any, float], str]
    write: Callable[[Any, Outcome, Path, str], list[Path]]
    draw: Callable[[Any, Mapping[str, Any], Path], list[Path]]
    facts: Callable[[Any], dict[str, Any]]


def check_whole(dataset: str) -> None:
    """Checks that what is to be trained on and judged by is not a part."""
    if without_part(dataset)[1] is not None:
        raise ValueError(f"--dataset must have all its parts, got {dataset}; give it without ':' and the part")


def save_model(outcome: Outcome, folder: Path) -> list[Path]:
    """Saves what was trained, if anything was; the files of the model."""
    if outcome.fitted.model is None:
        return []
    save(outcome.fitted.model, folder)
    return sorted(folder.glob("model.*"))


def sample_files(folder: Path, *suffixes: str) -> list[Path]:
    """The files samples-METHOD in a folder that `graphvae generate` filled, with the first of the suffixes found."""
    found = (sorted(folder.glob(f"samples-*{suffix}")) for suffix in suffixes)
    return next((files for files in found if files), [])


def new_table(title: str, first: str, *others: str) -> Table:
    """An empty one, all columns but the first to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def percent(share: float | None) -> str:
    """A share in percent, without the sign."""
    return "-" if share is None else f"{100 * share:.1f}".removesuffix(".0")


def short(value: Any, form: str = ".4g") -> str:
    """A number, or '-'."""
    return "-" if value is None else f"{value:{form}}"
