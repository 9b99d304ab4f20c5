"""Normal distributions whose parameters have one shape already.

Giving them one, as torch does, and comparing with zero and one takes as long as a small layer, in every step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Normal
from torch.distributions.kl import register_kl

from graphvae.sparse import at_least_single

_ONE_DRAW = Size()


class ShapedNormal(Normal):
    """torch's `Normal` of a mean and a standard deviation of one shape; neither is checked.

    Args:
        loc: `(N, D)`.
        scale: `(N, D)`.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc, self.scale = loc, scale
        Distribution.__init__(self, loc.shape, validate_args=False)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None) -> Normal:
        """A `Normal` of torch's, of a larger shape."""
        return super().expand(torch.Size(batch_shape), Normal.__new__(Normal) if _instance is None else _instance)

    def rsample(self, sample_shape: Size | list[int] | tuple[int, ...] = _ONE_DRAW) -> Tensor:
        """`(*sample_shape, N, D)`, bit for bit as torch draws."""
        noise = self.loc.new_empty((*sample_shape, *self.loc.shape)).normal_()
        return self.loc + noise * self.scale


class ZeroOneNormal(ShapedNormal):
    """A `ShapedNormal` whose mean is zero and whose standard deviation is one, which a KL divergence need not read."""


def family(distribution: Distribution) -> str:
    """The name by which users know a distribution's class."""
    return "Normal" if isinstance(distribution, ShapedNormal) else type(distribution).__name__


@register_kl(Normal, ZeroOneNormal)
def _kl_to_zero_one(q: Normal, p: ZeroOneNormal) -> Tensor:
    # As torch has it for two normals, less a subtraction of zero and divisions by one.
    if q.loc.shape != p.loc.shape:
        shapes = f"{tuple(p.loc.shape)} and {tuple(q.loc.shape)}"
        raise ValueError(f"'prior' must be of as many latents as the encoder gives, got {shapes}")
    loc, variance = at_least_single(q.loc), at_least_single(q.scale).pow(2)
    return 0.5 * (variance + loc.pow(2) - 1 - variance.log())
