"""Random distortions of images: more training data than there is, for networks that would learn few images by heart."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch_geometric.data import Batch

from graphvae.graphs import edgeless
from graphvae.model import GraphVAE

_KNOTS = 5


@dataclass(frozen=True)
class Distortion:
    """A random affine map and a random smooth displacement of each image, drawn anew at each call.

    Angles, factors and shifts are uniform between minus and plus what is given; displacements are normal at 5 x 5
    knots, with a bicubic surface through them. What comes in from outside of an image is black.

    Args:
        image: Height and width.
        rotation: Degrees.
        scale: Of width and height each, as a fraction of them.
        shear: As a fraction.
        shift: As a fraction of the image.
        bending: Standard deviation of the displacements, as a fraction of the image.

    References:
        Simard, Steinkraus & Platt, "Best practices for convolutional neural networks applied to visual document
        analysis", 2003.
    """

    image: tuple[int, int]
    rotation: float = 10.0
    scale: float = 0.1
    shear: float = 0.1
    shift: float = 0.05
    bending: float = 0.025

    def __call__(self, x: Tensor) -> Tensor:
        """`(B, F)` images in [0, 1] to as many others. Draws from PyTorch's global generator."""
        images = x.view(-1, 1, *self.image)
        grid = F.affine_grid(self._maps(x), list(images.shape), align_corners=False)
        knots = 2 * self.bending * torch.randn(len(x), 2, _KNOTS, _KNOTS, device=x.device, dtype=x.dtype)
        bent = F.interpolate(knots, self.image, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
        return F.grid_sample(images, grid + bent, align_corners=False).view_as(x).clamp(0, 1)

    def _maps(self, x: Tensor) -> Tensor:
        """`(B, 2, 3)`: from places in the new image to places in the old one, in units of half an image."""
        angle, shear, wide, high, right, down = 2 * torch.rand(6, len(x), device=x.device, dtype=x.dtype) - 1
        angle = angle * math.radians(self.rotation)
        wide, high = 1 + self.scale * wide, 1 + self.scale * high
        first = [angle.cos() * wide, self.shear * shear - angle.sin() * high, 2 * self.shift * right]
        second = [angle.sin() * wide, angle.cos() * high, 2 * self.shift * down]
        return torch.stack([torch.stack(first, 1), torch.stack(second, 1)], 1)


def of_distorted(
    objective: Callable[[GraphVAE, Batch], Tensor], distortion: Callable[[Tensor], Tensor]
) -> Callable[[GraphVAE, Batch], Tensor]:
    """The objective of distorted vectors: what a model is trained on is the distribution of those, not of the data."""

    def value(model: GraphVAE, batch: Batch) -> Tensor:
        """One number per vector: `(B,)`."""
        return objective(model, edgeless(distortion(batch.x), check=False))

    return value
