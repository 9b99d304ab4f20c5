"""MNIST test images from 30 numbers: principal components, logistic PCA, a deep autoencoder 784-500-250-30, a VAE.

Usage: python benchmarks/15_reconstruction/run.py [--seeds 0 1] [--methods NAME ...] [--steps 12000] [--root DIR]
Writes one results/runs/METHOD_SEED.json beside this file for each run, which is not run again, and beside it an npz
file of the first test image of each digit and what the method makes of it; then results/reconstruction.json from all
methods and seeds named. One thread; the images as `graphvae.datasets.vectors("mnist")` finds them, with --root or
GRAPHVAE_DATA. Nothing is chosen by the test images: epochs are by 500 of the training images, settings were too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from graphvae.datasets import Samples, vectors
from graphvae.recipes.reporting import document, write_json
from graphvae.recipes.vectors import METHODS, Task, run

RESULTS = Path(__file__).parent / "results"
LATENT, WIDTHS = 30, (500, 250)


def first_of_each(samples: Samples) -> list[int]:
    """The places of the first test image of each digit."""
    return [int((samples.test_labels == digit).nonzero()[0]) for digit in range(10)]


def one(method: str, seed: int, steps: int, samples: Samples, path: Path) -> None:
    """Trains and measures a method, and writes what was found to `path` and, with the images, beside it."""
    task = Task(samples, seed, Accelerator(cpu=True), LATENT, WIDTHS, steps)
    outcome = run(method, task)
    shown = first_of_each(samples)
    np.savez(path.with_suffix(".npz"), originals=samples.test[shown], reconstructed=outcome.reconstructed[shown])
    row = {"method": method, "seed": seed, **outcome.numbers}
    write_json(document("benchmarks/15_reconstruction", {"steps": steps}, seed, [row]), path)


def main() -> None:
    """Runs what has no result yet, and gathers all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = arguments.out / "runs"
    runs.mkdir(exist_ok=True, parents=True)
    samples, rows = vectors("mnist", arguments.root), []
    for seed in arguments.seeds:
        for method in arguments.methods:
            path = runs / f"{method.replace('-', '_')}_{seed}.json"
            if not path.exists():
                one(method, seed, arguments.steps, samples, path)
            made = json.loads(path.read_text())
            rows.append({"commit": made["commit"], **made["protocol"], **made["rows"][0]})
            print(rows[-1], flush=True)
    protocol = {
        "data": samples.source,
        "squared_error": "summed over the 784 pixels in [0, 1], mean over the 10,000 test images",
        "training": f"all but a tenth of {len(samples.train)} images, distorted anew in every epoch for the deep "
        "networks; the other tenth chooses the epoch. Principal components are of all of them",
        "model": f"784-{'-'.join(map(str, WIDTHS))}-{LATENT} and its mirror image, Bernoulli means",
    }
    content = document("benchmarks/15_reconstruction", protocol, arguments.seeds[0], rows)
    write_json(content, arguments.out / "reconstruction.json")


if __name__ == "__main__":
    main()
