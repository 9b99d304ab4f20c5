"""MMDs as multiples of those of the training set. Three papers mean three things by it, so say which.

Each function takes the values of generated graphs and those of the training graphs, both against the same test graphs,
by the name of the statistic, as `Evaluation.mmd` has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

Values = Mapping[str, float]


def hspectre_ratio(generated: Values, train: Values) -> float:
    """The mean of generated / (train + 1e-8), over all statistics. It explodes where the training value is 0.

    References:
        Bergmeister et al., "Efficient and scalable graph generation through iterative local expansion", 2024,
        arXiv:2312.11529.
    """
    return fmean(generated[name] / (train[name] + 1e-8) for name in _common(generated, train))


def defog_ratio(generated: Values, train: Values) -> float:
    """The mean of generated / train, training values rounded to 4 digits and left out where that makes them 0.

    NaN if all are; the authors' code gives -1 there.

    References:
        Qin et al., "DeFoG: Discrete flow matching for graph generation", 2024, arXiv:2410.04263.
    """
    rounded = {name: round(train[name], 4) for name in _common(generated, train)}
    return _mean([generated[name] / value for name, value in rounded.items() if value != 0])


def autograph_ratio(generated: Values, train: Values) -> float:
    """The mean of generated / train over those that are finite, without a wavelet statistic. NaN if there is none.

    References:
        Chen et al., "Flatten graphs as sequences: transformers are scalable graph generators", 2025, arXiv:2502.02216.
    """
    names = [name for name in _common(generated, train) if name != "wavelet"]
    ratios = [generated[name] / train[name] for name in names if train[name] != 0]
    return _mean([ratio for ratio in ratios if math.isfinite(ratio)])


def _common(generated: Values, train: Values) -> list[str]:
    if not generated or set(generated) != set(train):
        raise ValueError(f"'train' must have the statistics of 'generated', {sorted(generated)}, got {sorted(train)}")
    return list(generated)


def _mean(values: list[float]) -> float:
    return fmean(values) if values else math.nan
