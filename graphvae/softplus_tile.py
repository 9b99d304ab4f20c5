"""The inside of a tile: the sum of log(1 + exp(s)) and its slope, one exponential a pair and one logarithm in 32."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG2_E = math.log2(math.e)
_HALVINGS = 5


class SoftplusTile:
    r"""Memory for a tile of scores, and what is computed in it: fresh memory would cost more than the arithmetic.

    With \(e = 2^s\) the slope is e / (1 + e) and the value the logarithm of the product of all 1 + e. The product is
    taken over halves of the tile laid on each other, without the 1: \((1 + u)(1 + v) - 1 = u + v (1 + u)\). Small e,
    as all are in a sparse graph, would be rounded away by 1 + e; in this form they keep all their digits.

    Args:
        like: Gives type and device.
        size: Of the largest tile, in pairs.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self._buffers = like.new_empty(size), like.new_empty(size), like.new_empty(size // 2)
        self._views: dict[tuple[int, ...], _Views] = {}
        self._one = like.new_ones(())  # A Python number would be made a tensor at every call.
        # Products of more than this power of two overflow.
        self._room = 0.95 * math.log2(torch.finfo(like.dtype).max)

    def scores(self, *shape: int) -> Tensor:
        """Where to write scores `(rows, columns)` of one block or `(blocks, rows, columns)`, in units of log 2.

        Overwritten by the next tile.
        """
        return self._view(shape).scores

    def __call__(self, *shape: int, slope: bool) -> tuple[Tensor, Tensor | None]:
        """Consumes the scores.

        Returns:
            `(blocks,)` sums of softplus over each block and, if asked for, the sigmoids in the shape of the scores;
            they hold until the next tile.
        """
        view = self._view(shape)
        growth = self._growth(view.scores)
        if growth is None:
            return self._robust(view, slope)
        e, one_plus_e, product = view.scores.exp2_(), torch.add(view.scores, self._one, out=view.slopes), view.flat
        if halved := view.first is not None and 2 * growth < self._room:
            u, v, one_plus_u, product = view.first
            torch.addcmul(u, v, one_plus_u, out=product)
        if slope:
            torch.div(e, one_plus_e, out=view.slopes)
        if halved:
            product = self._halved(view, product, 2 * growth)
        return torch.log1p(product).sum(1), view.slopes if slope else None

    def _growth(self, scores: Tensor) -> float | None:
        """The largest log2(1 + e) of the tile; None if e itself overflows, or is not to be asked for."""
        if scores.device.type != "cpu":
            return None  # The device would wait in every tile.
        largest = scores.amax().item()
        return max(largest, 0.0) + math.log2(1 + 2 ** -abs(largest)) if largest < self._room else None

    def _halved(self, view: _Views, product: Tensor, growth: float) -> Tensor:
        """Lays the products on each other until one more time could overflow, or for the last time."""
        for u, v, scratch in view.later:
            if 2 * growth >= self._room:
                # That was for the largest score everywhere; the products that there are mostly are far smaller.
                growth = math.log2(1 + product.amax().item())
                if 2 * growth >= self._room:
                    break
            product, growth = u.addcmul_(v, torch.add(u, self._one, out=scratch)), 2 * growth
        return product

    @staticmethod
    def _robust(view: _Views, slope: bool) -> tuple[Tensor, Tensor | None]:
        scores = view.scores.div_(LOG2_E)
        value = softplus(scores).view(len(view.flat), -1).sum(1)
        return value, torch.sigmoid(scores, out=view.slopes) if slope else None

    def _view(self, shape: tuple[int, ...]) -> _Views:
        if shape not in self._views:
            self._views[shape] = _Views(self._buffers, shape)
        return self._views[shape]


class _Views:
    """The parts of the buffers that tiles of one shape use, looked up once."""

    def __init__(self, buffers: tuple[Tensor, Tensor, Tensor], shape: tuple[int, ...]) -> None:
        blocks, number = shape[0] if len(shape) == 3 else 1, math.prod(shape)
        self.scores, self.slopes = buffers[0][:number].view(shape), buffers[1][:number].view(shape)
        self.flat, one_plus_e = self.scores.view(blocks, -1), self.slopes.view(blocks, -1)
        self.first: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.later: list[tuple[Tensor, Tensor, Tensor]] = []
        if self.flat.size(1) % 2:
            return
        product = buffers[2][: number // 2].view(blocks, -1)
        top, bottom = self.flat.chunk(2, 1)
        self.first = top, bottom, one_plus_e.chunk(2, 1)[0], product
        while len(self.later) < _HALVINGS - 1 and product.size(1) % 2 == 0:
            product, other = product.chunk(2, 1)
            # The scores are used up by then: they are the scratch.
            self.later.append((product, other, buffers[0][: product.numel()].view(product.shape)))


def softplus(scores: Tensor) -> Tensor:
    """log(1 + exp(s)), exact to float64; PyTorch's default drops the exponential from s = 20 on, an error of 2e-9."""
    return F.softplus(scores, threshold=40)
