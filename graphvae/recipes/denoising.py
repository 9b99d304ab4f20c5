"""Denoising autoencoders: the score they learn on a mixture, the field of a spiral, digits without their noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from graphvae.corruptions import Corruption, GaussianNoise
from graphvae.datasets.vectors import Samples, vectors
from graphvae.denoisers import ScoreFeatures, Unchanged
from graphvae.encoders import PointEncoder
from graphvae.evaluation.scores import (
    agreement,
    denoised,
    empirical_score,
    learned_score,
    mixture_score,
    noised,
    smallest_error,
)
from graphvae.evaluation.vectors import psnr
from graphvae.features import FixedScale, GaussianFeatures
from graphvae.graphs import edgeless
from graphvae.model import GraphVAE
from graphvae.objectives import denoising
from graphvae.priors import StandardNormal
from graphvae.recipes.seeded import seeded
from graphvae.sources import batch_sizes
from graphvae.training import fit

SPIRAL_NOISE = 0.06
_TURNS, _INNER, _OUTER = 1.25, 0.8, 2.0
_SPACING = 0.04
_COPIES = 100


@dataclass(frozen=True)
class Plan:
    """How a denoiser is trained: Adam, its rate falling to zero as a cosine.

    Args:
        steps: Of the optimiser, rounded down to whole epochs.
        batch_size: Vectors per step, each with fresh noise.
        rate: The learning rate to start from.
    """

    steps: int
    batch_size: int
    rate: float


MIXTURE_PLAN = Plan(steps=4000, batch_size=512, rate=3e-3)
SPIRAL_PLAN = Plan(steps=6000, batch_size=1024, rate=5e-3)
DIGITS_PLAN = Plan(steps=4000, batch_size=128, rate=1e-3)


@dataclass(frozen=True)
class Field:
    """Arrows from places to where a denoiser moves them, beside the exact ones.

    Attributes:
        noise: σ.
        curve: `(M, 2)` points of the curve.
        places: `(G, 2)` those of a grid that lie within 3σ of the curve; none of them was drawn in training.
        spacing: Of the grid, half a step off the origin.
        learned: `(G, 2)` r(x) - x.
        exact: `(G, 2)` σ² times the exact score.
        numbers: Over the places: `median_cosine`, `mean_cosine`, `relative_error`; and of `learned` and `exact`
            arrows, the share after which a place is nearer to the curve.
    """

    noise: float
    curve: Tensor
    places: Tensor
    spacing: float
    learned: Tensor
    exact: Tensor
    numbers: dict[str, float]


@dataclass(frozen=True)
class Restored:
    """Test images before and after denoising.

    Attributes:
        image: Height and width.
        clean: `(M, F)`, as all of them.
        noisy: What was to be denoised.
        denoised: By the autoencoder.
        linear: By the best affine map.
        corruption: What made the noise.
        numbers: PSNR of `noisy`, `denoised` and `linear` in decibels, all clipped to [0, 1], mean over images.
    """

    image: tuple[int, int]
    clean: Tensor
    noisy: Tensor
    denoised: Tensor
    linear: Tensor
    corruption: Corruption
    numbers: dict[str, float]


def three_gaussians() -> MixtureSameFamily:
    """A mixture of three Gaussians in the plane, two of them narrow and turned."""
    angles, long, short = torch.tensor([1.2, 0.4, -0.5]), torch.tensor([0.6, 0.6, 0.4]), torch.tensor([0.25, 0.3, 0.4])
    turns = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], 1).view(3, 2, 2)
    covariances = turns @ torch.diag_embed(torch.stack([long, short], 1).square()) @ turns.mT
    places = torch.tensor([[-1.5, 0.0], [1.0, 1.2], [1.0, -1.2]])
    return MixtureSameFamily(Categorical(torch.tensor([0.4, 0.35, 0.25])), MultivariateNormal(places, covariances))


def residual(network: nn.Module, features: int, noise: float) -> GraphVAE:
    """The autoencoder of which `network` is the score: r(x) = x + σ² network(x)."""
    return GraphVAE(StandardNormal(features), Unchanged(), features=ScoreFeatures(network, features, noise))


def direct(features: int, hidden: int, latent: int, scale: float) -> GraphVAE:
    """The autoencoder that learns r itself, through a code: two hidden layers to it, and two from it."""
    down = nn.Sequential(nn.Linear(features, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
    up = nn.Sequential(nn.Linear(latent, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
    decoder = GaussianFeatures(up, hidden, features, FixedScale(scale))
    return GraphVAE(StandardNormal(latent), PointEncoder(down, hidden, latent), features=decoder)


def train(
    model: GraphVAE,
    x: Tensor,
    corruption: Corruption,
    plan: Plan,
    seed: int = 0,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> GraphVAE:
    """Trains `model` in place to denoise vectors `(N, F)`, and returns it. Arguments as for `fit`."""
    steps = len(batch_sizes(len(x), plan.batch_size))
    epochs = max(1, plan.steps // steps)
    optimizer = Adam(model.parameters(), plan.rate, fused=True)
    scheduler = CosineAnnealingLR(optimizer, epochs * steps)
    settings: dict[str, Any] = {"seed": seed, "accelerator": accelerator, "progress": progress}
    objective = partial(denoising, corruption=corruption)
    fit(
        model,
        x,
        objective,
        epochs=epochs,
        batch_size=plan.batch_size,
        optimizer=optimizer,
        scheduler=scheduler,
        **settings,
    )
    return model


def mixture(
    noise: float,
    through_score: bool = True,
    seed: int = 0,
    plan: Plan = MIXTURE_PLAN,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> dict[str, float]:
    """Learns the score of three Gaussians from 50,000 draws, and compares it at 20,000 fresh draws with the exact one.

    Args:
        noise: σ.
        through_score: Residual parameterisation; otherwise r itself is learned.
        seed: Of data, initialisation and training.
        plan: Of the training.
        accelerator: As for `fit`.
        progress: As for `fit`.

    Returns:
        `relative_error` and `median_cosine` to the score of p_σ; `relative_error_to_clean` to that of p, another field;
        `mse` of the denoiser; `smallest_mse`, that of the best one by its exact score.
    """
    p = three_gaussians()
    with seeded(seed):
        x, clean = p.sample((50_000,)), p.sample((20_000,))
        noisy = GaussianNoise(noise)(edgeless(clean))
        hidden = [layer for _ in range(2) for layer in (nn.Linear(64, 64), nn.SiLU())]
        network = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), *hidden, nn.Linear(64, 2))
        model = residual(network, 2, noise) if through_score else direct(2, 64, 64, noise)
    train(model, x, GaussianNoise(noise), plan, seed, accelerator, progress)
    with torch.no_grad():
        found, restored = learned_score(model, noisy, noise).cpu(), denoised(model, noisy).cpu()
    exact = mixture_score(noised(p, noise), noisy.x)
    near = agreement(found, exact)
    return {
        "relative_error": near.relative_error,
        "median_cosine": near.median_cosine,
        "relative_error_to_clean": agreement(found, mixture_score(p, noisy.x)).relative_error,
        "mse": float((restored - clean).square().sum(1).mean()),
        "smallest_mse": float(smallest_error(exact, noise)),
    }


def curve(num_points: int) -> Tensor:
    """`(num_points, 2)` points of an Archimedean spiral at equal distances along it, radius 0.8 to 2."""
    fine = torch.linspace(0, 1, 100_001, dtype=torch.double)
    radius, angle = _INNER + (_OUTER - _INNER) * fine, 2 * math.pi * _TURNS * fine
    points = torch.stack([radius * angle.cos(), radius * angle.sin()], 1)
    lengths = nn.functional.pad(points.diff(dim=0).norm(dim=1).cumsum(0), (1, 0))
    wanted = torch.linspace(0, 1, num_points, dtype=torch.double) * lengths[-1]
    return points[torch.searchsorted(lengths, wanted).clamp(max=len(fine) - 1)].float()


def distance_to(points: Tensor, x: Tensor) -> Tensor:
    """The distance `(N,)` of `x` `(N, 2)` to the nearest of many points of a curve."""
    parts = [torch.cdist(part, points, compute_mode="donot_use_mm_for_euclid_dist") for part in x.split(1024)]
    return torch.cat([part.min(1).values for part in parts])


def score_network(hidden: int = 128, spread: float = 4.0) -> nn.Module:
    """A network from the plane to the plane whose first layer sees detail.

    Its units are steps in random directions, at random places, about 1 / `spread` wide: a network of small first
    weights learns slow functions first, and the score of a thin curve is not slow (Tancik et al., 2020,
    arXiv:2006.10739, of sines).
    """
    first = nn.Linear(2, hidden)
    with torch.no_grad():
        first.weight.normal_(0, spread)
        first.bias.copy_(-(first.weight * (4 * torch.rand(hidden, 2) - 2)).sum(1))
    return nn.Sequential(first, nn.Tanh(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2))


def spiral(
    seed: int = 0,
    noise: float = SPIRAL_NOISE,
    plan: Plan = SPIRAL_PLAN,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> Field:
    """Learns the field of a spiral from 4,096 of its points, so that the exact one is that of a mixture of 4,096.

    Args:
        seed: Of initialisation and training.
        noise: σ.
        plan: Of the training.
        accelerator: As for `fit`.
        progress: As for `fit`.
    """
    points = curve(4096)
    with seeded(seed):
        model = residual(score_network(), 2, noise)
    train(model, points, GaussianNoise(noise), plan, seed, accelerator, progress)
    places, before = _grid_along(curve(20_000), 3 * noise)
    with torch.no_grad():
        learned = noise**2 * learned_score(model, edgeless(places), noise).cpu()
    exact = noise**2 * empirical_score(points, places, noise)
    found = agreement(learned, exact)
    numbers = {name: getattr(found, name) for name in ("median_cosine", "mean_cosine", "relative_error")}
    for name, arrows in (("learned", learned), ("exact", exact)):
        nearer = distance_to(curve(20_000), places + arrows) < before
        numbers[name] = float(nearer.float().mean())
    return Field(noise, points, places, _SPACING, learned, exact, numbers)


def _grid_along(fine: Tensor, distance: float) -> tuple[Tensor, Tensor]:
    """The places of a square grid nearer than `distance` to a curve, and how far each is from it."""
    reach = int((_OUTER + distance) / _SPACING) + 1
    axis = _SPACING * (torch.arange(-reach, reach) + 0.5)
    places = torch.cartesian_prod(axis, axis)
    places = places[distance_to(fine[::50], places) < distance + _SPACING]
    apart = distance_to(fine, places)
    return places[apart < distance], apart[apart < distance]


def best_linear(
    train: Tensor, corruption: Corruption, generator: torch.Generator | None = None
) -> Callable[[Tensor], Tensor]:
    """The affine map of the least squared error from corrupted to clean: for Gaussian noise the Wiener filter.

    Args:
        train: `(N, F)` clean vectors; 100 corrupted copies of each give the moments.
        corruption: Any.
        generator: Of the corrupted copies.
    """
    clean = train.double().repeat(_COPIES, 1)
    noisy = corruption(edgeless(clean), generator).x
    from_mean, to_mean = noisy.mean(0), clean.mean(0)
    moments = [(noisy - from_mean).T @ part for part in (noisy - from_mean, clean - to_mean)]
    # The minimum-norm solution: pixels that never change have no weight.
    weight = torch.linalg.lstsq(*moments, driver="gelsd").solution
    return lambda x: ((x.double() - from_mean) @ weight + to_mean).to(x.dtype)


def digits(
    corruption: Corruption,
    data: Samples | None = None,
    seed: int = 0,
    plan: Plan = DIGITS_PLAN,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> Restored:
    """Learns to denoise images, and denoises those of the test, beside the best linear denoiser.

    Args:
        corruption: Which noise.
        data: Images in [0, 1]; the digits of scikit-learn if None.
        seed: Of initialisation, training and noise.
        plan: Of the training.
        accelerator: As for `fit`.
        progress: As for `fit`.
    """
    data = data or vectors("digits")
    image = data.image_size()
    with seeded(seed):
        model = direct(data.train.size(1), 512, 128, scale=0.3)
    train(model, data.train, corruption, plan, seed, accelerator, progress)
    generator = torch.Generator().manual_seed(seed)
    noisy = corruption(edgeless(data.test), generator)
    linear = best_linear(data.train, corruption, generator)(noisy.x)
    with torch.no_grad():
        restored = denoised(model, noisy).cpu()
    found = {"noisy": noisy.x, "denoised": restored, "linear": linear}
    found = {name: images.clamp(0, 1) for name, images in found.items()}
    numbers = {name: float(psnr(images, data.test).mean()) for name, images in found.items()}
    return Restored(image, data.test, corruption=corruption, numbers=numbers, **found)
