"""The figures of `graphvae vectors figure NAME`: what is trained, how it is drawn, and the numbers it illustrates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from rich.progress import Progress

from graphvae import plots
from graphvae.corruptions import GaussianNoise, MaskingNoise
from graphvae.datasets.vectors import Samples
from graphvae.recipes import components, denoising, latent_space
from graphvae.recipes.vectors import Task, run, suitable

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        draw: `(data, seed, accelerator, progress, path)`; writes the picture and returns the numbers.
        dataset: By default; None if the figure makes its own data.
    """

    draw: Callable[[Any, int, Accelerator, Progress, Path], Rows]
    dataset: str | None


def _components(data: Samples, seed: int, accelerator: Accelerator, progress: Progress, path: Path) -> Rows:
    data = components.reduced(data)
    found = components.compare(data, seed, epochs=components.EPOCHS, accelerator=accelerator, progress=progress)
    plots.components(found, data, path)
    return [{"method": one.name, "smallest cosine": min(one.cosines), "largest angle": one.angle} for one in found]


def _reconstructions(data: Samples, seed: int, accelerator: Accelerator, progress: Progress, path: Path) -> Rows:
    methods: list[str] = [method for method in ("autoencoder", "logistic-pca", "pca") if method in suitable(data)]
    outcomes = {method: run(method, Task(data, seed, accelerator, progress=progress)) for method in methods}
    plots.reconstructions(data, outcomes, path)
    return [{"method": method} | outcome.numbers for method, outcome in outcomes.items()]


def _denoising_field(_: None, seed: int, accelerator: Accelerator, progress: Progress, path: Path) -> Rows:
    field = denoising.spiral(seed, plan=denoising.SPIRAL_PLAN, accelerator=accelerator, progress=progress)
    plots.denoising_field(field, path)
    return [field.numbers]


def _denoised_digits(data: Samples, seed: int, accelerator: Accelerator, progress: Progress, path: Path) -> Rows:
    noises = (GaussianNoise(0.5), MaskingNoise(0.5))
    results = [denoising.digits(noise, data, seed, denoising.DIGITS_PLAN, accelerator, progress) for noise in noises]
    plots.denoised_digits(results, path)
    return [{"noise": str(result.corruption)} | result.numbers for result in results]


def _latent_space(data: Samples, seed: int, accelerator: Accelerator, progress: Progress, path: Path) -> Rows:
    frames = latent_space.develop(data, seed, latent_space.EPOCHS, accelerator, progress)
    plots.latent_space(frames, data, path)
    return [{"epoch": frame.epoch} | frame.numbers for frame in frames]


FIGURES = {
    "components": Figure(_components, "digits"),
    "reconstructions": Figure(_reconstructions, "digits"),
    "denoising-field": Figure(_denoising_field, None),
    "denoised-digits": Figure(_denoised_digits, "digits"),
    "latent-space": Figure(_latent_space, "digits"),
}
