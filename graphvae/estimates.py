r"""log p(A | Z) from some of the pairs, without bias: for decoders that are no inner product and for large graphs.

\(\log p(A \mid Z) = \sum_{E} s_{ij} - \sum_{pairs} \mathrm{softplus}(s_{ij})\). The pairs near an edge are computed,
the others sampled. `SampledPairs` varies in how pairs are drawn (`Uniform`, `Clustered`) and in what is subtracted from
every term because its sum over all pairs is known (`Quadratic`). Which one serves depends on the bias:

* balanced scores (a weighted objective, no bias): `SampledPairs(num, control=Quadratic())`;
* true probabilities of a sparse graph: `SampledPairs(num, hops=2, proposal=Clustered())` for inner products, `hops=2`
  alone for other decoders; `estimate` and `agreement` say whether that is enough. Where it is not, sum exactly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphvae.controls import Quadratic
from graphvae.edge_distributions import EdgeDistribution
from graphvae.layout import Layout
from graphvae.nonedges import NonEdges, Parted, parted
from graphvae.pairs import softplus
from graphvae.proposals import Clustered, Draws, Uniform
from graphvae.sparse import at_least_single

__all__ = ["Clustered", "Estimate", "Quadratic", "SampledPairs", "Uniform", "agreement"]

_HOPELESS = 0.05


@dataclass(frozen=True)
class Estimate:
    """What one estimate of log p(A | Z) is worth, all `(B,)` and without gradient.

    Attributes:
        value: The estimate.
        standard_error: Of `value`, from the spread of the very draws that made it: too low where a few pairs that were
            not drawn hold the sum, too high by what stratification gains. Infinite with fewer than
            two draws.
        sampled: The estimated part, the sum of softplus over the pairs that are not computed one by one.
    """

    value: Tensor
    standard_error: Tensor
    sampled: Tensor

    @property
    def relative(self) -> Tensor:
        """`(B,)` standard error over the sum that was sampled."""
        return self.standard_error / self.sampled.abs().clamp(min=torch.finfo(self.sampled.dtype).tiny)


class SampledPairs(nn.Module):
    r"""Computes the pairs of a near set S and estimates the sum over the others from M draws.

    With S the edges and uniform draws it is
    \(\sum_E \log\sigma(s) + \frac{\lvert\bar E\rvert}{M} \sum_{k=1}^M \log\sigma(-s_k)\). In general, for
    g = softplus - c with a control c (or 0) and pairs drawn with probability Q,

    \[\sum_{E} s - \sum_{S} \mathrm{softplus}(s) - \Big(\sum_{all} c - \sum_{S} c\Big)
      - \frac{1}{M} \sum_{k} \frac{g(s_k)\, [k \notin S]}{Q(k)}.\]

    Its expectation is log p(A | Z), and that of its gradient the gradient: Q and the coefficients of c depend on
    independent draws and on detached scores only. The variance is at most
    \(\frac{1}{M}\big(\sum_{\bar S} g^2 / Q - (\sum_{\bar S} g)^2\big)\), that of independent draws, for uniform ones
    \(\frac{\lvert\bar S\rvert^2}{M} \mathrm{Var}_{\bar S}(g)\); draws are spread evenly over the nodes, which only
    lowers it.
    With several graphs the draws are shared out by their numbers of pairs, and weights are the same for all.

    The near set of an `edge_index` is remembered while that tensor lives.

    Args:
        num: Draws M per call, over all graphs of the batch.
        hops: Pairs joined by a walk of at most `hops` edges are in S: 1 for the edges alone. With 2, S has about as
            many pairs as the sum of squared degrees, and what it holds of the sum has no variance.
        proposal: `Uniform()` (if None) or `Clustered()`.
        control: `Quadratic()`, or None.
    """

    def __init__(
        self, num: int, hops: int = 1, proposal: nn.Module | None = None, control: nn.Module | None = None
    ) -> None:
        super().__init__()
        if num < 1 or hops < 1:
            raise ValueError(f"'num' and 'hops' must be positive, got {num} and {hops}")
        self.num, self.hops = num, hops
        self.proposal, self.control = proposal or Uniform(), control

    def forward(self, edges: EdgeDistribution, edge_index: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """An estimate of log p(`edge_index`), `(B,)`, differentiable; undirected edges in both directions."""
        near = parted(edge_index, edges.layout, edges.directed, self.hops)
        return self._terms(edges, near, generator)[0]

    def log_normalizer(self, edges: EdgeDistribution, generator: torch.Generator | None = None) -> Tensor:
        """An estimate of the sum over all pairs of softplus(s), `(B,)`; no pair is computed for certain."""
        every = Parted(NonEdges.every(edges.layout, edges.directed), None)
        return -self._terms(edges, every, generator)[0]

    @torch.no_grad()
    def estimate(
        self, edges: EdgeDistribution, edge_index: Tensor, generator: torch.Generator | None = None
    ) -> Estimate:
        """An estimate with its standard error; warns where that exceeds a twentieth of what was sampled."""
        near = parted(edge_index, edges.layout, edges.directed, self.hops)
        value, pairs, values, terms = self._terms(edges, near, generator)
        error = _standard_error(terms, pairs, near.far)
        found = Estimate(value, error, _per_graph(edges.layout, values, pairs))
        worst = float(found.relative.max())
        if worst > _HOPELESS:
            warnings.warn(
                f"log p(A|Z) is hopelessly noisy: {self.num} draws leave a standard error of {100 * worst:.0f} % of "
                "the sum they stand for, a few pairs hold most of it, and gradients are noisier still; sum exactly, or "
                "try hops=2, proposal=Clustered() or more draws",
                stacklevel=2,
            )
        return found

    def _terms(
        self, edges: EdgeDistribution, near: Parted, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The estimate; the pairs drawn, their weighted softplus, and the latter less the control: what varies."""
        far, layout = near.far, edges.layout
        draws: Draws = self.proposal(edges, far, self.num if far.count else 0, generator)
        scores = at_least_single(edges.logits(torch.cat([far.present, draws.pairs], 1)))
        values = softplus(scores)
        computed, drawn = values.split([far.present.size(1), draws.pairs.size(1)])
        inside, outside = scores.split([computed.numel(), drawn.numel()])
        known = (inside if near.joined is None else inside * near.joined) - computed
        sampled = terms = draws.weights * drawn
        total: Tensor | float = 0.0
        if self.control is not None and far.count:
            surrogate = self.control(edges, generator)
            known = known + surrogate.at(inside)
            terms = terms - draws.weights * surrogate.at(outside)
            total = surrogate.total()
        value = _per_graph(layout, known, far.present) - _per_graph(layout, terms, draws.pairs) - total
        return value.to(scores.dtype), draws.pairs, sampled, terms


def agreement(log_prob: Callable[[Tensor], Tensor], z: Tensor) -> float:
    r"""The cosine between the gradients in `z` of two independent estimates: what part of a gradient is no noise.

    Close to 1, gradients are as good as exact; close to 0 they are noise. Its root estimates the cosine with the exact
    gradient.

    Args:
        log_prob: An estimate, drawn anew at each call: `lambda z: factor(z).log_prob(edge_index)`.
        z: `(N, D)` latents, or other inputs.
    """
    z = z.detach().requires_grad_()
    one, two = (torch.autograd.grad(log_prob(z).sum(), z)[0].flatten() for _ in range(2))
    return float(torch.nn.functional.cosine_similarity(one, two, dim=0))


def _per_graph(layout: Layout, values: Tensor, pairs: Tensor) -> Tensor:
    """Sums `(P,)` values of pairs over the graphs: `(B,)`."""
    if layout.num_graphs == 1:
        return values.sum(0, keepdim=True)
    return values.new_zeros(layout.num_graphs).index_add(0, layout.batch[pairs[0]], values)


def _standard_error(terms: Tensor, pairs: Tensor, far: NonEdges) -> Tensor:
    """Of the sum of the terms of each graph, as if its draws were independent."""
    layout = far.layout
    if far.count == 0:
        return terms.new_zeros(layout.num_graphs)
    draws = _per_graph(layout, torch.ones_like(terms), pairs)
    total, squares = _per_graph(layout, terms, pairs), _per_graph(layout, terms**2, pairs)
    spread = (squares - total**2 / draws.clamp(min=1)).clamp(min=0) * draws / (draws - 1).clamp(min=0.5)
    lacking = layout.num_pairs * (2 if far.directed else 1) > _per_graph(
        layout, torch.ones_like(far.present[0]), far.present
    )
    return torch.where(lacking & (draws < 2), torch.inf, spread.sqrt())
