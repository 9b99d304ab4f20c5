r"""p(Z) of latents of nodes that depend on each other: a variable of the graph above those of its nodes.

Independent latents of nodes make every graph a draw from one exchangeable latent-position model: graphs of one size
differ by chance alone, not in kind. Here a variable c or w of the graph says which kind, and nodes are independent
given it. Densities are of all latents of a graph together, and the same in every order of its nodes.

The KL divergence to such a prior is estimated at the draw that is decoded, see `PerGraph.kl`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, TypeAlias

import torch
from torch import Size, Tensor, nn
from torch.distributions import Categorical, Distribution, Normal
from torch.distributions.constraints import Constraint

from graphvae.distributions import PerGraph
from graphvae.families import normal
from graphvae.layout import Layout
from graphvae.priors import StandardNormal
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive

_Shape: TypeAlias = Size | list[int] | tuple[int, ...]
_LARGEST_LOG_SCALE = 10.0


class SharedMixture(nn.Module):
    r"""\(p(Z) = \sum_c \pi_c \prod_i p_c(z_i)\): each graph belongs to one of C components, and all its nodes with it.

    \(p_c = N(m_c, \mathrm{diag}\, s_c^2)\); or, with `groups`, \(p_c = \sum_k \rho_{ck}\, N(m_k, \mathrm{diag}\,
    s_k^2)\), where components share K groups of nodes and differ in their shares. All is learned, and the density is
    exact. It starts with equal weights (shares drawn near equal), unit scales and means drawn from N(0, spread² I).

    Args:
        latent: Dimension D of the latents.
        components: C, kinds of graphs.
        groups: K, kinds of nodes; None for one normal distribution in each component.
        spread: Standard deviation of the first means, in units of the standard deviation of a component.
    """

    def __init__(self, latent: int, components: int, groups: int | None = None, spread: float = 1.0) -> None:
        super().__init__()
        check_positive(latent=latent, components=components, groups=groups)
        if not spread > 0:
            raise ValueError(f"'spread' must be positive, got {spread}")
        self.latent, self.components, self.groups, self.spread = latent, components, groups, spread
        normals = components if groups is None else groups
        self.logits = nn.Parameter(torch.zeros(components))
        self.shares = None if groups is None else nn.Parameter(torch.randn(components, groups))
        self.loc = nn.Parameter(spread * torch.randn(normals, latent))
        self.log_scale = nn.Parameter(torch.zeros(normals, latent))

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` latents with this layout."""
        return _of_graphs(MixtureOfGraphs(self, layout))


class GraphLevelPrior(nn.Module):
    r"""\(p(Z) = \int p(w) \prod_i p(z_i | w, n)\, dw\) with a latent w of the graph, which has an inference network.

    \(p(z_i | w, n)\) is a mixture of K normals, whose parameters a network reads from w and the number n of nodes.
    `log_prob` is \(\log \frac1M \sum_m p(w_m)\, p(Z | w_m) / q(w_m | Z)\) at M fresh draws of q(w | Z), a normal
    distribution from a network that is the same in every order of the nodes (a mean over nodes). It is the logarithm of
    an unbiased estimate of p(Z) and so, in expectation, at most log p(Z), more tightly so the larger M. Hence a bound
    stays one: `elbo` with it lies below, by KL(q(w | Z) || p(w | Z)) if M = 1, and `importance_bound` weighs draws of
    (Z, w) together. As an estimate of log p(Z) itself, or of a KL divergence, it is biased.

    Args:
        latent: Dimension D of the latents of nodes.
        graph_latent: Dimension of w.
        hidden: Width of the hidden layers.
        components: K.
        above: p(w), a prior of latents of graphs such as `NormalMixture` or `Flow`; `StandardNormal` if None.
        draws: M.

    References:
        Edwards & Storkey, "Towards a neural statistician", 2017, arXiv:1606.02185 (a variable of a set above
        those of its members, with this factorisation); networks on sets: Zaheer et al., 2017, arXiv:1703.06114.
    """

    stochastic: bool = True

    def __init__(
        self,
        latent: int,
        graph_latent: int,
        hidden: int = 64,
        components: int = 1,
        above: nn.Module | None = None,
        draws: int = 1,
    ) -> None:
        super().__init__()
        check_positive(latent=latent, graph_latent=graph_latent, hidden=hidden, components=components, draws=draws)
        if above is not None and getattr(above, "latent", graph_latent) != graph_latent:
            raise ValueError(
                f"'above' must be a prior of 'graph_latent' = {graph_latent} dimensions, got {above.latent}"
            )
        self.latent, self.graph_latent, self.hidden = latent, graph_latent, hidden
        self.components, self.draws = components, draws
        self.above = above or StandardNormal(graph_latent)
        self.conditional = _network(graph_latent + 1, hidden, self._near_standard())
        self.rows = _network(latent, hidden, nn.Linear(hidden, hidden))
        self.inference = _network(hidden + 1, hidden, nn.Linear(hidden, 2 * graph_latent))

    def forward(self, layout: Layout) -> PerGraph:
        """The prior of `(N, D)` latents with this layout."""
        return _of_graphs(UnderGraphLatent(self, layout))

    def posterior(self, z: Tensor, layout: Layout) -> PerGraph:
        """q(w | Z) given `(N, D)` latents of nodes: one row per graph."""
        pooled = _sums(self.rows(z), layout) / layout.sizes[:, None]
        loc, log_scale = self.inference(torch.cat([pooled, _log_sizes(layout, z)], 1)).chunk(2, 1)
        return PerGraph(normal(loc, _bounded(log_scale).exp()), Layout.singles(layout.num_graphs, z.device))

    def given(self, w: Tensor, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
        """p(z_i | w, n) of each graph: logits `(B, K)`, means and logarithms of scales `(B, K, D)`."""
        return self._split(self.conditional(torch.cat([w, _log_sizes(layout, w)], 1)))

    def _near_standard(self) -> nn.Linear:
        """For parameters that start near those of N(0, I) for every w, with components that are not all alike."""
        last = nn.Linear(self.hidden, self.components * (1 + 2 * self.latent))
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
            self._split(last.bias)[1].normal_(std=0.0 if self.components == 1 else 1.0)
        return last

    def _split(self, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = numbers.unflatten(-1, (self.components, 1 + 2 * self.latent))
        logits, loc, log_scale = parts.split([1, self.latent, self.latent], -1)
        return logits.squeeze(-1), loc, _bounded(log_scale)


class _Rows(Distribution):
    """Of all rows of a graph together: `log_prob` `(B,)` of `(N, D)` values."""

    arg_constraints: ClassVar[dict[str, Constraint]] = {}

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        super().__init__(Size((layout.num_graphs,)), validate_args=False)

    @abstractmethod
    def log_prob(self, value: Tensor) -> Tensor:
        """`(B,)`."""

    @abstractmethod
    def sample(self, sample_shape: _Shape = ()) -> Tensor:
        """`(N, D)`; there is no shape of more draws."""


class MixtureOfGraphs(_Rows):
    """What a `SharedMixture` gives."""

    def __init__(self, prior: SharedMixture, layout: Layout) -> None:
        super().__init__(layout)
        self.prior = prior

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, `(B,)`."""
        prior, value = self.prior, at_least_single(value)
        rows = Normal(prior.loc, prior.log_scale.exp(), validate_args=False).log_prob(value[:, None]).sum(2)
        if prior.shares is not None:
            rows = (rows[:, None] + prior.shares.log_softmax(1)).logsumexp(2)
        return (prior.logits.log_softmax(0) + _sums(rows, self.layout)).logsumexp(1)

    @torch.no_grad()
    def sample(self, sample_shape: _Shape = ()) -> Tensor:
        """Components of graphs, then `(N, D)` rows."""
        prior = self.prior
        component = Categorical(logits=prior.logits, validate_args=False).sample((self.layout.num_graphs,))
        chosen = component.index_select(0, self.layout.batch)
        if prior.shares is not None:
            chosen = Categorical(logits=prior.shares[chosen], validate_args=False).sample()
        return torch.normal(prior.loc[chosen], prior.log_scale[chosen].exp())


class UnderGraphLatent(_Rows):
    """What a `GraphLevelPrior` gives."""

    def __init__(self, prior: GraphLevelPrior, layout: Layout) -> None:
        super().__init__(layout)
        self.prior = prior

    def log_prob(self, value: Tensor) -> Tensor:
        """The logarithm of an unbiased estimate of the density, `(B,)`."""
        prior, draws, value = self.prior, self.prior.draws, at_least_single(value)
        q = prior.posterior(value, self.layout)
        w = q.rsample(sample_shape=(draws,)).flatten(0, 1)
        many, graphs = self.layout.repeated(draws), q.layout.repeated(draws)
        log_q = graphs.sum(q.base.log_prob(w.unflatten(0, (draws, -1))).flatten(0, 1))
        log_p = prior.above(graphs).log_prob(w)
        found = log_p + _given(prior, w, value.repeat(draws, 1), many) - log_q
        return found.view(draws, -1).logsumexp(0) - math.log(draws)

    @torch.no_grad()
    def sample(self, sample_shape: _Shape = ()) -> Tensor:
        """Latents of graphs, then `(N, D)` rows."""
        w = self.prior.above(Layout.singles(self.layout.num_graphs, self.layout.ptr.device)).sample()
        logits, loc, log_scale = (part[self.layout.batch] for part in self.prior.given(w, self.layout))
        chosen = Categorical(logits=logits, validate_args=False).sample()[:, None, None].expand(-1, 1, loc.size(2))
        return torch.normal(loc.gather(1, chosen).squeeze(1), log_scale.gather(1, chosen).squeeze(1).exp())


def _given(prior: GraphLevelPrior, w: Tensor, z: Tensor, layout: Layout) -> Tensor:
    """Log p(Z | w), `(B,)`."""
    logits, loc, log_scale = (part.index_select(0, layout.batch) for part in prior.given(w, layout))
    rows = Normal(loc, log_scale.exp(), validate_args=False).log_prob(z[:, None]).sum(2)
    return layout.sum((logits.log_softmax(1) + rows).logsumexp(1))


def _of_graphs(rows: _Rows) -> PerGraph:
    # One number for each graph comes out, so the layout is that of graphs.
    return PerGraph(rows, Layout.singles(rows.layout.num_graphs, rows.layout.ptr.device))


def _sums(rows: Tensor, layout: Layout) -> Tensor:
    """`(N, C)` rows summed over each graph: `(B, C)`."""
    return rows.new_zeros(layout.num_graphs, rows.size(1)).index_add(0, layout.batch, rows)


def _bounded(log_scale: Tensor) -> Tensor:
    return log_scale.clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE)


def _log_sizes(layout: Layout, like: Tensor) -> Tensor:
    return layout.sizes.to(like.dtype).log()[:, None]


def _network(inputs: int, hidden: int, last: nn.Linear) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last)
