"""Distributions over the parts of a batch of graphs: every `log_prob` is one number per graph, in nats, `(B,)`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributions as dist
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from graphvae.edge_distributions import BernoulliEdges, EstimatedEdges
from graphvae.families import family
from graphvae.layout import Layout
from graphvae.pair_scores import CategoricalEdges
from graphvae.sparse import at_least_single

__all__ = [
    "BernoulliEdges",
    "CategoricalEdges",
    "EstimatedEdges",
    "PerGraph",
    "PointMass",
    "TableOfSizes",
    "drawing_from",
]


class PerGraph:
    """A torch distribution over rows, read as one distribution per graph.

    Args:
        base: Independent over rows; its samples are `(N, ...)`. Or of all rows of a graph together, as in `hierarchy`,
            with one log-probability per graph; `layout` is then that of graphs.
        layout: Which graph each row belongs to; one graph if None.
    """

    def __init__(self, base: dist.Distribution, layout: Layout | None = None) -> None:
        self.base = base
        self._layout = layout

    @property
    def layout(self) -> Layout:
        """Of the rows."""
        if self._layout is None:
            self._layout = Layout.single(self.mean.size(0), self.mean.device)
        return self._layout

    @property
    def mean(self) -> Tensor:
        """`(N, ...)` mean of each row."""
        return self.base.mean

    @property
    def stddev(self) -> Tensor:
        """`(N, ...)` standard deviation of each row."""
        return self.base.stddev

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of `value` `(N, ...)`, summed over the rows of each graph: `(B,)`."""
        logits = vars(self.base).get("logits") if type(self.base) is dist.Bernoulli else None
        if logits is not None and logits.shape == value.shape:
            # As torch has it, with the sign changed once a graph instead of once a value.
            return -self.layout.sum(binary_cross_entropy_with_logits(logits, value, reduction="none"))
        return self.layout.sum(self.base.log_prob(value))

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw `(N, ...)` without gradient."""
        with drawing_from(generator):
            return self.base.sample()

    def rsample(self, noise: Tensor | None = None, sample_shape: tuple[int, ...] = ()) -> Tensor:
        """Reparameterised draws, `(*sample_shape, N, ...)`.

        Args:
            noise: Standard normal noise of the shape of the draws, for a normal base: they are loc + scale * noise.
                To move the noise with the nodes is what makes a Monte-Carlo bound invariant under relabelling.
            sample_shape: Shape of as many draws, one if empty; not looked at if `noise` is given.

        Raises:
            TypeError: The distribution has no such draws, as discrete ones; or no place for `noise`.
        """
        if noise is None:
            if not self.base.has_rsample:
                raise TypeError(_without_path(self.base))
            return self.base.rsample(torch.Size(sample_shape))
        if not isinstance(self.base, dist.Normal):
            raise TypeError(f"'noise' needs a normal distribution, this is {type(self.base).__name__}")
        return self.base.loc + self.base.scale * noise

    def detached(self) -> PerGraph:
        """The same distribution with parameters that get no gradient; that of a value passes through `log_prob`.

        Raises:
            TypeError: The base distribution holds something whose gradient cannot be cut, such as a transform.
        """
        return PerGraph(_mapped(self.base, Tensor.detach), self._layout)

    def at_least_single(self) -> PerGraph:
        """The same distribution with parameters of half precision as float32.

        Raises:
            TypeError: As `detached`.
        """
        return PerGraph(_mapped(self.base, at_least_single), self._layout)

    def kl(self, other: PerGraph, z: Tensor | None = None) -> Tensor:
        r"""\(KL(self \| other)\), `(B,)`: in closed form where torch has one, otherwise estimated without bias.

        Args:
            other: Of rows of the same shape.
            z: `(N, ...)` a draw of this distribution, with its gradient if it is reparameterised; the estimate is
                log self(z) - log other(z). Not looked at where there is a closed form.

        Raises:
            ValueError: There is no closed form, and no draw.
        """
        rows = self.closed_kl(other)
        if rows is not None:
            return self.layout.sum(rows)
        if z is None:
            raise ValueError(
                f"'z' must be given, there is no closed KL of {family(self.base)} to "
                f"{family(other.base)} and one draw estimates it; use q.kl(p, q.rsample())"
            )
        z = at_least_single(z)
        q = self if z.dtype == self.mean.dtype else self.at_least_single()
        return q.log_prob(z) - other.log_prob(z)

    def kl_of_rows(self, other: PerGraph) -> Tensor:
        r"""\(KL(self \| other)\) in closed form, `(N, ...)`: one number for each of what is independent in a row.

        For normal latents these are the dimensions, `(N, D)`.

        Raises:
            TypeError: There is no closed form.
        """
        rows = self.closed_kl(other)
        if rows is None:
            names = f"{family(self.base)} to {family(other.base)}"
            raise TypeError(f"the prior must have a closed KL divergence, there is none of {names}; use StandardNormal")
        return rows

    def closed_kl(self, other: PerGraph) -> Tensor | None:
        """As `kl_of_rows`, but None if there is no closed form."""
        try:
            return dist.kl_divergence(self.base, other.base)
        except NotImplementedError:
            return None


def _without_path(base: dist.Distribution) -> str:
    return (
        f"draws of {type(base).__name__} have no gradient; use bounds.expected_elbo with Enumeration() (exact, for few "
        "discrete latents) or ScoreFunction(), bounds.importance_bound with gradient=Gradient.VIMCO, or "
        "objectives.relaxed, which is biased and no bound; or take sample()"
    )


def _mapped(base: dist.Distribution, function: Callable[[Tensor], Tensor]) -> dist.Distribution:
    """A copy of a distribution with `function` applied to all tensors it holds, and what it has computed from them."""
    mapped = copy.copy(base)
    for name, value in vars(base).items():
        if isinstance(value, Tensor):
            setattr(mapped, name, function(value))
        elif isinstance(value, dist.Distribution):
            setattr(mapped, name, _mapped(value, function))
        elif not isinstance(value, (bool, int, float, str, torch.Size, type(None))):
            raise TypeError(
                f"the distribution must be one of tensors, {type(base).__name__} holds a {type(value).__name__} as "
                f"'{name}', whose parameters are out of reach"
            )
    return mapped


class PointMass:
    """All mass at one value: the code of a plain autoencoder.

    It has no density against a prior with one, so no bound exists; use `objectives.reconstruction`.
    """

    def __init__(self, value: Tensor, layout: Layout | None = None) -> None:
        self.mean = value
        self._layout = layout

    @property
    def layout(self) -> Layout:
        """Of the rows."""
        return self._layout or Layout.single(self.mean.size(0), self.mean.device)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """The value, without gradient."""
        return self.mean.detach()

    def rsample(self, noise: Tensor | None = None) -> Tensor:
        """The value."""
        return self.mean

    def kl(self, other: PerGraph, z: Tensor | None = None) -> Tensor:
        """Undefined.

        Raises:
            TypeError: Always.
        """
        raise TypeError(
            "a PointMass has no KL to a prior, so there is no ELBO of a plain autoencoder; "
            "use objectives.reconstruction, or an encoder with a density such as NormalEncoder"
        )

    def kl_of_rows(self, other: PerGraph) -> Tensor:
        """Undefined, as `kl`."""
        return self.kl(other)


class TableOfSizes:
    """A distribution over the number of nodes, given by a table.

    Args:
        log_probs: `(n_max + 1,)` log-probability of 0, 1, ... nodes.
    """

    def __init__(self, log_probs: Tensor) -> None:
        self.log_probs = log_probs

    def log_prob(self, sizes: Tensor) -> Tensor:
        """Log-probability of each of `(B,)` sizes; minus infinity beyond the table."""
        beyond = sizes >= self.log_probs.numel()
        return self.log_probs[sizes.masked_fill(beyond, 0)].masked_fill(beyond, -torch.inf)

    def sample(self, num_graphs: int, generator: torch.Generator | None = None) -> Tensor:
        """`(num_graphs,)` sizes."""
        return torch.multinomial(self.log_probs.exp(), num_graphs, replacement=True, generator=generator)


@contextmanager
def drawing_from(generator: torch.Generator | None) -> Iterator[None]:
    """Lets code that draws from PyTorch's global generator, as torch.distributions does, draw from this one.

    The global generator of the device is left as it was; `generator` advances.
    """
    if generator is None:
        yield
        return
    module = torch.random if generator.device.type == "cpu" else torch.get_device_module(generator.device)
    index = () if generator.device.type == "cpu" else (generator.device,)
    outside = module.get_rng_state(*index)
    module.set_rng_state(generator.get_state(), *index)
    try:
        yield
        generator.set_state(module.get_rng_state(*index))
    finally:
        module.set_rng_state(outside, *index)
