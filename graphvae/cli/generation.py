"""`graphvae generate` and `graphvae evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from graphvae.checkpoints import load, save
from graphvae.cli.common import Commands, accelerator_of, check_outputs, common_options, new_console
from graphvae.cli.graph_kind import GRAPHS, KERNELS, NAMES
from graphvae.cli.kinds import Kind, new_table, short
from graphvae.cli.molecule_kind import MOLECULES
from graphvae.datasets.molecules import DATASETS
from graphvae.model import GraphVAE
from graphvae.recipes.comparison import Honesty, Outcome, Row, Run, Task, compare, drawn, finite, pooled
from graphvae.recipes.generation import RULES
from graphvae.recipes.reporting import document, write_json

KINDS = (MOLECULES, GRAPHS)  # Asked in turn whether a data set is theirs; the last takes what is left.
_COSTS = """s: of training. nats: a bound on log p of a test graph, symmetrised over numberings (of erdos-renyi exact).
KL: nats per test graph. active: how many dimensions of the latents vary over test graphs."""


def add_commands(commands: Commands) -> None:
    """Adds `generate` and `evaluate`."""
    names = f"{', '.join(NAMES)}; molecules: {', '.join(DATASETS)}; or a file of graphs or of SMILES"
    generate = commands.add_parser(
        "generate",
        parents=[common_options()],
        help="train generators of small graphs and judge their samples",
        description="Trains methods on a set of small graphs, draws from them, and judges the draws.",
    )
    generate.add_argument("--dataset", default="atlas", metavar="NAME|FILE", help=f"{names} (default: atlas)")
    generate.add_argument("--method", action="append", metavar="NAME", help="repeatable (default: some that suit)")
    steps = f"optimiser steps of a training (default: {GRAPHS.steps}; for molecules by method)"
    generate.add_argument("--steps", type=int, metavar="N", help=steps)
    draws = f"how often samples are drawn (default: {GRAPHS.draws}; of molecules {MOLECULES.draws})"
    generate.add_argument("--draws", type=int, metavar="K", help=draws)
    _add_common(generate, "graphs in each draw (default: as many as there are test graphs)")
    generate.add_argument(
        "--out", type=Path, metavar="DIR", help="write pictures, samples, models and result.json here"
    )
    generate.set_defaults(run=_generate)

    evaluate = commands.add_parser(
        "evaluate",
        parents=[common_options()],
        help="judge anybody's samples of graphs",
        description="Judges samples against test graphs and training graphs.",
    )
    evaluate.add_argument(
        "samples", type=Path, metavar="SAMPLES", help="a file of graphs, or the folder of a saved model"
    )
    evaluate.add_argument(
        "--reference",
        required=True,
        metavar="DATA",
        help="test graphs: the test part of a name or file, or the part in NAME:PART; with --train all of it",
    )
    evaluate.add_argument("--train", metavar="DATA", help="training graphs (default: the train part of the reference)")
    _add_common(evaluate, "graphs to draw from a saved model (default: as many as in the reference)")
    evaluate.add_argument(
        "--most-likely", action="store_true", help="decode each latent of a saved model to its likeliest graph"
    )
    evaluate.set_defaults(run=_evaluate, out=None)


def _add_common(parser: argparse.ArgumentParser, num_graphs: str) -> None:
    parser.add_argument("--num-graphs", type=int, metavar="M", help=num_graphs)
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of data sets (default: $GRAPHVAE_DATA, cache)")
    parser.add_argument("--kernel", metavar="NAME", help=f"of the MMDs: {', '.join(KERNELS)} (default: tv)")
    valid = f"which graphs are valid: {', '.join(RULES)} (default: by the data set)"
    parser.add_argument("--valid", metavar="RULE", help=valid)


def _generate(options: argparse.Namespace) -> None:
    _check_positive(options, "num_graphs", "draws", "steps")
    accelerator, kind = accelerator_of(options.device), _kind_of(options.dataset)
    task = kind.task(options)
    methods, left_out = _chosen(options.method, kind, task)
    check_outputs(options)
    size, draws, console = options.num_graphs or task.size, options.draws or kind.draws, new_console()
    run = Run(options.seed, accelerator, steps=options.steps)
    honesty, outcomes = _run_all(methods, kind, task, run, draws, size)
    rows = finite([*honesty.rows, *(outcome.row for outcome in outcomes.values())])
    console.print(kind.table(task, rows, f"{options.dataset}: {draws} draw{'s' * (draws > 1)} of {size} graphs"))
    console.print(kind.legend(task, honesty.test_in_train))
    console.print(_costs([row for row in rows if "seconds" in row]))
    console.print("\n".join([_COSTS, *left_out]))
    protocol = {"dataset": options.dataset, "draws": draws, "graphs_per_draw": size}
    protocol |= {"steps": options.steps or kind.steps, "device": str(accelerator.device)}
    result = _result(options, kind, task, protocol, honesty, rows)
    if options.out is not None:
        write_json(result, options.out / "result.json")
        _write_all(kind, task, outcomes, options.out, console)


def _kind_of(dataset: str) -> Kind:
    return next(kind for kind in KINDS if kind.suits(dataset))


def _evaluate(options: argparse.Namespace) -> None:
    _check_positive(options, "num_graphs")
    device, kind = accelerator_of(options.device).device, _kind_of(options.reference)
    task = kind.against(options)
    samples = _samples(options, kind, task, device)
    check_outputs(options)
    console, count = new_console(), len(samples)
    with console.status("judging"):
        found = pooled([task.evaluate(samples, torch.Generator().manual_seed(options.seed))], task.shares)
        honesty = task.honesty(1, count, options.seed)
    rows = finite([*honesty.rows, {"method": options.samples.name, **found}])
    console.print(kind.table(task, rows, f"{options.samples}: {count} graphs, against {options.reference}"))
    console.print(kind.legend(task, honesty.test_in_train))
    protocol = {"samples": str(options.samples), "reference": options.reference, "train_set": options.train}
    _result(options, kind, task, protocol, honesty, rows)


def _samples(options: argparse.Namespace, kind: Kind, task: Task, device: torch.device) -> Any:
    if not (options.samples / "model.json").exists():
        if options.num_graphs is not None:
            raise ValueError("--num-graphs is for SAMPLES that are a saved model; all graphs of a file are judged")
        return kind.read(options.samples)
    model = load(options.samples, device)
    if not isinstance(model, GraphVAE):
        raise ValueError(f"SAMPLES must be graphs or a saved GraphVAE, {options.samples} holds {type(model).__name__}")
    sample = partial(model.sample, most_likely=True) if options.most_likely else model.sample
    return drawn(sample, options.num_graphs or task.size, torch.Generator().manual_seed(options.seed))


def _check_positive(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")


def _chosen(asked: Sequence[str] | None, kind: Kind, task: Task) -> tuple[list[str], list[str]]:
    """Methods to run, and why some of the usual ones are not among them.

    Raises:
        ValueError: A method that was asked for does not exist, or is not for these graphs.
    """
    for method in asked or ():
        if method not in kind.methods:
            raise ValueError(f"--method must be one of {', '.join(kind.methods)}, got {method}")
        if why := kind.unsuitable(method, task):
            raise ValueError(why)
    methods = list(dict.fromkeys(asked or kind.usual))
    left_out = [why for method in methods if (why := kind.unsuitable(method, task))]
    return [method for method in methods if not kind.unsuitable(method, task)], [
        f"Left out: {why}." for why in left_out
    ]


def _run_all(
    methods: Sequence[str], kind: Kind, task: Task, run: Run, draws: int, size: int
) -> tuple[Honesty, dict[str, Outcome]]:
    outcomes: dict[str, Outcome] = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        total = progress.add_task("training set and oracle", total=len(methods) + 1)
        honesty = task.honesty(draws, size, run.seed)
        progress.advance(total)
        for method in methods:
            progress.update(total, description=method)
            shown = Run(run.seed, run.accelerator, progress, run.steps)
            outcomes[method] = compare(method, kind.methods[method], task, shown, draws, size)
            progress.advance(total)
    return honesty, outcomes


def _costs(rows: Sequence[Row]) -> Any:
    table = new_table("Training, sampling, latents", "method", "s", "epoch", "graphs/s", "nats", "KL", "active", "of")
    for row in rows:
        epochs = f"{row.get('best_epoch') or row['epochs']}/{row['epochs']}" if "epochs" in row else "-"
        rate = f"{row['graphs_per_second']:,.0f}"
        latents = [short(row.get("bound"), ".1f"), short(row.get("kl"), ".1f")]
        units = [short(row.get(name), ".0f") for name in ("active_units", "latent")]
        table.add_row(row["method"], f"{row['seconds']:.0f}", epochs, rate, *latents, *units)
    return table


def _result(
    options: argparse.Namespace, kind: Kind, task: Task, protocol: Row, honesty: Honesty, rows: list[Row]
) -> dict[str, Any]:
    protocol = protocol | kind.facts(task) | {"test_isomorphic_to_train": honesty.test_in_train}
    result = document(options.command, protocol, options.seed, rows)
    if options.json is not None:
        write_json(result, options.json)
    return result


def _write_all(kind: Kind, task: Task, outcomes: dict[str, Outcome], folder: Path, console: Console) -> None:
    for method, outcome in outcomes.items():
        kind.write(task, outcome.samples, folder, method)
        if outcome.fitted.model is not None:
            save(outcome.fitted.model, folder / f"model-{method}")
    pictures = kind.draw(task, {method: outcome.samples for method, outcome in outcomes.items()}, folder)
    console.print(f"Samples and models: {folder}; pictures: {', '.join(map(str, pictures))}", soft_wrap=True)
