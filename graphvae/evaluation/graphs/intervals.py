"""How far a number would move with another draw of graphs."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor

from graphvae.evaluation.graphs.kernels import Gram

Interval = tuple[float, float]


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """The Wilson score interval of a share. It is not empty at 0 and 1, and stays between them.

    Args:
        successes: Of the trials.
        trials: Taken as independent.
        level: Confidence.

    References:
        Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    _check_level(level)
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"'successes' must be between 0 and 'trials' > 0, got {successes} of {trials}")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, weight = successes / trials, z**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    reach = z * math.sqrt(share * (1 - share) / trials + weight / (4 * trials)) / (1 + weight)
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if successes == 0 else middle - reach
    high = 1.0 if successes == trials else middle + reach
    return low, high


def bootstrap(
    gram: Gram, resamples: int = 1000, level: float = 0.95, generator: torch.Generator | None = None
) -> Interval:
    """A bootstrap interval of the squared MMD for samples of these sizes: graphs of both sets are drawn anew.

    The kernel is not evaluated again: a resample is a vector of how often each graph is drawn. Drawing a graph twice
    adds a pair at distance zero, so the V-statistics of resamples lie higher than that of the sample by its own bias
    once more; the interval is that of their deviations from their mean, put around the value, and cut at zero. Where
    the two distributions are nearly the same it errs on the wide side.

    Args:
        gram: The kernel matrices.
        resamples: How many.
        level: Confidence.
        generator: On the CPU.
    """
    _check_level(level)
    if resamples < 1:
        raise ValueError(f"'resamples' must be positive, got {resamples}")
    xx, xy, yy = gram
    v, w = (_weights(len(square), resamples, generator).to(square) for square in (xx, yy))
    drawn = ((v @ xx) * v).sum(1) + ((w @ yy) * w).sum(1) - 2 * ((v @ xy) * w).sum(1)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2]).to(drawn)
    value = gram.mmd
    low, high = (torch.quantile(drawn, tails) - drawn.mean() + value).clamp_min(min(0.0, float(value))).tolist()
    return low, high


def _weights(count: int, resamples: int, generator: torch.Generator | None) -> Tensor:
    """`(resamples, count)` share of each of `count` graphs in a draw with replacement of as many."""
    drawn = torch.randint(count, (resamples, count), generator=generator)
    one = torch.full((), 1 / count, dtype=torch.float64)
    return torch.zeros(resamples, count, dtype=one.dtype).scatter_add_(1, drawn, one.expand_as(drawn))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"'level' must be between 0 and 1, got {level}")
