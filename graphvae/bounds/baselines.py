"""The gradient of a bound with respect to what discrete draws, orders or latents, are drawn from."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphvae.expectations import Baseline, score_term


def log_mean_exp(log_weights: Tensor, log_r: Tensor, baseline: Baseline | None = None) -> Tensor:
    r"""Log of the mean of K weights, with the gradient that is due to the draws of r, which themselves have none.

    The gradient of \(E_r\, L\) is that of L plus \(\sum_k (L - b_k)\, \partial \log r(\pi_k)\), for any baseline
    \(b_k\) that does not depend on draw k.

    Args:
        log_weights: `(K, B)`.
        log_r: `(K, B)` log-probabilities of the draws; with a gradient if r is learned.
        baseline: `vimco` if None.

    Returns:
        `(B,)`.

    Raises:
        ValueError: r is learned and there is one draw only.
    """
    bound = log_weights.logsumexp(0) - math.log(len(log_weights))
    if not (log_r.requires_grad and torch.is_grad_enabled()):
        return bound
    if len(log_r) < 2:
        raise ValueError(
            "'num_orders' must be at least 2 to train a learned ordering, for its baseline, got 1; to evaluate one, "
            "use torch.no_grad()"
        )
    return bound + score_of_log_mean(log_weights, log_r, baseline or vimco)


def score_of_log_mean(log_weights: Tensor, log_q: Tensor, baseline: Baseline) -> Tensor:
    r"""Zero, with the gradient \(\sum_k (L - b_k)\, \partial \log q(z_k)\) of the log of the mean of K weights.

    Args:
        log_weights: `(K, B)`, at least two.
        log_q: `(K, B)` log-probabilities of the draws.
        baseline: `vimco` or `leave_one_out`.

    Returns:
        `(B,)`.
    """
    log_weights = log_weights.detach()
    advantage = log_weights.logsumexp(0) - math.log(len(log_weights)) - baseline(log_weights)
    advantage = advantage.masked_fill(~advantage.isfinite(), 0)  # Where a graph, or all draws but one, has no chance.
    return score_term(advantage, log_q)


def vimco(log_weights: Tensor) -> Tensor:
    """For each k the bound with its log-weight replaced by the mean of the others': `(K, B)`.

    References:
        Mnih & Rezende, 2016, arXiv:1602.06725.
    """
    itself = _diagonal(log_weights)
    others = log_weights[None].expand(len(log_weights), -1, -1).masked_fill(itself, 0).sum(1) / (len(log_weights) - 1)
    return _without_each(log_weights, others) - math.log(len(log_weights))


def leave_one_out(log_weights: Tensor) -> Tensor:
    """For each k the bound from the other K - 1 alone: `(K, B)`.

    References:
        Kool, van Hoof & Welling, 2019 (REINFORCE with a leave-one-out baseline).
    """
    return _without_each(log_weights, torch.full_like(log_weights, -torch.inf)) - math.log(len(log_weights) - 1)


def _without_each(log_weights: Tensor, instead: Tensor) -> Tensor:
    """`(K, B)` log-sum-exp of each column with its k-th entry replaced by `instead[k]`."""
    return torch.where(_diagonal(log_weights), instead[:, None], log_weights[None]).logsumexp(1)


def _diagonal(log_weights: Tensor) -> Tensor:
    if len(log_weights) < 2:
        raise ValueError(f"'log_weights' must have at least 2 rows for a baseline, got {len(log_weights)}")
    return torch.eye(len(log_weights), dtype=torch.bool, device=log_weights.device)[:, :, None]
