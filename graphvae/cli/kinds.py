"""What differs between the kinds of data that `graphvae generate` and `graphvae evaluate` take, in one object each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from graphvae.datasets.small import PARTS
from graphvae.recipes.comparison import Fitted, Row, Run, Task


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
        read: Samples from a file.
        table: `(task, rows, title)` to the table of what samples are like.
        legend: `(task, share of test graphs in train)` to the lines below it.
        write: `(task, samples, folder, method)`; writes files of samples.
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
    read: Callable[[Path], Any]
    table: Callable[[Any, Sequence[Row], str], Table]
    legend: Callable[[Any, float], str]
    write: Callable[[Any, Any, Path, str], None]
    draw: Callable[[Any, Mapping[str, Any], Path], list[Path]]
    facts: Callable[[Any], dict[str, Any]]


def without_part(name: str) -> tuple[str, str | None]:
    """A name or path, and the part that `NAME:train`, `NAME:val` or `NAME:test` asks for."""
    base, colon, part = name.rpartition(":")
    return (base, part) if colon and part in PARTS else (name, None)


def check_whole(dataset: str) -> None:
    """Checks that what is to be trained on and judged by is not a part."""
    if without_part(dataset)[1] is not None:
        raise ValueError(f"--dataset must have all its parts, got {dataset}; give it without ':' and the part")


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
