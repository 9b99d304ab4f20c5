"""Molecules of QM9 from the GraphVAE of 2018 and from a one-shot VAE: what share is valid, unique and novel.

Usage: python benchmarks/22_molecules/run.py [--seeds 0] [--methods NAME ...] [--root DIR] [--fcd]
Writes one results/runs/METHOD_SEED.json beside this file for each training, which is not run again, then
results/qm9.json from all there are of these seeds. One thread for each training. The seed is that of the split too. QM9
from the installed package qm9pack, or --root.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from graphvae.datasets import molecules
from graphvae.recipes.comparison import Run, drawn, finite, graphs_per_second
from graphvae.recipes.measuring import measured
from graphvae.recipes.molecule_generators import MoleculeTask, graphvae, one_shot
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
SAMPLES = 10_000
METHODS: dict[str, Callable[[MoleculeTask, Run], Any]] = {
    "GraphVAE of 2018": graphvae,
    "GraphVAE of 2018, weight 0.2": partial(graphvae, beta=0.2),
    "GraphVAE of 2018, weight 0.05": partial(graphvae, beta=0.05),
    "one-shot VAE": one_shot,
    "one-shot VAE, no penalty": partial(one_shot, weight=0.0),
}
DECODED = {  # What else is drawn from the model of a method.
    "as decoded, no tree": {"most_likely": True},
    "drawn from the decoder": {},
}


def run(name: str, seed: int, task: MoleculeTask, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Trains one method, and judges what it draws, decoded in each way."""
    started = time.process_time()
    with measured(accelerator.device) as cost:
        fitted = METHODS[name](task, Run(seed, accelerator))
    cost["cpu_seconds"] = time.process_time() - started
    ways = {name: fitted.sample}
    for way, settings in DECODED.items():
        if "GraphVAE" in name or settings == {}:
            ways[f"{name}, {way}"] = partial(fitted.model.sample, **settings)
    rows = []
    for method, sample in ways.items():
        samples = drawn(sample, SAMPLES, torch.Generator().manual_seed(seed))
        row = {"method": method, "seed": seed, **task.evaluate(samples, torch.Generator().manual_seed(seed))}
        rate = graphs_per_second(sample, 1000, accelerator.device)
        rows.append(finite(row | {"graphs_per_second": rate, **cost, **fitted.numbers}))
        print({key: row[key] for key in ("method", "sanitised", "valid", "unique", "novel", "fcd")}, flush=True)
    return rows


def main() -> None:
    """Runs what has no result yet, and gathers all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--fcd", action="store_true", help="also the Fréchet ChemNet distance, if fcd is installed")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    runs = arguments.out / "runs"
    runs.mkdir(exist_ok=True, parents=True)
    rows, facts = [], {}
    for seed in arguments.seeds:
        task = MoleculeTask(molecules("qm9", arguments.root, seed=seed), fcd=arguments.fcd)
        data = task.data
        facts = {"atoms": list(data.alphabet.atoms), "left_out": data.left_out}
        path = runs / f"honesty_{seed}.json"
        if not path.exists():
            honest = task.honesty(1, SAMPLES, seed)
            found = finite([{**row, "seed": seed, "test_in_train": honest.test_in_train} for row in honest.rows])
            write_json(document("benchmarks/22_molecules", {}, seed, found), path)
        rows += json.loads(path.read_text())["rows"]
        for name in METHODS:
            path = runs / f"{name.replace(',', '').replace('.', '').replace(' ', '_')}_{seed}.json"
            if not path.exists():
                if name not in arguments.methods:
                    continue
                write_json(document("benchmarks/22_molecules", {}, seed, run(name, seed, task, accelerator)), path)
            made = json.loads(path.read_text())
            rows += [{"commit": made["commit"], **row} for row in made["rows"]]
    protocol = {
        "data": "QM9 as in qm9pack 1.0.3, split by seed 80/10/10 over different molecules; trained on train, nothing "
        "is selected, distances to test",
        "samples": SAMPLES,
        "valid": "sanitised by rdkit as generated, and connected; unique is a share of the valid, novel of the unique",
        "GraphVAE of 2018": "recipes.places, latent 40, matching bound, decoded with a spanning tree as published",
        "one-shot VAE": "recipes.molecules, decoded to the most likely graph, no correction",
        "device": str(accelerator.device),
        "threads": torch.get_num_threads(),
        **facts,
    }
    content = document("benchmarks/22_molecules", protocol, arguments.seeds[0], rows)
    write_json(content, arguments.out / "qm9.json")


if __name__ == "__main__":
    main()
