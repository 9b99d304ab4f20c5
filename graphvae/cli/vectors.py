"""`graphvae vectors`: vectors in few numbers, by several methods, and `graphvae vectors figure NAME`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from graphvae import plots
from graphvae.cli.common import Commands, accelerator_of, check_outputs, check_positive, common_options, new_console
from graphvae.cli.figures import FIGURES, Figure
from graphvae.datasets.vectors import Samples, vectors
from graphvae.recipes.reporting import document, write_json
from graphvae.recipes.vectors import METHODS, STEPS, Outcome, Task, check, run, suitable

_LEGEND = """error/vector: squared error of test vectors, summed over features. share: of the variance, that is left.
Methods that are trained choose their epoch on a tenth of the training vectors, never on the test vectors."""


def add_commands(commands: Commands) -> None:
    """Adds `vectors`."""
    parser = commands.add_parser(
        "vectors",
        parents=[common_options()],
        help="autoencoders, PCA, denoising and VAEs on vectors, and their figures",
        description="Reduces vectors to few numbers by several methods and compares them on test vectors. "
        f"'graphvae vectors figure NAME' draws one figure: {', '.join(FIGURES)}.",
    )
    parser.add_argument("figure", nargs="*", metavar="figure NAME", help=f"NAME: {', '.join(FIGURES)}")
    names = "digits, mnist, fashion-mnist, orl-faces, or a csv, npy or npz file (default: digits)"
    parser.add_argument("--dataset", metavar="NAME|FILE", help=names)
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of data sets (default: $GRAPHVAE_DATA, cache)")
    parser.add_argument("--method", action="append", choices=list(METHODS), help="repeatable (default: all)")
    parser.add_argument("--latent", type=int, metavar="D", help="numbers to reduce to (default: by the data's size)")
    parser.add_argument("--steps", type=int, metavar="N", help=f"optimiser steps of each training (default: {STEPS})")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write pictures and result.json here")
    parser.set_defaults(run=_vectors)


def _vectors(options: argparse.Namespace) -> None:
    if options.figure:
        _figure(options)
    else:
        _compare(options)


def _figure(options: argparse.Namespace) -> None:
    name = options.figure[-1]
    if len(options.figure) != 2 or options.figure[0] != "figure" or name not in FIGURES:
        raise ValueError(
            f"expected 'figure NAME' with NAME one of {', '.join(FIGURES)}, got {' '.join(options.figure)}"
        )
    if any(given is not None for given in (options.method, options.latent, options.steps)):
        raise ValueError("--method, --latent and --steps are not for figures, which have their own")
    figure = FIGURES[name]
    if options.dataset is not None and figure.dataset is None:
        raise ValueError(f"--dataset is not for the figure {name}, which makes its own data")
    options.out = options.out or Path("graphvae-figures")
    data = None if figure.dataset is None else vectors(options.dataset or figure.dataset, options.root)
    check_outputs(options)
    rows = _drawn(figure, data, options, path := options.out / f"{name}.png")
    protocol = {"figure": name} | ({} if data is None else _facts(data))
    result = document(options.command, protocol, options.seed, rows)
    write_json(result, options.json or options.out / f"{name}.json")
    console = new_console()
    for row in rows:
        console.print(", ".join(f"{key} {_short(value)}" for key, value in row.items()), soft_wrap=True)
    console.print(f"Picture: {path}", soft_wrap=True)


def _drawn(figure: Figure, data: Samples | None, options: argparse.Namespace, path: Path) -> list[dict[str, Any]]:
    accelerator = accelerator_of(options.device)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        return figure.draw(data, options.seed, accelerator, progress, path)


def _compare(options: argparse.Namespace) -> None:
    check_positive(options, "latent", "steps")
    accelerator = accelerator_of(options.device)
    data = vectors(options.dataset or "digits", options.root)
    task = Task(data, options.seed, accelerator, options.latent, steps=options.steps or STEPS)
    methods = list(dict.fromkeys(options.method or suitable(data)))
    for method in methods:
        check(method, task)
    check_outputs(options)
    outcomes = _outcomes(methods, task)
    rows = [{"method": method} | outcome.numbers for method, outcome in outcomes.items()]
    console = new_console()
    console.print(_table(rows, data))
    console.print(_LEGEND)
    if options.method is None and len(methods) < len(METHODS):
        console.print("Left out, for values outside [0, 1]: logistic-pca.")
    result = document(options.command, _facts(data) | {"steps": task.steps}, options.seed, rows)
    if options.json is not None:
        write_json(result, options.json)
    if options.out is not None:
        write_json(result, options.out / "result.json")
        picture = options.out / "vectors.png"
        plots.reconstructions(data, outcomes, picture)
        console.print(f"Picture: {picture}", soft_wrap=True)


def _outcomes(methods: Sequence[str], task: Task) -> dict[str, Outcome]:
    outcomes: dict[str, Outcome] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        total = progress.add_task("", total=len(methods))
        for method in methods:
            progress.update(total, description=method)
            outcomes[method] = run(method, replace(task, progress=progress))
            progress.advance(total)
    return outcomes


def _table(rows: list[dict[str, Any]], data: Samples) -> Table:
    variance = (data.test - data.train.mean(0)).square().sum(1).mean().item()
    title = f"{data.name}: {len(data.train)} vectors of {data.train.size(1)} for training, {len(data.test)} for testing"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("latent", "error/vector", "share", "ELBO", "epoch", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        error = row["squared_error"]
        share = f"{error / variance:.1%}" if variance > 0 else "-"
        cells = [f"{row['latent']:.0f}", f"{error:.4g}", share, _short(row.get("elbo"))]
        table.add_row(row["method"], *cells, _short(row.get("best_epoch")), f"{row['seconds']:.0f}")
    return table


def _short(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(map(_short, value)) + ")"
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(data: Samples) -> dict[str, Any]:
    return {
        "dataset": data.name,
        "source": data.source,
        "train": len(data.train),
        "test": len(data.test),
        "features": data.train.size(1),
        "selection": "epoch by validation on a tenth of the training vectors; never on test",
        "threads": torch.get_num_threads(),
    }
