"""`graphvae demo` and `graphvae link-prediction`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch_geometric.data import Data

from graphvae import plots
from graphvae.cli.common import Commands, accelerator_of, check_outputs, check_positive, common_options, new_console
from graphvae.datasets import LinkSplit, citation, standard_library
from graphvae.graphs import as_batch
from graphvae.recipes import link_prediction
from graphvae.recipes.link_prediction import METHODS, Outcome, Task
from graphvae.recipes.reporting import document, write_json
from graphvae.resuming import digest

_COLUMNS = ("auc", "ap", "hits@100", "mrr")
_IMPORTS = "stdlib-imports"
_LEGEND = """expected/true: edges that the model, as trained, expects among all hidden pairs, over those there are.
nats/1000: log-likelihood of 1000 hidden pairs, with the known weight of the training objective undone.
'-': undefined; scores that are no probabilities, or fewer than 100 non-edges for Hits@100."""


def add_commands(commands: Commands) -> None:
    """Adds `demo` and `link-prediction`."""
    demo = commands.add_parser(
        "demo", parents=[common_options()], help="link prediction on data that needs no download"
    )
    demo.add_argument("--out", type=Path, default=Path("graphvae-demo"), metavar="DIR", help="default: graphvae-demo")
    demo.set_defaults(run=_demo)

    links = commands.add_parser(
        "link-prediction", parents=[common_options()], help="predict hidden edges of a large graph"
    )
    links.add_argument("--dataset", required=True, metavar="NAME|FILE", help=_dataset_help())
    links.add_argument("--root", type=Path, metavar="DIR", help="folder of data sets (default: $GRAPHVAE_DATA, cache)")
    links.add_argument("--splits", type=int, default=5, metavar="K", help="random splits (default: 5)")
    links.add_argument("--ratio", default="85/5/10", choices=["85/5/10", "70/10/20"], help="train/val/test in percent")
    links.add_argument("--method", action="append", choices=list(METHODS), help="repeatable (default: all)")
    links.add_argument("--out", type=Path, metavar="DIR", help="write picture, splits and result.json here")
    links.set_defaults(run=_link_prediction)


def _dataset_help() -> str:
    return f"cora, citeseer, pubmed, coauthor-cs, {_IMPORTS}, or an npz file"


def _demo(options: argparse.Namespace) -> None:
    options.splits, options.ratio, options.method = 3, "85/5/10", None
    data = standard_library()
    console = new_console()
    console.print(f"Data: {data.fingerprint}", soft_wrap=True)
    console.print("The modules of Python's standard library, joined where one imports the other. A demonstration,")
    console.print("not a benchmark: never compare scores across fingerprints.")
    _compare(options, data)


def _link_prediction(options: argparse.Namespace) -> None:
    check_positive(options, "splits")
    data = standard_library() if options.dataset == _IMPORTS else citation(options.dataset, options.root)
    _compare(options, data)


def _compare(options: argparse.Namespace, data: Data) -> None:
    accelerator = accelerator_of(options.device)
    first, second, third = (int(share) for share in options.ratio.split("/"))
    seeds = range(options.seed, options.seed + options.splits)
    splits = [LinkSplit.random(data, (first, second, third), seed) for seed in seeds]
    check_outputs(options)
    console = new_console()
    outcomes = _run_all(list(dict.fromkeys(options.method or METHODS)), data, splits, accelerator, console)
    rows = [link_prediction.summarise(method, results) for method, results in outcomes.items()]
    count = f"{options.splits} split{'s' * (options.splits > 1)} {options.ratio}"
    console.print(_table(rows, f"{data.name}, {count}, {'mean±standard deviation, ' * (options.splits > 1)}%"))
    console.print(_LEGEND)
    protocol = _protocol(options, data) | {"device": str(accelerator.device)}
    result = document(options.command, protocol, options.seed, rows)
    if options.json is not None:
        write_json(result, options.json)
    if options.out is not None:
        write_json(result, options.out / "result.json")
        for split in splits:
            split.save(options.out / f"split-{split.seed}.safetensors")
        picture = options.out / "link-prediction.png"
        plots.link_prediction({method: results[0] for method, results in outcomes.items()}, splits[0], data, picture)
        console.print(f"Picture: {picture}", soft_wrap=True)


def _run_all(
    methods: Sequence[str], data: Data, splits: Sequence[LinkSplit], accelerator: Accelerator, console: Console
) -> dict[str, list[Outcome]]:
    outcomes: dict[str, list[Outcome]] = {method: [] for method in methods}
    with Progress(console=console, transient=True) as progress:
        total = progress.add_task("", total=len(methods) * len(splits))
        for split in splits:
            for method in methods:
                progress.update(total, description=f"split {split.seed}, {method}")
                task = Task(split.graph(data), split, split.seed, accelerator, progress)
                outcomes[method].append(link_prediction.run(method, task))
                progress.advance(total)
    return outcomes


def _table(rows: list[dict[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for name in ("AUC", "AP", "Hits@100", "MRR", "expected/true", "nats/1000", "s"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [_cell(row[name], 100, ".1f") for name in _COLUMNS]
        ratio = _cell(row["expected_edges_ratio"], 1, ".2g").partition("±")[0]
        nats = _cell(row["nats_per_pair_unweighted"], 1000, ".2f")
        table.add_row(row["method"], *cells, ratio, nats, _cell(row["seconds"], 1, ".0f").partition("±")[0])
    return table


def _cell(value: dict[str, float | None], factor: float, form: str) -> str:
    if value["mean"] is None:
        return "-"
    spread = "" if value["std"] is None else f"±{value['std'] * factor:{form}}"
    return f"{value['mean'] * factor:{form}}{spread}"


def _protocol(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    return {
        "dataset": data.name,
        "fingerprint": getattr(data, "fingerprint", None) or digest(as_batch(data)),
        "nodes": data.num_nodes,
        "edges": data.num_edges // 2,
        "features": data.num_features,
        "splits": options.splits,
        "ratio": options.ratio,
        "message_passing": "train edges only, in training, validation and testing",
        "negatives": "as many as held-out edges, uniform over pairs not joined in the whole graph, without repeats",
        "selection": "gae, vgae: last epoch; vgae-elbo: best validation AUC; never on test",
        "epochs": link_prediction.EPOCHS,
        "learning_rate": 0.01,
        "hidden": link_prediction.HIDDEN,
        "latent": link_prediction.LATENT,
        "threads": torch.get_num_threads(),
    }
