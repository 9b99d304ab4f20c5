"""Maximum mean discrepancy between sets of graphs, with the two families of kernels of the literature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from graphvae.evaluation.graphs.statistics import GraphStatistics

_ENTRIES = 1 << 20


def total_variation(x: Tensor, y: Tensor) -> Tensor:
    """Half the sum of absolute differences: `(M, K)` between the rows of `x` `(M, C)` and of `y` `(K, C)`."""
    return torch.cdist(x, y, p=1) / 2


def earth_movers(x: Tensor, y: Tensor, spacing: float = 1.0) -> Tensor:
    """The earth mover's distance between histograms on a line: `(M, K)`.

    In one dimension it is the sum of the absolute differences of the cumulative histograms, so no transport problem
    has to be solved.

    Args:
        x: `(M, C)` rows that sum to one.
        y: `(K, C)` rows that sum to one.
        spacing: Of the bins.
    """
    return spacing * torch.cdist(x.cumsum(1), y.cumsum(1), p=1)


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """`(M, K)` between the rows of `x` `(M, C)` and of `y` `(K, C)`."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class GaussianKernel:
    r"""\(k(x, y) = \exp(-\frac12 (\mathrm{distance}(x, y) / \mathrm{scale})^2)\); rows to `(M, K)`."""

    distance: Callable[[Tensor, Tensor], Tensor]
    scale: float

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The kernel matrix `(M, K)` of the rows of `x` and `y`."""
        return (self.distance(x, y) / self.scale).square_().mul_(-0.5).exp_()


class Kernels(NamedTuple):
    """A kernel for each of `GraphStatistics`; `TOTAL_VARIATION` and `EARTH_MOVERS`, or kernels of your own."""

    degree: GaussianKernel
    clustering: GaussianKernel
    orbit: GaussianKernel
    spectral: GaussianKernel


TOTAL_VARIATION = Kernels(
    degree=GaussianKernel(total_variation, 1.0),
    clustering=GaussianKernel(total_variation, 0.1),
    orbit=GaussianKernel(total_variation, 30.0),
    spectral=GaussianKernel(total_variation, 1.0),
)
"""Of GRAN, SPECTRE, DiGress (but on its community set) and DeFoG. Not comparable with values of `EARTH_MOVERS`.

Like those, they are not positive definite, so that an MMD may come out negative; the field uses them.

References:
    O'Bray et al., "Evaluation metrics for graph generative models: problems, pitfalls, and practical solutions", 2022,
    arXiv:2106.01098.
"""

EARTH_MOVERS = Kernels(
    degree=GaussianKernel(earth_movers, 1.0),
    clustering=GaussianKernel(partial(earth_movers, spacing=0.01), 0.1),
    orbit=GaussianKernel(euclidean, 30.0),
    spectral=GaussianKernel(earth_movers, 1.0),
)
"""Of GraphRNN, EDP-GNN and GDSS. The distance of spectra is in bins, as in the code of GDSS."""


class Gram(NamedTuple):
    """Kernel matrices within and between two samples: `xx` `(M, M)`, `xy` `(M, K)`, `yy` `(K, K)`."""

    xx: Tensor
    xy: Tensor
    yy: Tensor

    @property
    def mmd(self) -> Tensor:
        """The squared discrepancy, `()`: the biased estimate (V-statistic), which is what papers call MMD."""
        return self.xx.mean() + self.yy.mean() - 2 * self.xy.mean()


def gram(kernel: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Gram:
    """The kernel matrices of `x` `(M, C)` and `y` `(K, D)`; the narrower one is padded with zeros."""
    x, y = _fitted(x, y)
    return Gram(kernel(x, x), kernel(x, y), kernel(y, y))


def mmd(kernel: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    """The squared discrepancy of `gram(kernel, x, y)`, from some rows of its matrices at a time."""
    x, y = _fitted(x, y)
    return _mean(kernel, x, x) + _mean(kernel, y, y) - 2 * _mean(kernel, x, y)


def discrepancies(
    samples: GraphStatistics, reference: GraphStatistics, kernels: Kernels = TOTAL_VARIATION
) -> dict[str, float]:
    """The squared MMD of each statistic, by its name: degree, clustering, orbit, spectral.

    It is the biased estimate (V-statistic), not its root: what papers call MMD.
    """
    names = GraphStatistics._fields
    return {name: mmd(kernel, x, y) for name, kernel, x, y in zip(names, kernels, samples, reference, strict=True)}


def _fitted(x: Tensor, y: Tensor) -> list[Tensor]:
    width = max(x.size(1), y.size(1))
    return [pad(rows, (0, width - rows.size(1))) for rows in (x, y)]


def _mean(kernel: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> float:
    total = sum(kernel(rows, y).sum() for rows in x.split(max(1, _ENTRIES // len(y))))
    return float(total) / (len(x) * len(y))
