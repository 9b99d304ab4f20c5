"""p(n) and p(Z): how many nodes a graph has, and where its latents come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    Normal,
    OneHotCategorical,
)

from graphvae.distributions import PerGraph, TableOfSizes
from graphvae.families import ZeroOneNormal
from graphvae.layout import Layout
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive


class StandardNormal(nn.Module):
    """Independent standard normal latents, p(Z) = N(Z | 0, I).

    Args:
        latent: Dimension D of the latents.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, latent: int) -> None:
        super().__init__()
        check_positive(latent=latent)
        self.latent = latent
        self.register_buffer("zero", torch.zeros(()), persistent=False)
        self.register_buffer("one", torch.ones(()), persistent=False)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` latents with this layout."""
        shape = (layout.num_rows, self.latent)
        return PerGraph(ZeroOneNormal(self.zero.expand(shape), self.one.expand(shape)), layout)


class NormalMixture(nn.Module):
    r"""\(p(z_i) = \sum_k \pi_k\, N(z_i | m_k, \mathrm{diag}\, s_k^2)\), all learned; rows are independent.

    Latents then fall into groups that the model finds. The KL divergence to it is estimated at the draw that is
    decoded, see `PerGraph.kl`. It starts with equal weights, unit scales and means drawn from N(0, spread² I): one mean
    for all would leave components equal for ever.

    Args:
        latent: Dimension D of the latents.
        components: K.
        spread: Standard deviation of the first means, in units of the standard deviation of a component.

    References:
        Dilokthanakul et al., 2016, arXiv:1611.02648; Tomczak & Welling, 2018, arXiv:1705.07120 (with both compared).
    """

    def __init__(self, latent: int, components: int, spread: float = 1.0) -> None:
        super().__init__()
        check_positive(latent=latent, components=components)
        if not spread > 0:
            raise ValueError(f"'spread' must be positive, got {spread}")
        self.latent, self.components, self.spread = latent, components, spread
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(spread * torch.randn(components, latent))
        self.log_scale = nn.Parameter(torch.zeros(components, latent))

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` latents with this layout."""
        components = Independent(Normal(self.loc, self.log_scale.exp(), validate_args=False), 1, validate_args=False)
        weights = Categorical(logits=self.logits, validate_args=False)
        mixture = MixtureSameFamily(weights, components, validate_args=False)
        return PerGraph(mixture.expand((layout.num_rows,)), layout)


class Flow(nn.Module):
    r"""A normalising flow: \(\log p(z_i) = \log N(f(z_i) | 0, I) + \log \lvert \det f'(z_i) \rvert\), f learned.

    Rows are independent. f is a composition of autoregressive transforms: rational-quadratic splines on [-5, 5], the
    identity outside, or affine ones. Log-densities, all that training needs, take one pass through each network;
    samples take as many as there are dimensions, or `passes`. The KL divergence to it is estimated at the draw that is
    decoded, see `PerGraph.kl`. Needs the extra `graphvae[flows]`.

    Args:
        latent: Dimension D of the latents.
        transforms: How many are composed.
        hidden: Widths of the hidden layers of each transform's network.
        passes: Groups of dimensions, each of which depends on those before it; None for one group a dimension. 2 are
            coupling layers, whose samples take two passes.
        splines: Whether a dimension is transformed by a spline, or else by an affine map, which is faster.

    Raises:
        ImportError: zuko is not installed; the message has the line that installs it.

    References:
        Durkan et al., "Neural spline flows", 2019, arXiv:1906.04032; affine: Papamakarios et al., "Masked
        autoregressive flow", 2017, arXiv:1705.07057; coupling: Dinh et al., 2017, arXiv:1605.08803.
    """

    zero: Tensor

    def __init__(
        self,
        latent: int,
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        passes: int | None = None,
        splines: bool = True,
    ) -> None:
        super().__init__()
        check_positive(latent=latent, transforms=transforms, passes=passes)
        self.latent, self.transforms, self.hidden = latent, transforms, tuple(hidden)
        self.passes, self.splines = passes, splines
        kind = _zuko().flows.NSF if splines else _zuko().flows.MAF
        settings = {"transforms": transforms, "hidden_features": self.hidden, "passes": passes}
        self.transform = kind(latent, **settings).transform
        if latent == 1:  # The splines are then parameters themselves, drawn so that the density has sharp peaks.
            with torch.no_grad():
                for parameter in self.transform.parameters():
                    parameter.mul_(0.1)
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` latents with this layout."""
        zeros = self.zero.expand(layout.num_rows, self.latent)
        noise = Independent(Normal(zeros, torch.ones_like(zeros), validate_args=False), 1, validate_args=False)
        return PerGraph(_zuko().distributions.NormalizingFlow(self.transform(), noise), layout)


def _zuko() -> Any:
    """The package, imported without its turning off the checks of all torch distributions."""
    checked = Distribution._validate_args
    try:
        import zuko
    except ImportError as error:
        raise ImportError("flows need zuko: pip install 'graphvae[flows]'") from error
    Distribution.set_default_validate_args(checked)
    return zuko


class BernoulliPrior(nn.Module):
    r"""Independent binary latents, \(p(z_{id} = 1) = \sigma(\ell_d)\): fair bits, unless learned.

    Args:
        latent: Number D of bits in a row.
        learned: Train the logits, the same for every row.
    """

    def __init__(self, latent: int, learned: bool = False) -> None:
        super().__init__()
        self.latent, self.learned = latent, learned
        self.logits = _even(latent, learned)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` zeros and ones with this layout."""
        return PerGraph(Bernoulli(logits=_for_rows(self.logits, layout), validate_args=False), layout)


class CategoricalPrior(nn.Module):
    """One of D classes for every row, one-hot: all alike, unless learned.

    Args:
        latent: Number D of classes.
        learned: Train the logits, the same for every row.
    """

    def __init__(self, latent: int, learned: bool = False) -> None:
        super().__init__()
        self.latent, self.learned = latent, learned
        self.logits = _even(latent, learned)

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` one-hot rows with this layout."""
        return PerGraph(OneHotCategorical(logits=_for_rows(self.logits, layout), validate_args=False), layout)


def _even(latent: int, learned: bool) -> nn.Parameter:
    check_positive(latent=latent)
    return nn.Parameter(torch.zeros(latent), requires_grad=learned)


class EmpiricalSizes(nn.Module):
    """p(n) as the frequencies of the sizes seen, with Laplace smoothing over 1 to the largest.

    Args:
        sizes: Numbers of nodes of the training graphs, at least one, all positive.
        smoothing: Pseudo-count of every size, so that an unseen one is unlikely rather than impossible.
    """

    log_probs: Tensor

    def __init__(self, sizes: Sequence[int] | Tensor, smoothing: float = 1.0) -> None:
        super().__init__()
        sizes = torch.as_tensor(sizes)
        if sizes.numel() == 0 or int(sizes.min()) < 1:
            raise ValueError("'sizes' must be positive numbers of nodes, at least one")
        if smoothing < 0:
            raise ValueError(f"'smoothing' must not be negative, got {smoothing}")
        self.sizes = [int(size) for size in sizes]
        self.smoothing = smoothing
        counts = torch.bincount(sizes).to(torch.get_default_dtype())
        counts[1:] += smoothing
        self.register_buffer("log_probs", (counts / counts.sum()).log())

    def forward(self) -> TableOfSizes:
        """The distribution of the number of nodes."""
        return TableOfSizes(self.log_probs)


def _for_rows(logits: Tensor, layout: Layout) -> Tensor:
    return at_least_single(logits).expand(layout.num_rows, -1)
