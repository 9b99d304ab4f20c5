"""Denoising autoencoders: their score against the exact one, on a mixture and a spiral; digits without their noise.

Usage: python benchmarks/13_denoising/run.py [--seeds 0 1 2] [--parts mixture spiral digits] [--out DIR]
Writes mixture.json, spiral.json and digits.json to results/ beside this file. One thread; needs no download.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from graphvae.corruptions import GaussianNoise, MaskingNoise, SaltAndPepper
from graphvae.recipes.denoising import DIGITS_PLAN, MIXTURE_PLAN, SPIRAL_NOISE, SPIRAL_PLAN, digits, mixture, spiral
from graphvae.recipes.measuring import measured
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
NOISES = (0.1, 0.3, 0.5)
CORRUPTIONS = (GaussianNoise(0.3), MaskingNoise(0.5), SaltAndPepper(0.3))
Row = dict[str, Any]


def timed(row: Row, numbers: Callable[[], dict[str, float]]) -> Row:
    """The row with the numbers, and the seconds they took."""
    with measured(torch.device("cpu")) as cost:
        found = numbers()
    done = row | found | {"seconds": cost["seconds"]}
    print(done, flush=True)
    return done


def mixture_rows(seed: int, accelerator: Accelerator) -> list[Row]:
    """Each noise, each parameterisation."""
    return [
        timed(
            {"seed": seed, "noise": noise, "parameterisation": "residual" if through_score else "direct"},
            lambda noise=noise, through_score=through_score: mixture(
                noise, through_score, seed, accelerator=accelerator
            ),
        )
        for noise in NOISES
        for through_score in (True, False)
    ]


def spiral_rows(seed: int, accelerator: Accelerator) -> list[Row]:
    """One field."""
    return [timed({"seed": seed, "noise": SPIRAL_NOISE}, lambda: spiral(seed, accelerator=accelerator).numbers)]


def digits_rows(seed: int, accelerator: Accelerator) -> list[Row]:
    """Each corruption."""
    return [
        timed(
            {"seed": seed, "corruption": repr(corruption)},
            lambda corruption=corruption: digits(corruption, seed=seed, accelerator=accelerator).numbers,
        )
        for corruption in CORRUPTIONS
    ]


PARTS = {
    "mixture": (
        mixture_rows,
        asdict(MIXTURE_PLAN),
        "three Gaussians in the plane, 50,000 draws; judged at 20,000 fresh draws of p_σ; relative error: mean squared "
        "difference over mean squared length of the exact score; to_clean: against the score of p, not of p_σ",
    ),
    "spiral": (
        spiral_rows,
        asdict(SPIRAL_PLAN),
        "4,096 points of a spiral, p_σ a mixture of 4,096; judged at the points of a 121 x 121 grid within 3σ of it; "
        "learned, exact: the share of arrows that lead nearer to the curve",
    ),
    "digits": (
        digits_rows,
        asdict(DIGITS_PLAN),
        "digits of scikit-learn, 1,400 for training and 397 for testing, pixels in [0, 1]; mean PSNR in decibels of "
        "test images, clipped to [0, 1]; linear: least squares on 100 corrupted copies of the training images",
    ),
}


def main() -> None:
    """Runs the parts named, for all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=PARTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(exist_ok=True, parents=True)
    accelerator = Accelerator(cpu=True)
    for part in arguments.parts:
        rows_of, plan, judged = PARTS[part]
        rows = [row for seed in arguments.seeds for row in rows_of(seed, accelerator)]
        protocol = {"data and judgement": judged, "training": plan | {"optimiser": "Adam, cosine to zero"}}
        content = document("benchmarks/13_denoising", protocol, arguments.seeds[0], rows)
        write_json(content, arguments.out / f"{part}.json")


if __name__ == "__main__":
    main()
