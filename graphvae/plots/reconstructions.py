"""The picture of images and their reconstructions from few numbers, one under the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from graphvae.datasets.vectors import Samples
from graphvae.plots.figures import COLOURS, new_figure
from graphvae.plots.images import show
from graphvae.recipes.vectors import Outcome

_SHOWN = 12


def reconstructions(data: Samples, outcomes: Mapping[str, Outcome], path: Path) -> None:
    """Draws test images and what each method makes of them; of vectors that are no images, the errors of each method.

    Args:
        data: Whose test vectors are shown: of images the first of each class, and more.
        outcomes: By method.
        path: A file name that matplotlib knows how to write.
    """
    if data.image is None:
        _errors(data, outcomes, path)
        return
    shown = _of_each_class(data)
    rows = {"originals": data.test} | {name: outcome.reconstructed for name, outcome in outcomes.items()}
    height, width = data.image
    figure = new_figure(0.72 * _SHOWN + 2.6, (0.72 * height / width + 0.1) * len(rows) + 0.6)
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    limits = float(data.train.min()), float(data.train.max())
    for each, (name, pixels) in zip(axes, rows.items(), strict=True):
        show(each, pixels[shown], data.image, len(shown), limits)
        numbers = outcomes[name].numbers if name in outcomes else None
        label = name if numbers is None else f"{name}, {numbers['latent']:.0f}\nerror {numbers['squared_error']:.3g}"
        each.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
    title = f"{data.name}: test images from few numbers; error: squared, summed over pixels, mean of {len(data.test)}"
    figure.suptitle(title, fontsize=11)
    figure.savefig(path)


def _of_each_class(data: Samples) -> torch.Tensor:
    if data.test_labels is None:
        return torch.arange(min(_SHOWN, len(data.test)))
    places = [(data.test_labels == label).nonzero()[:2, 0] for label in data.test_labels.unique()]
    firsts = torch.stack([place[0] for place in places])
    seconds = torch.cat([place[1:] for place in places])
    return torch.cat([firsts, seconds])[:_SHOWN]


def _errors(data: Samples, outcomes: Mapping[str, Outcome], path: Path) -> None:
    figure = new_figure(6, 4)
    axes = figure.subplots()
    for (name, outcome), colour in zip(outcomes.items(), COLOURS * len(outcomes), strict=False):
        errors = (outcome.reconstructed - data.test).square().sum(1).sort().values
        axes.plot(errors, np.linspace(0, 1, len(errors)), color=colour, label=name)
    axes.set(
        xscale="log", xlabel="squared error of a test vector, summed over features", ylabel="share of vectors below"
    )
    axes.set_title(f"{data.name}: reconstruction from few numbers", fontsize=11)
    axes.legend(fontsize=9)
    figure.savefig(path)
