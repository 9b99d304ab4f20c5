"""Rows of pixels as pictures, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def tiled(pixels: Tensor, image: tuple[int, int], columns: int) -> np.ndarray:
    """`(K, F)` images as one, row after row with a pixel between them; what is left over stays empty (NaN)."""
    height, width = image
    rows = -(-len(pixels) // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for place, picture in enumerate(pixels.detach().cpu().numpy().reshape(-1, height, width)):
        top, left = (place // columns) * (height + 1), (place % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    return sheet


def show(
    axes: Axes, pixels: Tensor, image: tuple[int, int], columns: int, limits: tuple[float, float] = (0, 1)
) -> None:
    """Draws `(K, F)` grey images, dark on light, without axes."""
    axes.imshow(tiled(pixels, image, columns), cmap="gray_r", vmin=limits[0], vmax=limits[1], interpolation="nearest")
    axes.set(xticks=[], yticks=[], frame_on=False)


def show_signed(axes: Axes, pixels: Tensor, image: tuple[int, int]) -> None:
    """Draws one `(F,)` image of positive and negative values, white at 0."""
    largest = float(pixels.abs().max()) or 1.0
    axes.imshow(pixels.detach().cpu().view(image).numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes.set(xticks=[], yticks=[])


def label_rows(axes: Sequence[Axes], names: Sequence[str]) -> None:
    """Writes a name to the left of each of the axes."""
    for each, name in zip(axes, names, strict=True):
        each.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
