"""The picture of principal components as images, by every way to find them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from graphvae.datasets.vectors import Samples
from graphvae.plots.figures import new_figure
from graphvae.plots.images import show_signed
from graphvae.recipes.components import Found


def components(found: Sequence[Found], data: Samples, path: Path) -> None:
    """Draws a row for each method and a column for each component, under each its cosine with the exact one.

    Args:
        found: Of `recipes.components.compare`; the exact components come first.
        data: Images.
        path: A file name that matplotlib knows how to write.
    """
    height, width = image = data.image_size()
    columns = len(found[0].directions)
    figure = new_figure(1.05 * columns + 2.2, (1.05 * height / width + 0.22) * len(found) + 0.5)
    axes = figure.subplots(len(found), columns, squeeze=False)
    for row, method in zip(axes, found, strict=True):
        for place, (each, direction, cosine) in enumerate(zip(row, method.directions, method.cosines, strict=True)):
            show_signed(each, direction, image)
            each.set_xlabel(f"{cosine:.4f}", fontsize=8, labelpad=2, color="black" if cosine > 0.999 else "#D55E00")
            if method is found[0]:
                each.set_title(str(place + 1), fontsize=9)
        row[0].set_ylabel(method.name, rotation=0, ha="right", va="center", fontsize=9)
    title = f"{data.name}: principal components by linear autoencoders; below each, |cosine| with the exact one"
    figure.suptitle(title, fontsize=11)
    figure.savefig(path)
