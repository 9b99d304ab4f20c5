"""An empty figure, and the colours in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches.

    Raises:
        ImportError: matplotlib is not installed; the message has the line that installs it.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'graphvae[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)
