"""The importance-weighted bound, its weights, and which gradient they give."""

from __future__ import annotations

import math
import warnings
from enum import Enum, auto
from typing import NamedTuple

import torch
from torch import Tensor

from graphvae.bounds.baselines import leave_one_out, score_of_log_mean, vimco
from graphvae.bounds.chunks import log_likelihoods
from graphvae.contracts import check_same_kind
from graphvae.distributions import PerGraph, PointMass
from graphvae.graphs import Graphs
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.validation import check_positive

_MANY_LATENTS = 1000


class Gradient(Enum):
    r"""Which estimate of the gradient of \(L_K = E \log \frac1K \sum_k w_k\), \(w_k = p(G, z_k) / q(z_k \mid G)\).

    The values are the same, and with \(\tilde w_k = w_k / \sum_l w_l\) the parameters of p get
    \(\sum_k \tilde w_k\, \partial_\theta \log w_k\) from all of them. They differ in what the
    parameters of q get, on which the draws \(z_k\) depend: the first three need draws with a path, the others do not,
    and are what discrete latents are trained with.
    """

    PLAIN = auto()
    r"""\(\sum_k \tilde w_k\, (\partial_{z_k} \log w_k\, \partial_\phi z_k - \partial_\phi \log q(z_k))\): unbiased; its
    signal falls below its noise as K grows (Rainforth et al., 2018, arXiv:1802.04537)."""
    STL = auto()
    r"""\(\sum_k \tilde w_k\, \partial_{z_k} \log w_k\, \partial_\phi z_k\), sticking the landing (Roeder, Wu &
    Duvenaud, 2017, arXiv:1703.09194): unbiased for K = 1; zero where q is the posterior; biased for K > 1."""
    DREG = auto()
    r"""\(\sum_k \tilde w_k^2\, \partial_{z_k} \log w_k\, \partial_\phi z_k\), doubly reparameterised (Tucker et al.,
    2018, arXiv:1810.04152): unbiased for every K, of less variance; STL at K = 1."""
    VIMCO = auto()
    r"""\(\sum_k (\hat L - b_k - \tilde w_k)\, \partial_\phi \log q(z_k)\), the score function, where \(b_k\) is
    \(\hat L = \log \frac1K \sum_l w_l\) with \(\log w_k\) replaced by the mean of the others' (Mnih & Rezende, 2016,
    arXiv:1602.06725): unbiased for every K, which must be 2 at least."""
    LEAVE_ONE_OUT = auto()
    r"""As VIMCO, with \(b_k\) the bound from the other K - 1 draws alone."""


_BASELINES = {Gradient.VIMCO: vimco, Gradient.LEAVE_ONE_OUT: leave_one_out}


class Draws(NamedTuple):
    """K latents drawn for each graph of a batch.

    `z` is `(K * R, D)`, particle after particle; each has R rows, those of the posterior: nodes, or graphs if pooled.
    `log_ratio` is `(K, B)`, log p(z_k) - log q(z_k | G), `layout` that of the R rows, and `log_q` `(K, B)` the second
    part of the ratio.
    """

    z: Tensor
    log_ratio: Tensor
    layout: Layout
    log_q: Tensor

    def reweigh(self, log_weights: Tensor) -> None:
        r"""Multiplies the gradient that reaches `z` by the normalised weights, the second factor of `Gradient.DREG`.

        Args:
            log_weights: `(K, B)` all those that are summed with these draws, before the backward pass.
        """
        if self.z.requires_grad:
            shares = log_weights.detach().softmax(0).index_select(1, self.layout.batch).flatten()
            self.z.register_hook(lambda grad: grad * shares.to(grad.dtype).view(-1, *[1] * (grad.dim() - 1)))


def importance_bound(
    model: GraphVAE,
    graphs: Graphs,
    particles: int,
    noise: Tensor | None = None,
    chunk: int | None = None,
    gradient: Gradient = Gradient.PLAIN,
) -> Tensor:
    r"""The importance-weighted bound, \(\log \frac1K \sum_k p(G, z_k) / q(z_k \mid G)\) for K draws of q.

    Its expectation \(L_K\) is a lower bound on log p(G) in the labelled convention: \(L_1\) is the ELBO, whose KL
    divergence is sampled here, and \(L_K \le L_{K+1} \le \log p(G)\). The gap is about \(\mathrm{Var}(w) / 2 K p^2\).
    Not to be confused with two averages of the same weights: that of log w_k is the ELBO, with less noise, for any K;
    that weighted by \(\tilde w_k\) exceeds this bound and need not be below log p(G).

    Args:
        model: With an encoder that has a density or probabilities, and likelihoods that are computed: noise in log p
            inside the logarithm of a sum would not average out, and break the bound.
        graphs: A PyG graph, batch or list.
        particles: K. The encoder runs once, and the K particles are decoded as one batch of K·B graphs.
        noise: Standard normal, `(K, ...)` for latents of shape `(...)`; drawn if None.
        chunk: The most particles to decode at a time, all if None. What is kept for the gradient is then that of one
            chunk, decoded again in the backward pass.
        gradient: Of the parameters of q; for discrete latents VIMCO or LEAVE_ONE_OUT.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The encoder gives a point mass; latents are discrete and the gradient needs a path; or what
            `PerGraph.detached` refuses, for STL and DREG.
        ValueError: log p(A | Z) is only estimated; `particles`, `chunk` or the shape of `noise` is wrong.

    Warns:
        UserWarning: A graph has so many latent numbers that a few particles change nothing.

    References:
        Burda, Grosse & Salakhutdinov, 2015, arXiv:1509.00519.
    """
    return log_importance_weights(model, graphs, particles, noise, chunk, gradient).logsumexp(0) - math.log(particles)


def log_importance_weights(
    model: GraphVAE,
    graphs: Graphs,
    particles: int,
    noise: Tensor | None = None,
    chunk: int | None = None,
    gradient: Gradient = Gradient.PLAIN,
) -> Tensor:
    r"""Log p(G, z_k) - log q(z_k | G) of K draws of q, `(K, B)`, in float32 at least; \(E\, w_k = p(G)\).

    Arguments, and what is raised, as for `importance_bound`.
    """
    graphs = model.batch(graphs)
    drawn = draws(model, model.posterior(graphs), particles, noise, gradient)
    z = drawn.z.unflatten(0, (particles, -1))
    found = log_likelihoods(model, graphs, z, chunk, exact=True) + drawn.log_ratio
    if gradient is Gradient.DREG:
        drawn.reweigh(found)
    if gradient in _BASELINES and drawn.log_q.requires_grad:
        found = found + score_of_log_mean(found, drawn.log_q, _BASELINES[gradient])
    return found


def effective_sample_size(log_weights: Tensor) -> Tensor:
    r"""\((\sum_k w_k)^2 / \sum_k w_k^2\), between 1 and K: how many of K particles carry the sum, `(B,)`.

    Args:
        log_weights: `(K, B)`, not all minus infinity.

    References:
        Kong, 1992.
    """
    if log_weights.dim() != 2:
        shape = tuple(log_weights.shape)
        raise ValueError(f"'log_weights' must be (K, B) as of log_importance_weights, got shape {shape}")
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()


def draws(
    model: GraphVAE,
    q: PerGraph | PointMass,
    particles: int,
    noise: Tensor | None = None,
    gradient: Gradient = Gradient.PLAIN,
) -> Draws:
    """K latents of a posterior and their log p(z) - log q(z); arguments as for `importance_bound`.

    For `Gradient.DREG`, call `Draws.reweigh` with the weights; for VIMCO and LEAVE_ONE_OUT, add `score_of_log_mean`.
    """
    q = _checked(q, particles, noise, gradient)
    layout = q.layout.repeated(particles)
    if q.mean.dtype in (torch.float16, torch.bfloat16):
        q = q.at_least_single()
    z = _latents(q, particles, noise, gradient).flatten(0, 1)
    density = q.detached().base if gradient in (Gradient.STL, Gradient.DREG) else q.base
    log_q = layout.sum(density.log_prob(z.unflatten(0, (particles, -1))).flatten(0, 1))
    p = model.prior(layout)
    check_same_kind(q, p)
    log_ratio = p.log_prob(z) - log_q
    return Draws(z, log_ratio.view(particles, -1), q.layout, log_q.view(particles, -1))


def _latents(q: PerGraph, particles: int, noise: Tensor | None, gradient: Gradient) -> Tensor:
    """`(K, R, D)`, without gradient where that is a score function's."""
    if gradient not in _BASELINES:
        return q.rsample(noise, (particles,))
    return q.base.sample(torch.Size((particles,))) if noise is None else q.rsample(noise).detach()


def _checked(q: PerGraph | PointMass, particles: int, noise: Tensor | None, gradient: Gradient) -> PerGraph:
    if isinstance(q, PointMass):
        raise TypeError("'model' must have an encoder with a density, a PointMass has none; use NormalEncoder")
    if not isinstance(gradient, Gradient):
        raise TypeError(f"'gradient' must be a bounds.Gradient, such as Gradient.DREG, got {gradient!r}")
    check_positive(particles=particles)
    if gradient in _BASELINES and particles < 2 and torch.is_grad_enabled():
        raise ValueError(
            f"'particles' must be at least 2 for the baseline of {gradient}, got {particles}; or use "
            "bounds.expected_elbo with ScoreFunction(1, baseline=None), or evaluate under torch.no_grad()"
        )
    if noise is not None and noise.shape != (particles, *q.mean.shape):
        raise ValueError(
            f"'noise' must have one draw for each of the {particles} particles, of shape "
            f"{(particles, *q.mean.shape)}, got {tuple(noise.shape)}"
        )
    _warn_of_many_latents(q, particles)
    return q


def _warn_of_many_latents(q: PerGraph, particles: int) -> None:
    largest = max(q.layout.host_sizes) * q.mean[:1].numel()
    if particles > 1 and largest > _MANY_LATENTS:
        warnings.warn(
            f"a graph has {largest} latent numbers, more than {_MANY_LATENTS}: the variance of its log-weights grows "
            f"with them, so that one of the {particles} particles has nearly all the weight and the bound is little "
            "better than the ELBO; look at effective_sample_size, and use elbo, or an encoder with 'pool'",
            stacklevel=6,  # Where importance_bound was called.
        )
