"""Principal components by training linear models: the optimiser and schedule with which they get there."""

from __future__ import annotations

from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from graphvae.graphs import edgeless
from graphvae.linear import compressed
from graphvae.model import GraphVAE
from graphvae.objectives import reconstruction
from graphvae.training import History, Objective, fit


def fit_linear(
    model: GraphVAE,
    x: Tensor,
    objective: Objective = reconstruction,
    *,
    epochs: int = 10_000,
    learning_rate: float = 0.003,
    accelerator: Accelerator | None = None,
    progress: bool | Progress = True,
) -> History:
    """Trains a linear model in place on the whole of the data, `fit` with settings that reach the optimum.

    The curvature that tells components apart can be a hundred-thousandth of the largest. So Adam has a longer momentum
    and a shorter memory of squared gradients than usual, with which its steps grow as gradients shrink, no ε in the way
    of that, and a learning rate that falls to 0 over many steps, which are cheap on `compressed` rows.

    Args:
        model: `linear_autoencoder(F, K).double()`, or a `linear_vae`; float64 is advised.
        x: `(N, F)` rows, centred for an autoencoder, in the model's precision.
        objective: Quadratic in x: `objectives.reconstruction` or one of `linear`.
        epochs: Steps.
        learning_rate: Of the first step; 0.03 suits a `linear_vae`, whose weights have the scale of the data.
        accelerator: As in `fit`.
        progress: As in `fit`.
    """
    optimizer = Adam(model.parameters(), lr=learning_rate, betas=(0.98, 0.98), eps=1e-15, fused=True)
    scheduler = CosineAnnealingLR(optimizer, epochs)
    data = edgeless(compressed(x))
    return fit(
        model,
        data,
        objective,
        epochs=epochs,
        optimizer=optimizer,
        scheduler=scheduler,
        accelerator=accelerator,
        progress=progress,
    )
