"""What differs between the kinds of data that `graphvae generate` and `graphvae evaluate` take: one object each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from graphvae import plots
from graphvae.datasets import read_graphs, write_graph6, write_graphs
from graphvae.datasets.small import FILES, PARTS, PROCEDURAL
from graphvae.evaluation.graphs import EARTH_MOVERS, TOTAL_VARIATION, GraphStatistics, Kernels
from graphvae.graphs import Graphs
from graphvae.recipes import generation, graph_generators
from graphvae.recipes.comparison import Fitted, Row, Run, Task
from graphvae.recipes.generation import RULES, GraphTask

KERNELS: dict[str, Kernels] = {"tv": TOTAL_VARIATION, "emd": EARTH_MOVERS}
NAMES = ("atlas", "atlas-2 to atlas-7", *FILES, *(name.replace("_", "-") for name in PROCEDURAL))
_LEGEND = """Shares of all samples. valid: {rule}. V.U.N.: valid, not isomorphic to an earlier sample nor to a training
graph. MMD with {kernels} kernels; it falls with the number of graphs. ratio: to that of the train
set, the mean over the four (as DeFoG has it). Brackets: 95 %.
Test graphs that are isomorphic to a training graph: {leak:.0%}."""
_NO_RULE = " As nothing else is known of these graphs, V.U.N. does not tell a good generator from a bad one."


@dataclass(frozen=True)
class Kind:
    """One kind of data.

    Attributes:
        methods: By name.
        usual: Methods when none is named.
        unsuitable: `(method, task)` to why not, or None.
        task: What `generate` was asked for, from its options.
        against: What `evaluate` was asked for, from its options.
        read: Samples from a file.
        table: `(task, rows, title)` to the table of what samples are like.
        legend: `(task, share of test graphs in train)` to the lines below it.
        write: `(samples, folder, method)`; writes files of samples.
        draw: `(task, samples by method, folder)` to the pictures it made.
        facts: For the protocol of the result.
    """

    methods: Mapping[str, Callable[[Any, Run], Fitted]]
    usual: Sequence[str]
    unsuitable: Callable[[str, Any], str | None]
    task: Callable[[argparse.Namespace], Task]
    against: Callable[[argparse.Namespace], Task]
    read: Callable[[Path], Graphs]
    table: Callable[[Any, Sequence[Row], str], Table]
    legend: Callable[[Any, float], str]
    write: Callable[[Any, Path, str], None]
    draw: Callable[[Any, Mapping[str, Any], Path], list[Path]]
    facts: Callable[[Any], dict[str, Any]]


def kind_of(dataset: str) -> Kind:
    """Which kind of data a name or path is of."""
    return next((kind for suits, kind in KINDS if suits(dataset)), GRAPHS)


def _task(options: argparse.Namespace) -> GraphTask:
    with_parts = _split_from_part(options.dataset)[1] is not None
    if with_parts:
        raise ValueError(f"--dataset must have all its parts, got {options.dataset}; give it without ':' and the part")
    _check_name(options.dataset)
    return generation.task(options.dataset, options.root, options.valid, _kernels(options))


def _against(options: argparse.Namespace) -> GraphTask:
    """Without --train the training and test parts of the reference; with it all of the reference."""
    base, part = _split_from_part(options.reference)
    _check_name(base)
    if options.train is None:
        train, test = (read_graphs(f"{base}:{name}", options.root) for name in ("train", part or "test"))
    else:
        _check_name(_split_from_part(options.train)[0])
        train, test = (read_graphs(name, options.root) for name in (options.train, options.reference))
    return generation.task_of(base, train, [], test, options.valid, _kernels(options))


def _kernels(options: argparse.Namespace) -> Kernels:
    name = options.kernel or "tv"
    if name not in KERNELS:
        raise ValueError(f"--kernel must be one of {', '.join(KERNELS)}, got {name}")
    if options.valid is not None and options.valid not in RULES:
        raise ValueError(f"--valid must be one of {', '.join(RULES)}, got {options.valid}")
    return KERNELS[name]


def _split_from_part(name: str) -> tuple[str, str | None]:
    base, colon, part = name.rpartition(":")
    return (base, part) if colon and part in PARTS else (name, None)


def _check_name(name: str) -> None:
    """What is neither a set nor a file is told with the names there are; more is told by what reads it."""
    key = name.lower().replace("-", "_")
    known = key in (*FILES, *PROCEDURAL) or key.startswith("atlas")
    if not known and not Path(name).exists() and Path(name).suffix not in (".npz", ".g6"):
        raise ValueError(f"no data set or file '{name}'; names are {', '.join(NAMES)}")


def _read(path: Path) -> Graphs:
    if not path.exists() and not _split_from_part(str(path))[1]:
        raise ValueError(f"no file or folder {path} of samples")
    return generation.structure(read_graphs(path))


def _table(task: GraphTask, rows: Sequence[Row], title: str) -> Table:
    table = new_table(title, "method", "valid", "unique", "novel", "V.U.N.", *GraphStatistics._fields, "ratio")
    for row in rows:
        shares = [percent(row[name]) for name in ("valid", "unique", "novel")]
        low, high = row["intervals"]["vun"]
        whole = f"{percent(row['vun'])} [{percent(low)}, {percent(high)}]"
        values = [short(row["mmd"][name], ".2g") for name in GraphStatistics._fields]
        table.add_row(row["method"], *shares, whole, *values, short(row["ratios"]["defog"], ".3g"))
    return table


def _legend(task: GraphTask, leak: float) -> str:
    kernels = "total-variation" if task.kernels is TOTAL_VARIATION else "earth mover's"
    warning = _NO_RULE if task.rule in ("any", "connected") else ""
    return _LEGEND.format(rule=_rule(task), kernels=kernels, leak=leak) + warning


def _rule(task: GraphTask) -> str:
    words = {"any": "any graph", "connected": "connected", "planar": "connected and planar"}
    return words.get(task.rule, f"a {task.rule}")


def _write(samples: Any, folder: Path, method: str) -> None:
    write_graphs(folder / f"samples-{method}.npz", samples)
    write_graph6(folder / f"samples-{method}.g6", samples)


def _draw(task: GraphTask, samples: Mapping[str, Any], folder: Path) -> list[Path]:
    valid = RULES[task.rule]
    spread = task.test[:: max(1, len(task.test) // 6)]  # Sets may be in order of size.
    few = {f"{task.name}, test": spread[:6]} | {name: found[:6] for name, found in samples.items()}
    marked = {name: valid(graphs).tolist() for name, graphs in few.items()}
    pictures = [folder / "graphs.png", folder / "statistics.png"]
    title = f"red edges: not {_rule(task)}" if task.rule != "any" else ""
    plots.generated_graphs(few, pictures[0], title=title, marked=marked)
    plots.graph_statistics_compared(task.train, task.test, samples, pictures[1], task.name)
    return pictures


def _facts(task: GraphTask) -> dict[str, Any]:
    return {
        "valid": task.rule,
        "kernels": next(name for name, kernels in KERNELS.items() if kernels is task.kernels),
        "train": len(task.train),
        "val": len(task.val),
        "test": len(task.test),
        "selection": "epoch by the bound on validation graphs; never on test graphs",
        "threads": torch.get_num_threads(),
    }


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


GRAPHS = Kind(
    methods=graph_generators.METHODS,
    usual=("erdos-renyi", "graphvae", "node-latents", "node-hierarchical"),
    unsuitable=graph_generators.unsuitable,
    task=_task,
    against=_against,
    read=_read,
    table=_table,
    legend=_legend,
    write=_write,
    draw=_draw,
    facts=_facts,
)
KINDS: tuple[tuple[Callable[[str], bool], Kind], ...] = ()  # Asked in turn; graphs are what is left.
