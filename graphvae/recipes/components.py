"""Which linear autoencoders find the principal components of images, and which only their space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import Progress
from scipy.linalg import subspace_angles
from torch import Tensor
from torch.nn.functional import avg_pool2d

from graphvae.datasets.vectors import Samples
from graphvae.linear import (
    NestedDropout,
    NonUniformL2,
    RotationAugmented,
    UniformL2,
    centred,
    decoder_columns,
    exact_pca,
    linear_autoencoder,
    principal_components,
)
from graphvae.model import GraphVAE
from graphvae.objectives import reconstruction
from graphvae.recipes.principal_components import fit_linear
from graphvae.recipes.seeded import seeded
from graphvae.training import Objective

LATENT, EPOCHS = 8, 10_000
_MOST_PIXELS = 1000


@dataclass(frozen=True)
class Found:
    """What one method takes for the principal components.

    Attributes:
        name: Of the method.
        directions: `(K, F)` unit rows, with the signs of the exact components.
        cosines: K absolute cosines, each with the exact component of the same place.
        angle: The largest principal angle to the space of the exact components, in radians.
    """

    name: str
    directions: Tensor
    cosines: list[float]
    angle: float


def reduced(data: Samples) -> Samples:
    """Images of at most 1000 pixels: larger ones are averaged over squares, so that a training takes seconds."""
    height, width = data.image_size()
    side = next(side for side in range(1, height) if (height // side) * (width // side) <= _MOST_PIXELS)
    if side == 1:
        return data
    train, test = (avg_pool2d(part.view(-1, 1, height, width), side) for part in (data.train, data.test))
    image = (train.size(2), train.size(3))
    return replace(data, train=train.flatten(1), test=test.flatten(1), image=image)


def compare(
    data: Samples,
    seed: int = 0,
    latent: int = LATENT,
    epochs: int = EPOCHS,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> list[Found]:
    """The exact components of the training vectors, then those of each linear autoencoder.

    Args:
        data: Of which `train` is used.
        seed: Of the initial weights.
        latent: K.
        epochs: Steps of each training.
        accelerator: As for `fit`.
        progress: As for `fit`.
    """
    x, _ = centred(data.train.double())
    exact = exact_pca(x, latent).directions
    methods: dict[str, tuple[Objective, Callable[[GraphVAE], Tensor]]] = {
        "plain": (reconstruction, decoder_columns),
        "uniform L2, SVD": (UniformL2.scaled_to(x, latent), lambda model: principal_components(model).directions),
        "non-uniform L2": (NonUniformL2.scaled_to(x, latent), decoder_columns),
        "nested dropout": (NestedDropout(), decoder_columns),
        "rotation-augmented": (RotationAugmented.scaled_to(x, latent), decoder_columns),
    }
    found = [_found("exact PCA", exact, exact)]
    for name, (objective, read) in methods.items():
        with seeded(seed):
            model = linear_autoencoder(x.size(1), latent).double()
        fit_linear(model, x, objective, epochs=epochs, accelerator=accelerator, progress=progress)
        found.append(_found(name, read(model).cpu(), exact))
    return found


def _found(name: str, directions: Tensor, exact: Tensor) -> Found:
    cosines = (directions * exact).sum(1)
    signs = torch.where(cosines < 0, -1.0, 1.0)
    angle = float(np.max(subspace_angles(directions.T.numpy(), exact.T.numpy())))
    return Found(name, signs[:, None] * directions, cosines.abs().tolist(), angle)
