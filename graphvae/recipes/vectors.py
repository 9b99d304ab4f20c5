"""Vectors in few numbers: principal components, logistic PCA, a deep autoencoder, a VAE, each one function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from graphvae.bounds import elbo
from graphvae.datasets.vectors import Samples
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.evaluation.vectors import active_units, batches_of, reconstructions, squared_error
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures, LearnedScale
from graphvae.linear import exact_pca, linear_autoencoder
from graphvae.linear.models import weights_of
from graphvae.model import GraphVAE
from graphvae.objectives import reconstruction
from graphvae.priors import StandardNormal
from graphvae.recipes.distortions import Distortion, of_distorted
from graphvae.recipes.measuring import measured
from graphvae.recipes.seeded import seeded
from graphvae.sources import batch_sizes, epochs_of
from graphvae.training import Objective, Validation, fit

STEPS, BATCH, RATE = 3000, 100, 5e-3
_SMALLEST_IMAGE = 16
_HELD_OUT = 0.1  # Of the training vectors, to choose the epoch by.


@dataclass(frozen=True)
class Units:
    """What a model sees of a vector x: (x - offset) / scale. Grey values in [0, 1] are left as they are.

    Attributes:
        offset: `(F,)`.
        scale: One number for all features, so that errors are told in the units of the data.
    """

    offset: Tensor
    scale: float

    @classmethod
    def of(cls, samples: Samples) -> Units:
        """Centred by the training vectors, whose features are then 1 in the quadratic mean."""
        x = samples.train
        if grey(samples):
            return cls(torch.zeros(x.size(1)), 1.0)
        offset = x.mean(0)
        scale = (x - offset).square().mean().sqrt().item()
        if not math.isfinite(scale):
            raise ValueError(
                f"{samples.name} must have values whose squares are finite in float32, rescale its columns"
            )
        return cls(offset, scale or 1.0)

    def inside(self, x: Tensor) -> Tensor:
        """As the model sees it."""
        return x if self.scale == 1.0 and not self.offset.any() else (x - self.offset) / self.scale

    def outside(self, x: Tensor) -> Tensor:
        """In the units of the data."""
        return x * self.scale + self.offset


@dataclass(frozen=True)
class Task:
    """What a method is given.

    Attributes:
        samples: Of which it may see `train` alone, and of `test` whether its values too are in [0, 1].
        seed: Of initialisation, of training, and of the tenth of `train` that is held out to choose the epoch.
        accelerator: Device to train on.
        latent: Numbers that a vector is reduced to; by default as `latent_of` says.
        widths: Of the hidden layers of deep encoders; decoders are their mirror images. By default as `widths_of` says.
        steps: Optimiser steps of a training, rounded to whole epochs.
        progress: Bar to report to, if any.
    """

    samples: Samples
    seed: int
    accelerator: Accelerator
    latent: int | None = None
    widths: Sequence[int] | None = None
    steps: int = STEPS
    progress: Progress | bool = False


@dataclass(frozen=True)
class Outcome:
    """What a method returns.

    Attributes:
        model: Trained; of vectors in `units`.
        units: Of the model.
        numbers: `squared_error`, the mean over the test vectors of the squared error summed over features, and others.
        reconstructed: `(M, F)`, the test vectors from their latents.
        latents: `(M, D)` of the test vectors.
    """

    model: GraphVAE
    units: Units
    numbers: dict[str, float]
    reconstructed: Tensor
    latents: Tensor


def grey(samples: Samples) -> bool:
    """Whether all values are in [0, 1], so that a Bernoulli's mean can be any of them."""
    return all(bool(((part >= 0) & (part <= 1)).all()) for part in (samples.train, samples.test))


def latent_of(features: int) -> int:
    """A sixth of the features, at most 30, the number of the classical comparison on digits."""
    return min(30, max(1, features // 6))


def widths_of(features: int) -> tuple[int, int]:
    """500-250 for images of digits (784), less for shorter vectors."""
    return min(500, max(64, 4 * features)), min(250, max(32, 2 * features))


def pca(task: Task) -> Outcome:
    """The principal components of all training vectors: the best that a linear autoencoder can do on them."""
    samples, units, latent = task.samples, Units.of(task.samples), _latent(task)
    x = units.inside(samples.train)
    components, mean = exact_pca(x.double(), latent).directions.to(x), x.mean(0)
    model = linear_autoencoder(x.size(1), latent)
    weights = weights_of(model)
    with torch.no_grad():
        weights.encoding.copy_(components)
        weights.encoder.bias.copy_(-components @ mean)
        weights.decoding.copy_(components.T)
        weights.decoder.bias.copy_(mean)
    return _outcome(model.eval().to(task.accelerator.device), task, {})


def logistic_pca(task: Task) -> Outcome:
    """A linear code and a linear decoder of log-odds: PCA for grey values as probabilities; needs values in [0, 1]."""
    width, latent = task.samples.train.size(1), _latent(task)
    with seeded(task.seed):
        encoder = PointEncoder(nn.Identity(), width, latent)
        model = GraphVAE(StandardNormal(latent), encoder, features=_features(task, nn.Identity(), latent))
    return _trained(model, task, reconstruction, _error_on)


def autoencoder(task: Task) -> Outcome:
    """A deep autoencoder, trained on distorted images where there are large ones; the epoch of least error."""
    with seeded(task.seed):
        shape = _shape(task)
        encoder = PointEncoder(_network(shape[:-1]), shape[-2], shape[-1])
        features = _features(task, _network(shape[:0:-1]), shape[1])
        model = GraphVAE(StandardNormal(shape[-1]), encoder, features=features)
    return _trained(model, task, _augmented(reconstruction, task), _error_on)


def vae(task: Task) -> Outcome:
    """A VAE of the same networks, trained as the autoencoder but on the ELBO; reconstructed from posterior means."""
    with seeded(task.seed):
        shape = _shape(task)
        encoder = NormalEncoder(_network(shape[:-1]), shape[-2], shape[-1])
        features = _features(task, _network(shape[:0:-1]), shape[1], LearnedScale())
        model = GraphVAE(StandardNormal(shape[-1]), encoder, features=features)
    outcome = _trained(model, task, _augmented(elbo, task), _elbo_on)
    test = outcome.units.inside(task.samples.test)
    with seeded(task.seed):
        # A density per unit of the model's scale, of which each of the F units of the data is one over scale.
        outcome.numbers["elbo"] = _mean_elbo(outcome.model, test) - test.size(1) * math.log(outcome.units.scale)
    outcome.numbers["active_units"] = float(active_units(outcome.model, test).sum())
    return outcome


METHODS: dict[str, Callable[[Task], Outcome]] = {
    "pca": pca,
    "logistic-pca": logistic_pca,
    "autoencoder": autoencoder,
    "vae": vae,
}


def suitable(samples: Samples) -> list[str]:
    """The methods that these vectors allow: logistic PCA needs grey values."""
    return [method for method in METHODS if method != "logistic-pca" or grey(samples)]


def check(method: str, task: Task) -> None:
    """Checks a task before any training.

    Raises:
        ValueError: The method is not for these vectors, or they do not allow so many latents.
    """
    if method not in suitable(task.samples):
        raise ValueError(f"{method} needs values in [0, 1], which {task.samples.name} does not keep to; use pca")
    Units.of(task.samples)
    _latent(task)


def run(method: str, task: Task) -> Outcome:
    """Trains `method` and measures it on the test vectors; `numbers` have the cost too.

    Raises:
        ValueError: As `check`.
    """
    check(method, task)
    with measured(task.accelerator.device) as cost:
        outcome = METHODS[method](task)
    outcome.numbers.update(cost)
    return outcome


def _latent(task: Task) -> int:
    rows, features = task.samples.train.shape
    latent = task.latent or min(latent_of(features), rows - 1)
    if not 0 < latent <= min(rows, features):
        raise ValueError(
            f"'latent' must be at most {min(rows, features)} for {rows} vectors of {features}, got {latent}"
        )
    return latent


def _shape(task: Task) -> list[int]:
    """The widths from the vector to the code."""
    features = task.samples.train.size(1)
    return [features, *(task.widths or widths_of(features)), _latent(task)]


def _network(widths: Sequence[int]) -> nn.Sequential:
    layers = [layer for ends in pairwise(widths) for layer in (nn.Linear(*ends), nn.ELU())]
    return nn.Sequential(*layers)


def _features(
    task: Task, backbone: nn.Module, hidden: int, scale: nn.Module | None = None
) -> BernoulliFeatures | GaussianFeatures:
    """Starts at the mean of the training vectors, which the network would otherwise take long to find."""
    x = Units.of(task.samples).inside(task.samples.train)
    if not grey(task.samples):
        gaussian = GaussianFeatures(backbone, hidden, x.size(1), scale or FixedScale(math.sqrt(0.5)))
        nn.init.zeros_(gaussian.loc.bias)
        return gaussian
    bernoulli = BernoulliFeatures(backbone, hidden, x.size(1), intensities=True)
    with torch.no_grad():
        bernoulli.logits.bias.copy_(x.mean(0).clamp(0.003, 0.997).logit())
    return bernoulli


def _augmented(objective: Objective, task: Task) -> Objective:
    # Interpolation blurs small images: on the 8 x 8 digits it cost more (validation error 0.86) than it gave (0.51).
    image = task.samples.image
    large = image is not None and min(image) >= _SMALLEST_IMAGE
    return of_distorted(objective, Distortion(image)) if image and large and grey(task.samples) else objective


def _trained(model: GraphVAE, task: Task, objective: Objective, score: Callable[..., float]) -> Outcome:
    x = Units.of(task.samples).inside(task.samples.train)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(task.seed))
    held_out, train = x[order].tensor_split([max(1, round(_HELD_OUT * len(x)))])
    epochs = epochs_of(task.steps, len(train), BATCH)
    optimizer = Adam(model.parameters(), RATE, fused=True)
    steps = max(100, epochs * len(batch_sizes(len(train), BATCH)))  # A cycle has no room in fewer.
    scheduler = OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
    history = fit(
        model,
        train,
        objective,
        epochs=epochs,
        batch_size=BATCH,
        optimizer=optimizer,
        scheduler=scheduler,
        validation=Validation(lambda m: score(m, held_out), every=max(1, epochs // 20)),
        seed=task.seed,
        progress=task.progress,
        accelerator=task.accelerator,
    )
    numbers = {"epochs": float(epochs), "best_epoch": float(history.best_epoch or 0)}
    return _outcome(model, task, numbers | {"validation_score": max(history.scores.values())})


def _error_on(model: GraphVAE, held_out: Tensor) -> float:
    return -squared_error(model, held_out).mean().item()


def _elbo_on(model: GraphVAE, held_out: Tensor) -> float:
    """With the same noise at every epoch, so that epochs differ by their weights alone."""
    with seeded(0):
        return _mean_elbo(model, held_out)


@torch.no_grad()
def _mean_elbo(model: GraphVAE, x: Tensor) -> float:
    return torch.cat([elbo(model, part) for part in batches_of(model, x, 1024)]).mean().item()


@torch.no_grad()
def _outcome(model: GraphVAE, task: Task, numbers: dict[str, Any]) -> Outcome:
    units, test = Units.of(task.samples), task.samples.test
    reconstructed = units.outside(reconstructions(model, units.inside(test)).cpu())
    latents = torch.cat([model.posterior(part).mean for part in batches_of(model, units.inside(test), 1024)]).cpu()
    error = (reconstructed - test).square().sum(1).mean().item()
    shown = {"latent": float(latents.size(1)), "squared_error": error}
    return Outcome(model, units, shown | numbers, reconstructed, latents)
