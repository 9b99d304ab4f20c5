"""`graphvae generate`: methods trained on a set of small graphs or molecules, and their samples judged."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from graphvae.cli.common import Commands, accelerator_of, check_outputs, check_positive, common_options, new_console
from graphvae.cli.decoding import in_words
from graphvae.cli.graph_kind import GRAPHS, NAMES
from graphvae.cli.kinds import Kind, new_table, short
from graphvae.cli.molecule_kind import MOLECULES
from graphvae.cli.outputs import RESULT, earlier_files, listed, remove
from graphvae.cli.shared import add_data_options, kind_of, result_of
from graphvae.datasets.molecules import DATASETS
from graphvae.recipes.comparison import Honesty, Outcome, Row, Run, Task, compare, finite
from graphvae.recipes.reporting import write_json


def add_commands(commands: Commands) -> None:
    """Adds `generate`."""
    names = f"{', '.join(NAMES)}; molecules: {', '.join(DATASETS)}; or a file of graphs or of SMILES"
    parser = commands.add_parser(
        "generate",
        parents=[common_options("of initialisation, training and sampling")],
        help="train generators of small graphs and judge their samples",
        description="Trains methods on a set of small graphs, draws from them, and judges the draws.",
    )
    parser.add_argument("--dataset", default="atlas", metavar="NAME|FILE", help=f"{names} (default: atlas)")
    parser.add_argument("--method", action="append", metavar="NAME", help="repeatable (default: some that suit)")
    default = f"default: {GRAPHS.steps}; for molecules by method"
    steps = f"optimiser steps of a training, rounded to whole epochs, at least one ({default})"
    parser.add_argument("--steps", type=int, metavar="N", help=steps)
    draws = f"how often samples are drawn (default: {GRAPHS.draws}; of molecules {MOLECULES.draws})"
    parser.add_argument("--draws", type=int, metavar="K", help=draws)
    add_data_options(parser, "graphs in each draw (default: as many as there are test graphs)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write pictures, samples, models and result.json here")
    parser.add_argument("--overwrite", action="store_true", help="remove the files of an earlier run from --out")
    parser.set_defaults(run=_generate)


def _generate(options: argparse.Namespace) -> None:
    check_positive(options, "num_graphs", "draws", "steps", "max_atoms")
    accelerator, kind = accelerator_of(options.device), kind_of(options.dataset)
    task = kind.task(options)
    methods, left_out = _chosen(options.method, kind, task)
    earlier = [] if options.out is None else earlier_files(options.out, options.overwrite)
    check_outputs(options)
    size, draws, console = options.num_graphs or task.size, options.draws or kind.draws, new_console()
    run = Run(options.seed, accelerator, steps=options.steps)
    honesty, outcomes = _run_all(methods, kind, task, run, draws, size)
    rows = finite([*honesty.rows, *(outcome.row for outcome in outcomes.values())])
    console.print(kind.table(task, rows, f"{options.dataset}: {draws} draw{'s' * (draws > 1)} of {size} graphs"))
    console.print("\n".join([kind.legend(task, honesty.test_in_train), *_decodings(outcomes)]))
    trained = [row for row in rows if "seconds" in row]
    console.print(_costs(trained))
    console.print("\n".join([_of_costs(trained), *left_out]))
    protocol = {"dataset": options.dataset, "draws": draws, "graphs_per_draw": size}
    protocol |= {"steps": options.steps or kind.steps, "device": str(accelerator.device)}
    result = result_of(options, kind, task, protocol, honesty, rows)
    if options.out is not None:
        remove(earlier, options.out)
        _write_all(kind, task, outcomes, result, options.out, console)


def _decodings(outcomes: dict[str, Outcome]) -> list[str]:
    decoded = {method: outcome.fitted.decoding for method, outcome in outcomes.items()}
    return [in_words(method, decoding) for method, decoding in decoded.items() if decoding]


def _chosen(asked: Sequence[str] | None, kind: Kind, task: Task) -> tuple[list[str], list[str]]:
    """Methods to run, and why some of the usual ones are not among them.

    Raises:
        ValueError: A method that was asked for does not exist, or is not for these graphs.
    """
    for method in asked or ():
        if method not in kind.methods:
            raise ValueError(f"--method must be one of {', '.join(kind.methods)}, got {method}")
    reasons = {method: kind.unsuitable(method, task) for method in asked or kind.usual}
    left_out = [why for why in reasons.values() if why]
    if asked and left_out:
        raise ValueError(left_out[0])
    return [method for method, why in reasons.items() if not why], [f"Left out: {why}." for why in left_out]


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
    columns = ["s", "epoch", "graphs/s", *["nats"] * _have(rows, "bound"), *["KL", "active", "of"] * _have(rows, "kl")]
    table = new_table("Training, sampling, latents", "method", *columns)
    for row in rows:
        epochs = f"{row.get('best_epoch') or row['epochs']}/{row['epochs']}" if "epochs" in row else "-"
        cells = {"s": f"{row['seconds']:.0f}", "epoch": epochs, "graphs/s": f"{row['graphs_per_second']:,.0f}"}
        cells |= {"nats": short(row.get("bound"), ".1f"), "KL": short(row.get("kl"), ".1f")}
        cells |= {"active": short(row.get("active_units"), ".0f"), "of": short(row.get("latent"), ".0f")}
        table.add_row(row["method"], *(cells[name] for name in columns))
    return table


def _have(rows: Sequence[Row], name: str) -> bool:
    return any(row.get(name) is not None for row in rows)


def _of_costs(rows: Sequence[Row]) -> str:
    """The legend of what is in the table."""
    lines = ["s: of training."]
    if _have(rows, "bound"):
        exact = " (of erdos-renyi exact)" if any(row["method"] == "erdos-renyi" for row in rows) else ""
        lines[0] += f" nats: a bound on log p of a test graph, symmetrised over numberings{exact}."
    if _have(rows, "kl"):
        lines.append("KL: nats per test graph. active: how many dimensions of the latents vary over test graphs.")
    return "\n".join(lines)


def _write_all(
    kind: Kind, task: Task, outcomes: dict[str, Outcome], result: dict[str, Any], folder: Path, console: Console
) -> None:
    """Samples and models, the result, then pictures; at last the result again, which lists all files of the run."""
    files = [file for method, outcome in outcomes.items() for file in kind.write(task, outcome, folder, method)]
    write_json(result | {"files": listed(files, folder)}, folder / RESULT)
    pictures = kind.draw(task, {method: outcome.samples for method, outcome in outcomes.items()}, folder)
    write_json(result | {"files": listed([*files, *pictures], folder)}, folder / RESULT)
    console.print(f"Samples and models: {folder}; pictures: {', '.join(map(str, pictures))}", soft_wrap=True)
