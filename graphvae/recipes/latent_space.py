"""A variational autoencoder in the course of training: its two latents, and what it draws, from epoch to epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor, nn
from torch.optim import Adam

from graphvae.bounds import elbo
from graphvae.datasets.vectors import Samples
from graphvae.encoders import NormalEncoder, normal_base
from graphvae.evaluation.vectors import decoded, knn_purity
from graphvae.features import GaussianFeatures, LearnedScale
from graphvae.graphs import edgeless
from graphvae.model import GraphVAE
from graphvae.priors import StandardNormal
from graphvae.recipes.seeded import seeded
from graphvae.training import fit

EPOCHS = (1, 20, 50, 200)
_HIDDEN = 256
_DRAWN = 64


@dataclass(frozen=True)
class Frame:
    """One moment of training, seen on the test vectors.

    Attributes:
        epoch: When.
        codes: `(M, 2)` posterior means.
        samples: `(64, F)` means of p(x | z) for z drawn from the prior, the same z in every frame.
        numbers: `elbo`, the mean in nats; `purity`, the share of the ten nearest codes, or all if they are fewer, that
            are of the same class (None without classes); `mean` and `variance`, two each, of the aggregated posterior:
            0 and 1 if it is the prior.
    """

    epoch: int
    codes: Tensor
    samples: Tensor
    numbers: dict[str, Any]


@torch.no_grad()
def frame(model: GraphVAE, data: Samples, z: Tensor, epoch: int) -> Frame:
    """What a model does with the test vectors, and with latents `z` `(64, 2)`, after an epoch."""
    test = model.batch(edgeless(data.test))
    q = model.posterior(test)
    codes, spread = q.mean.cpu(), normal_base(q).scale.cpu()
    neighbors = min(10, len(codes) - 1)
    numbers = {
        "elbo": float(elbo(model, test).mean()),
        "purity": None if data.test_labels is None else knn_purity(codes, data.test_labels, neighbors),
        "mean": codes.mean(0).tolist(),
        "variance": (codes.var(0) + spread.square().mean(0)).tolist(),
    }
    return Frame(epoch, codes, decoded(model, z).cpu(), numbers)


def develop(
    data: Samples,
    seed: int = 0,
    epochs: Sequence[int] = EPOCHS,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> list[Frame]:
    """Trains a VAE of two latents by its ELBO, and looks at it after each of `epochs`; nothing is selected.

    Args:
        data: Trained on `train`, looked at on `test`.
        seed: Of initialisation, training and the prior's draws.
        epochs: Increasing.
        accelerator: As for `fit`.
        progress: As for `fit`.
    """
    with seeded(seed):
        model = _vae(data.train.size(1))
        z = torch.randn(_DRAWN, 2)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    frames = []
    for before, epoch in pairwise((0, *epochs)):
        settings: dict[str, Any] = {"seed": seed + epoch, "accelerator": accelerator, "progress": progress}
        fit(model, data.train, epochs=epoch - before, batch_size=64, optimizer=optimizer, **settings)
        with seeded(seed):
            frames.append(frame(model, data, z, epoch))
    return frames


def _vae(width: int) -> GraphVAE:
    down = nn.Sequential(nn.Linear(width, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU())
    up = nn.Sequential(nn.Linear(2, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU())
    features = GaussianFeatures(up, _HIDDEN, width, LearnedScale())
    return GraphVAE(StandardNormal(2), NormalEncoder(down, _HIDDEN, 2), features=features)
