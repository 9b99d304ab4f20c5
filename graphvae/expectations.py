r"""Expectations \(E_q f(z)\) of a function of latents, and their gradients: by a path, by the score, in full, relaxed.

Each is called with a distribution q over rows and a function f from `(K, R, ...)`, K latents of each of the R rows,
to `(K, B)`, and gives `(B,)`. Its gradient reaches the parameters of q and those that f depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import torch
import torch.distributions as dist
from torch import Tensor, nn

from graphvae.distributions import PerGraph
from graphvae.families import family
from graphvae.validation import check_positive

Baseline: TypeAlias = Callable[[Tensor], Tensor]
Function: TypeAlias = Callable[[Tensor], Tensor]


class Expectation(Protocol):
    r"""How \(E_q f(z)\) and its gradient are estimated.

    Attributes:
        biased: Whether the gradient is off on average.
    """

    biased: ClassVar[bool]

    def __call__(self, q: PerGraph, f: Function) -> Tensor:
        """An estimate for every graph, `(B,)`."""


@dataclass(frozen=True)
class Pathwise:
    r"""The mean of f over reparameterised draws, \(\partial_\phi E_q f = E\, \partial_z f\, \partial_\phi z\).

    For f that has a derivative almost everywhere and no jumps, and q with `rsample`. Usually of far less variance than
    `ScoreFunction`, but not always: that of \(\sin kz\) grows with \(k^2 / 2\), where the score function's does not.

    Args:
        draws: K.

    References:
        Kingma & Welling, 2013, arXiv:1312.6114; both estimators compared: Mohamed et al., 2020, arXiv:1906.10652.
    """

    draws: int = 1
    biased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(draws=self.draws)

    def __call__(self, q: PerGraph, f: Function) -> Tensor:
        """The mean over the draws, `(B,)`.

        Raises:
            TypeError: q is discrete.
        """
        return f(q.rsample(sample_shape=(self.draws,))).mean(0)


def mean_of_others(values: Tensor) -> Tensor:
    """For each of K draws the mean of the other values: `(K, B)` of `(K, B)`, a baseline of `ScoreFunction`.

    References:
        Kool, van Hoof & Welling, 2019 (REINFORCE with a leave-one-out baseline).
    """
    if len(values) < 2:
        raise ValueError(
            f"'draws' must be at least 2 for the mean of the others, got {len(values)}; or use baseline=None"
        )
    return (values.sum(0) - values) / (len(values) - 1)


@dataclass(frozen=True)
class ScoreFunction:
    r"""The mean of f over draws, with the gradient \(\frac1K \sum_k (f(z_k) - b_k)\, \partial_\phi \log q(z_k)\).

    Also called REINFORCE. Unbiased for any q, continuous or discrete, and any f.

    Args:
        draws: K.
        baseline: b, which must not depend on draw k itself, from the values `(K, B)`; nothing is subtracted if None.

    References:
        Williams, 1992.
    """

    draws: int = 2
    baseline: Baseline | None = mean_of_others
    biased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(draws=self.draws)

    def __call__(self, q: PerGraph, f: Function) -> Tensor:
        """The mean over the draws, `(B,)`.

        Raises:
            ValueError: Fewer draws than the baseline needs, unless there is no gradient.
        """
        z = q.base.sample(torch.Size((self.draws,)))
        values, log_q = f(z), log_probs(q, z)
        if not log_q.requires_grad:
            return values.mean(0)
        advantage = values.detach()
        if self.baseline is not None:
            advantage = advantage - self.baseline(advantage)
        return values.mean(0) + score_term(advantage / self.draws, log_q)


@dataclass(frozen=True)
class Enumeration:
    r"""The sum over every code, \(\sum_z q(z) f(z)\), exact. The graphs of a batch are enumerated side by side.

    Args:
        most: The largest number of codes of a graph.
    """

    most: int = 2**12
    biased: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(most=self.most)

    def __call__(self, q: PerGraph, f: Function) -> Tensor:
        """The expectation, `(B,)`.

        Raises:
            TypeError, ValueError: As `codes`.
        """
        z, present = codes(q, self.most)
        return (log_probs(q, z).masked_fill(~present, -torch.inf).exp() * f(z)).sum(0)


@dataclass(frozen=True)
class Relaxation:
    r"""BIASED: the mean of f over continuous stand-ins for discrete draws, with the gradient along their path.

    A Bernoulli variable becomes \(\sigma((\ell + \mathrm{logit}\,u) / T)\), the binary concrete distribution, a
    one-hot row a softmax of logits and Gumbel noise over T. What is estimated is the expectation of f between the
    codes, where a likelihood was never meant to be evaluated, so a bound is none any more. The bias falls with T, while
    the variance of the gradient grows without end.

    Args:
        temperature: T.
        draws: K.
        straight_through: Evaluate f at the code nearest to the relaxed draw. Values are then right on average, and
            the gradient, passed on as if it were that of the relaxed draw, still is not.

    References:
        Maddison, Mnih & Teh, 2017, arXiv:1611.00712; Jang, Gu & Poole, 2017, arXiv:1611.01144.
    """

    temperature: float
    draws: int = 1
    straight_through: bool = False
    biased: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(draws=self.draws)
        if not self.temperature > 0:
            raise ValueError(f"'temperature' must be positive, got {self.temperature}")

    def __call__(self, q: PerGraph, f: Function) -> Tensor:
        """The mean over the relaxed draws, `(B,)`.

        Raises:
            TypeError: q is neither Bernoulli nor one-hot categorical.
        """
        relaxed, harden = _relaxed(q.base, self.temperature)
        z = relaxed.rsample(torch.Size((self.draws,)))
        if self.straight_through:
            z = harden(z.detach()) + (z - z.detach())
        return f(z).mean(0)


def _relaxed(base: dist.Distribution, temperature: float) -> tuple[dist.Distribution, Function]:
    """A continuous distribution near a discrete one, and what takes its draws to the nearest code."""
    if isinstance(base, dist.Bernoulli):
        level = base.logits.new_tensor(temperature)
        return dist.RelaxedBernoulli(level, logits=base.logits, validate_args=False), torch.round
    if isinstance(base, dist.OneHotCategorical):
        level = base.logits.new_tensor(temperature)
        return dist.RelaxedOneHotCategorical(level, logits=base.logits, validate_args=False), _one_hot
    raise TypeError(f"'q' must be Bernoulli or one-hot categorical to be relaxed, got {family(base)}")


def _one_hot(z: Tensor) -> Tensor:
    return nn.functional.one_hot(z.argmax(-1), z.size(-1)).to(z.dtype)


def codes(distribution: PerGraph, most: int = 2**12) -> tuple[Tensor, Tensor]:
    """Every value that the rows of a graph can take together, for all graphs of a batch side by side.

    Args:
        distribution: Discrete, independent over rows, the same values everywhere.
        most: The largest number of codes of a graph.

    Returns:
        `(C, R, ...)` values, C the number of codes of the largest graph, and `(C, B)` whether a code is one of the
        graph's own: those of a smaller graph come first, and then again.

    Raises:
        TypeError: The distribution has no finite set of values.
        ValueError: There are more than `most` codes.
    """
    base, layout = distribution.base, distribution.layout
    if not base.has_enumerate_support:
        raise TypeError(
            f"the values of {family(base)} cannot be enumerated, only those of a discrete distribution can, "
            "such as a BernoulliEncoder's; use Pathwise or ScoreFunction"
        )
    values = base.enumerate_support(expand=False)
    values = values.reshape(len(values), *base.event_shape)
    width = base.batch_shape[1:].numel()
    largest = max(layout.host_sizes) * width
    if largest * (len(values) - 1).bit_length() > 62 or len(values) ** largest > most:
        raise ValueError(
            f"a graph has {largest} latents and so {len(values)}^{largest} codes, more than 'most' = {most}; use "
            "ScoreFunction, or latents of whole graphs (an encoder with 'pool'), or fewer"
        )
    device = layout.ptr.device
    place = layout.places[:, None] * width + torch.arange(width, device=device)
    code = torch.arange(len(values) ** largest, device=device)
    digits = code[:, None, None] // len(values) ** place % len(values)
    z = values[digits].reshape(code.numel(), *base.batch_shape, *base.event_shape)
    return z, code[:, None] < len(values) ** (layout.sizes * width)


def log_probs(q: PerGraph, z: Tensor) -> Tensor:
    """Log-probabilities of K latents `(K, R, ...)`, in nats: `(K, B)`."""
    return q.layout.repeated(len(z)).sum(q.base.log_prob(z).flatten(0, 1)).view(len(z), -1)


def score_term(advantage: Tensor, log_q: Tensor) -> Tensor:
    r"""Zero, with the gradient \(\sum_k a_k\, \partial \log q(z_k)\): `(B,)` of `(K, B)` both."""
    return (advantage * (log_q - log_q.detach())).sum(0)
