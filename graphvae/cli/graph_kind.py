"""Small graphs, of which the edges alone count, for `graphvae generate` and `graphvae evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from graphvae import plots
from graphvae.cli.decoding import read_decoding
from graphvae.cli.kinds import (
    Kind,
    SampleSet,
    SavedModel,
    check_whole,
    new_table,
    percent,
    sample_files,
    save_model,
    short,
)
from graphvae.datasets import read_graphs, small_graphs, write_graph6, write_graphs
from graphvae.datasets.small import FILES, PROCEDURAL, without_part
from graphvae.evaluation.graphs import EARTH_MOVERS, TOTAL_VARIATION, GraphStatistics, Kernels
from graphvae.graphs import as_batch, field
from graphvae.model import GraphVAE
from graphvae.recipes import generation
from graphvae.recipes.comparison import Outcome, Row
from graphvae.recipes.generation import RULES, GraphTask
from graphvae.recipes.graph_generators import METHODS, STEPS, unsuitable

KERNELS: dict[str, Kernels] = {"tv": TOTAL_VARIATION, "emd": EARTH_MOVERS}
_ATLASES = ("atlas", *(f"atlas_{size}" for size in range(2, 8)))
NAMES = ("atlas", "atlas-2 to atlas-7", *FILES, *(name.replace("_", "-") for name in PROCEDURAL))
_LEGEND = """Shares of all samples. valid: {rule}. V.U.N.: valid, not isomorphic to an earlier sample nor to a training
graph. MMD with {kernels} kernels; it falls with the number of graphs. ratio: to that of the train
set, the mean over the four (as DeFoG has it). Brackets: 95 %.
Test graphs that are isomorphic to a training graph: {leak:.0%}."""
_TYPED = "{name}: types of nodes and edges are left out, because the reference is judged by its edges alone."
_NO_RULE = "\nNo other rule of these graphs is known, so V.U.N. does not tell a good generator from a bad one."


def _task(options: argparse.Namespace) -> GraphTask:
    check_whole(options.dataset)
    _check_name(options.dataset)
    kernels = _kernels(options)
    train, val, test = small_graphs(options.dataset, options.root)
    _check_parts(options.dataset, train, test, len(train) + len(val) + len(test))
    return generation.trainable(generation.task_of(options.dataset, train, val, test, options.valid, kernels))


def _against(options: argparse.Namespace) -> GraphTask:
    """Without --train the training and test parts of the reference; with it all of the reference."""
    base, part = without_part(options.reference)
    _check_name(base)
    if options.train is None:
        parts = small_graphs(base, options.root)
        train, test = parts.train, getattr(parts, part or "test")
        _check_parts(base, train, test, sum(map(len, parts)))
    else:
        _check_name(without_part(options.train)[0])
        train, test = (read_graphs(name, options.root) for name in (options.train, options.reference))
    return generation.task_of(base, train, [], test, options.valid, _kernels(options))


def _check_parts(name: str, train: Sequence[Any], test: Sequence[Any], count: int) -> None:
    if not train or not test:
        raise ValueError(
            f"'{name}' must have graphs for training and for testing; of {count} it has {len(train)} and {len(test)}. "
            "A set without parts is split if it has 5 or more; an npz file may give its parts as 'split'; and evaluate "
            "takes training graphs from elsewhere by --train"
        )


def _kernels(options: argparse.Namespace) -> Kernels:
    name = options.kernel or "tv"
    if name not in KERNELS:
        raise ValueError(f"--kernel must be one of {', '.join(KERNELS)}, got {name}")
    if options.max_atoms is not None:
        raise ValueError("--max-atoms is for molecules")
    if options.valid is not None and options.valid not in RULES:
        raise ValueError(f"--valid must be one of {', '.join(RULES)}, got {options.valid}")
    return KERNELS[name]


def _check_name(name: str) -> None:
    """What is neither a set nor a file is told with the names there are; more is told by what reads it."""
    key = name.lower().replace("-", "_")
    known = key in (*FILES, *PROCEDURAL, *_ATLASES)
    if not known and not Path(name).exists() and Path(name).suffix not in (".npz", ".g6"):
        raise ValueError(f"no data set or file '{name}'; names are {', '.join(NAMES)}")


def _read(path: Path, task: GraphTask) -> list[SampleSet]:
    if not path.exists() and not without_part(str(path))[1]:
        raise ValueError(f"no file or folder {path} of samples")
    files = sample_files(path, ".npz", ".g6")
    return [_samples(file, task) for file in files or [path]]


def _samples(path: Path, task: GraphTask) -> SampleSet:
    batch = as_batch(read_graphs(path))
    typed = batch.x is not None or field(batch, "edge_type") is not None
    notes = (_TYPED.format(name=path.name),) if typed else ()
    return SampleSet(path.name, generation.structure(batch), task, notes)


def _of_model(model: GraphVAE, folder: Path, task: GraphTask) -> SavedModel:
    typed, stored = model.models_features or model.edge_types, read_decoding(folder)
    notes = (_TYPED.format(name=folder.name),) if typed else ()
    return SavedModel(task, {} if stored is None else stored.settings, notes)


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


def _write(task: GraphTask, outcome: Outcome, folder: Path, method: str) -> list[Path]:
    arrays, lines = (folder / f"samples-{method}.{suffix}" for suffix in ("npz", "g6"))
    write_graphs(arrays, outcome.samples)
    write_graph6(lines, outcome.samples)
    return [arrays, lines, *save_model(outcome, folder / f"model-{method}")]


def _draw(task: GraphTask, samples: Mapping[str, Any], folder: Path) -> list[Path]:
    valid = RULES[task.rule]
    spread = task.test[:: max(1, len(task.test) // 6)]  # Sets may be in order of size.
    few = {f"{task.name}, test": spread[:6]} | {name: found[:6] for name, found in samples.items()}
    marked = {name: valid(graphs).tolist() for name, graphs in few.items()}
    pictures = [folder / "graphs.png", folder / "statistics.png"]
    title = "" if all(map(all, marked.values())) else f"red edges: not {_rule(task)}"
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


GRAPHS = Kind(
    suits=lambda name: True,
    methods=METHODS,
    usual=("erdos-renyi", "graphvae", "node-latents", "node-hierarchical"),
    draws=5,
    steps=STEPS,
    unsuitable=unsuitable,
    task=_task,
    against=_against,
    read=_read,
    of_model=_of_model,
    table=_table,
    legend=_legend,
    write=_write,
    draw=_draw,
    facts=_facts,
)
