"""Pictures of what denoising autoencoders do: the field they learn, and images before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from graphvae.plots.figures import COLOURS, new_figure
from graphvae.plots.images import label_rows, show
from graphvae.recipes.denoising import Field, Restored

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_EVERY = 2


def denoising_field(field: Field, path: Path) -> None:
    """Draws learned and exact arrows side by side, true to scale: each ends where the denoiser puts its place.

    Args:
        field: Of `recipes.denoising.spiral`.
        path: A file name that matplotlib knows how to write.
    """
    figure = new_figure(13, 6.9)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    numbers = field.numbers
    _draw_arrows(left, field, field.learned)
    left.set_title(
        f"learned: $r(x) - x$ of a denoising autoencoder\n{numbers['learned']:.1%} of arrows lead nearer to the curve"
    )
    _draw_arrows(right, field, field.exact)
    right.set_title(
        "exact: $\\sigma^2\\,\\nabla\\log\\,p_\\sigma(x)$, the score of the noisy density\n"
        f"{numbers['exact']:.1%} of arrows lead nearer to the curve"
    )
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=10)
    figure.suptitle(
        f"A denoiser points along the score (σ = {field.noise:g}): median cosine {numbers['median_cosine']:.4f} "
        f"within 3σ of the curve, on places not seen in training",
        fontsize=13,
    )
    figure.savefig(path)


def _draw_arrows(axes: Axes, field: Field, arrows: Tensor) -> None:
    axes.plot(*field.curve.T.numpy(), color=COLOURS[1], lw=1.6, label="curve the data lie on", zorder=1)
    steps = (field.places / field.spacing - 0.5).round()
    drawn = (steps % _EVERY == 0).all(1)
    x, y = field.places[drawn].T.numpy()
    dx, dy = arrows[drawn].T.numpy()
    label = "from a place within 3σ of the curve to where the denoiser puts it (to scale)"
    axes.quiver(x, y, dx, dy, angles="xy", scale_units="xy", scale=1, width=0.0022, color=COLOURS[0], label=label)
    axes.set(aspect="equal", xlabel="first feature", ylabel="second feature")


def denoised_digits(results: list[Restored], path: Path, columns: int = 10) -> None:
    """Draws test images: clean, noisy, denoised by the best linear map, and by the autoencoder; a block per noise.

    Args:
        results: Of `recipes.denoising.digits`, one for each corruption.
        path: A file name that matplotlib knows how to write.
        columns: Images in a row, the first ones of the test.
    """
    figure = new_figure(0.85 * columns + 2.6, 3.9 * len(results) + 0.5)
    blocks = figure.subfigures(len(results), 1, squeeze=False)[:, 0]
    for block, result in zip(blocks, results, strict=True):
        numbers = result.numbers
        rows = {
            "clean": result.clean,
            f"noisy\n{numbers['noisy']:.1f} dB": result.noisy,
            f"best linear\n{numbers['linear']:.1f} dB": result.linear,
            f"autoencoder\n{numbers['denoised']:.1f} dB": result.denoised,
        }
        axes = block.subplots(len(rows), 1)
        for each, images in zip(axes, rows.values(), strict=True):
            show(each, images[:columns], result.image, columns)
        label_rows(axes, list(rows))
        gains = numbers["denoised"] - numbers["noisy"], numbers["denoised"] - numbers["linear"]
        block.suptitle(
            f"{result.corruption}: the denoising autoencoder gains {gains[0]:.1f} dB, {gains[1]:.1f} dB more than the "
            f"best linear map\n(mean PSNR of {len(result.clean)} test images)",
            fontsize=11,
        )
    figure.savefig(path)
