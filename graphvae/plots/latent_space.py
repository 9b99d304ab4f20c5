"""The picture of a VAE in training: latents above, samples below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from graphvae.datasets.vectors import Samples
from graphvae.plots.figures import new_figure
from graphvae.plots.images import show
from graphvae.recipes.latent_space import Frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EXTENT = 3.2  # At least, so that the circles are whole.


def latent_space(frames: Sequence[Frame], data: Samples, path: Path) -> None:
    """Draws the codes of the test vectors, and samples if they are images, a column for each frame.

    Args:
        frames: Of `recipes.latent_space.develop`.
        data: Whose classes colour the codes.
        path: A file name that matplotlib knows how to write.
    """
    rows = 1 if data.image is None else 2
    figure = new_figure(3.4 * len(frames) + 0.6, 3.6 * rows + 0.4)
    axes = figure.subplots(rows, len(frames), squeeze=False)
    extent = max([_EXTENT, *(1.05 * float(frame.codes.abs().max()) for frame in frames)])
    for column, frame in enumerate(frames):
        _draw_codes(axes[0, column], frame, data, extent)
        if data.image is not None:
            show(axes[1, column], frame.samples.clamp(0, 1), data.image, columns=8)
    axes[0, 0].set(xlabel="first latent", ylabel="second latent")
    if data.image is not None:
        axes[1, 0].set_ylabel("decoded draws of the prior")
    if data.test_labels is not None:
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right upper", fontsize=8, markerscale=3, title="class")
    figure.suptitle(
        f"{data.name}: two latents of a VAE in training (test vectors; circles: 1, 2 and 3 standard "
        "deviations of the prior)",
        fontsize=11,
    )
    figure.savefig(path)


def _draw_codes(axes: Axes, frame: Frame, data: Samples, extent: float) -> None:
    from matplotlib import colormaps

    labels = torch.zeros(len(frame.codes)) if data.test_labels is None else data.test_labels
    for place, label in enumerate(labels.unique().tolist()):
        points = frame.codes[labels == label].numpy()
        colour = colormaps["tab10"](place % 10)
        axes.scatter(points[:, 0], points[:, 1], s=4, color=colour, label=f"{label:g}", linewidths=0)
    angle = np.linspace(0, 2 * np.pi, 200)
    for radius in (1, 2, 3):
        axes.plot(radius * np.cos(angle), radius * np.sin(angle), color="grey", lw=0.6, ls=":")
    purity = frame.numbers["purity"]
    title = f"epoch {frame.epoch}: ELBO {frame.numbers['elbo']:.1f} nats"
    axes.set_title(title + ("" if purity is None else f"\n10-neighbour purity {purity:.2f}"), fontsize=10)
    axes.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
