"""Generators of small graphs on published sets: V.U.N. and discrepancies, beside what copying and the oracle score.

Usage: python benchmarks/20_generation/run.py [planar tree community_small atlas] [--seeds 0] [--methods NAME ...]
       [--steps 3000] [--draws 5] [--size M] [--root DIR]
Writes one results/runs/SET_METHOD_SEED.json beside this file for each run, which is not run again, then
results/SET.json from those of all methods and seeds named, below the honesty rows. One thread; data from --root or
GRAPHVAE_DATA.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from graphvae.recipes.comparison import Run, compare, finite
from graphvae.recipes.generation import GraphTask, task
from graphvae.recipes.graph_generators import METHODS, unsuitable
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
SETS = ("planar", "tree", "community_small", "atlas")
NAME = "benchmarks/20_generation"


def honest_rows(dataset: str, given: GraphTask, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """What copying and the process the set is from score, and how much of the test set is in the training set."""
    path = arguments.out / "runs" / f"{dataset}_honesty.json"
    if not path.exists():
        honesty = given.honesty(arguments.draws, arguments.size or given.size, 0)
        rows = [{"test_in_train": honesty.test_in_train, **row} for row in honesty.rows]
        write_json(document(NAME, settings(arguments), 0, finite(rows)), path)
    return made_before(path, arguments)["rows"]


def row_of(dataset: str, method: str, seed: int, given: GraphTask, arguments: argparse.Namespace) -> dict[str, object]:
    """One training, sampled and judged; read if it was run before."""
    path = arguments.out / "runs" / f"{dataset}_{method}_{seed}.json"
    if not path.exists():
        run = Run(seed, Accelerator(cpu=True), steps=arguments.steps)
        outcome = compare(method, METHODS[method], given, run, arguments.draws, arguments.size or given.size)
        write_json(document(NAME, settings(arguments), seed, [finite(outcome.row)]), path)
    made = made_before(path, arguments)
    return {"seed": seed, "commit": made["commit"], **made["rows"][0]}


def made_before(path: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The result in a file, if it was run with the same settings."""
    made = json.loads(path.read_text())
    if made["protocol"] != settings(arguments):
        raise SystemExit(f"{path} was run with other settings, {made['protocol']}; delete it or choose another --out")
    return made


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a run must share with another to stand in one table with it."""
    return {
        "steps": arguments.steps,
        "draws": arguments.draws,
        "graphs_per_draw": arguments.size or "as many as there are for testing",
    }


def run_set(dataset: str, arguments: argparse.Namespace) -> None:
    """Runs what has no result yet, and gathers all of one set."""
    given = task(dataset, arguments.root)
    rows = honest_rows(dataset, given, arguments)
    left_out = [why for method in arguments.methods if (why := unsuitable(method, given))]
    for method in arguments.methods:
        if unsuitable(method, given):
            continue
        for seed in arguments.seeds:
            rows.append(row_of(dataset, method, seed, given, arguments))
            print(dataset, method, seed, {name: rows[-1][name] for name in ("vun", "mmd", "seconds")}, flush=True)
    protocol = settings(arguments) | {
        "data": f"{dataset}, {len(given.train)}, {len(given.val)} and {len(given.test)} graphs for training, choosing "
        "the epoch by the bound, and testing",
        "valid": given.rule,
        "kernels": "total variation",
        "left_out": left_out,
        "device": "cpu, one thread",
    }
    write_json(document(NAME, protocol, arguments.seeds[0], rows), arguments.out / f"{dataset}.json")


def main() -> None:
    """Runs the sets that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--size", type=int, help="graphs in a draw; as many as there are for testing if not given")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    (arguments.out / "runs").mkdir(exist_ok=True, parents=True)
    for dataset in arguments.sets:
        run_set(dataset, arguments)


if __name__ == "__main__":
    main()
