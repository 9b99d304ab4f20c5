"""Functions of the scores that are close to softplus and whose sum over all pairs is known: control variates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphvae.edge_distributions import BernoulliEdges, EdgeDistribution, inner_product
from graphvae.layout import Layout
from graphvae.nonedges import NonEdges
from graphvae.pairs import softplus
from graphvae.sparse import at_least_single


class Quadratic(nn.Module):
    r"""Control variate \(c_0 + c_1 s + c_2 s^2\) for softplus(s): its sum over all pairs is known from moments.

    For \(s = l_i^\top r_j + b\) the sums of s and s² over all pairs follow from \(\sum l, \sum r, L^\top L\) and
    \(R^\top R\) in O(N·D²). Coefficients are least squares on `fitted` pairs of their own, detached, so that
    expectation and gradient stay exact; the variance is that of `SampledPairs` with the residual for g. It gains where
    softplus is nearly quadratic on most pairs, scores of a few units around 0; not at a very negative bias, where the
    sum is held by the few pairs that a parabola misses.

    Args:
        fitted: Pairs that the coefficients are fitted to at every call; n of them add 3/n to the variance.
    """

    def __init__(self, fitted: int = 500) -> None:
        super().__init__()
        if fitted < 3:
            raise ValueError(f"'fitted' must be at least 3, a parabola has three coefficients, got {fitted}")
        self.fitted = fitted

    def forward(self, edges: EdgeDistribution, generator: torch.Generator | None) -> Parabola:
        """The fitted control.

        Raises:
            TypeError: Scores are no inner products.
        """
        edges = inner_product(edges, "Quadratic")
        every = NonEdges.every(edges.layout, edges.directed)
        with torch.no_grad(), torch.autocast(edges.left.device.type, enabled=False):
            scores = at_least_single(edges.logits(every.sample(self.fitted, generator))).double()
            centre, width = scores.mean(), scores.std().clamp(min=1e-6)
            powers = ((scores - centre) / width)[:, None] ** torch.arange(3, device=scores.device)
            normal = powers.T @ powers + 1e-9 * self.fitted * torch.eye(3, device=scores.device, dtype=scores.dtype)
            a0, a1, a2 = torch.linalg.solve(normal, powers.T @ softplus(scores))
            c2 = a2 / width**2
            c1 = a1 / width - 2 * c2 * centre
            return Parabola(edges, (a0 - a1 * centre / width + c2 * centre**2, c1, c2))


@dataclass(frozen=True)
class Parabola:
    """A quadratic function of the scores of `edges`, with coefficients of the powers 0, 1 and 2."""

    edges: BernoulliEdges
    coefficients: tuple[Tensor, Tensor, Tensor]

    def at(self, scores: Tensor) -> Tensor:
        """Its values, of the shape of `scores`."""
        c0, c1, c2 = (c.to(scores.dtype) for c in self.coefficients)
        return c0 + scores * (c1 + scores * c2)

    def total(self) -> Tensor:
        """Its sum over all pairs, `(B,)` float64, differentiable in the factors and the bias."""
        c0, c1, c2 = self.coefficients
        pairs, first, second = score_moments(self.edges)
        return c0 * pairs + c1 * first + c2 * second


def score_moments(edges: BernoulliEdges) -> tuple[Tensor, Tensor, Tensor]:
    """The number of pairs, and the sums over them of s and of s², each `(B,)`; float64, differentiable; O(N·D²).

    The outer products of one graph are added up in the type of the factors.
    """
    with torch.autocast(edges.left.device.type, enabled=False):
        return _moments(edges)


def _moments(edges: BernoulliEdges) -> tuple[Tensor, Tensor, Tensor]:
    left, right, layout, bias = edges.left, edges.right, edges.layout, edges.bias.double()
    loops = (left * right).sum(1).double()
    dots = (_sum_rows(layout, left) * _sum_rows(layout, right)).sum(1) - layout.sum(loops)
    squares = (_gram(layout, left) * _gram(layout, right)).sum((1, 2)) - layout.sum(loops**2)
    pairs = layout.num_pairs.double() * 2
    share = 1.0 if edges.directed else 0.5
    return share * pairs, share * (dots + bias * pairs), share * (squares + 2 * bias * dots + bias**2 * pairs)


def _sum_rows(layout: Layout, rows: Tensor) -> Tensor:
    """`(N, D)` to `(B, D)` float64."""
    if layout.num_graphs == 1:
        return rows.sum(0, keepdim=True, dtype=torch.float64)
    return rows.new_zeros(layout.num_graphs, rows.size(1), dtype=torch.float64).index_add(
        0, layout.batch, rows.double()
    )


def _gram(layout: Layout, rows: Tensor) -> Tensor:
    """The sum of the outer products of the rows of each graph, `(B, D, D)` float64."""
    if layout.num_graphs == 1:
        return (rows.T @ rows).double()[None]
    # Column by column: all outer products at once would take O(N·D²) memory.
    return torch.stack([_sum_rows(layout, rows * rows[:, d, None]) for d in range(rows.size(1))], 1)
