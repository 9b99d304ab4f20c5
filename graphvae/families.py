"""Normal distributions whose parameters have one shape already.

Giving them one, as torch does, and comparing with zero and one takes as long as a small layer, in every step.
"""

from __future__ import annotations

from typing import Any

from torch import Size, Tensor
from torch.distributions import Distribution, Normal
from torch.distributions.kl import register_kl

from graphvae.sparse import at_least_single


def normal(loc: Tensor, scale: Tensor) -> Normal:
    """`Normal(loc, scale)` of a mean and a standard deviation `(N, D)` of one shape; neither is checked."""
    rows = Normal.__new__(Normal)
    rows.loc, rows.scale = loc, scale
    Distribution.__init__(rows, loc.shape, validate_args=False)
    return rows


class ZeroOneNormal(Normal):
    """A normal distribution of mean zero and standard deviation one, which a KL divergence to it need not read.

    Args:
        zero: `(N, D)` zeros.
        one: `(N, D)` ones.
    """

    def __init__(self, zero: Tensor, one: Tensor) -> None:
        self.loc, self.scale = zero, one
        Distribution.__init__(self, zero.shape, validate_args=False)

    def expand(self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Any = None) -> Normal:
        """A `Normal` of torch's, of a larger shape."""
        return normal(self.loc.expand(batch_shape), self.scale.expand(batch_shape))


def family(distribution: Distribution) -> str:
    """The name by which users know a distribution's class."""
    return "Normal" if isinstance(distribution, ZeroOneNormal) else type(distribution).__name__


@register_kl(Normal, ZeroOneNormal)
def _kl_to_zero_one(q: Normal, p: ZeroOneNormal) -> Tensor:
    # As torch has it for two normals, less a subtraction of zero and divisions by one.
    if q.loc.shape != p.loc.shape:
        shapes = f"{tuple(p.loc.shape)} and {tuple(q.loc.shape)}"
        raise ValueError(f"'prior' must be of as many latents as the encoder gives, got {shapes}")
    loc, variance = at_least_single(q.loc), at_least_single(q.scale).pow(2)
    return 0.5 * (variance + loc.pow(2) - 1 - variance.log())
