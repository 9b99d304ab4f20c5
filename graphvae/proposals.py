"""Which pairs to look at, and what each then stands for: sampling for sums over pairs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from graphvae.edge_distributions import BernoulliEdges, EdgeDistribution, inner_product
from graphvae.nonedges import NonEdges
from graphvae.pairs import softplus


class Draws(NamedTuple):
    """Pairs `(2, M)` and weights, `(M,)` or a number, such that weighted sums have the sum over all as their mean."""

    pairs: Tensor
    weights: Tensor | float


class Uniform(nn.Module):
    """Every pair beyond the near ones with equal probability; one draw from each of M equal parts of their list.

    The list is sorted by node, so that every node is covered in proportion to its pairs.
    """

    def forward(self, edges: EdgeDistribution, far: NonEdges, num: int, generator: torch.Generator | None) -> Draws:
        """`num` pairs and their common weight."""
        ranks = (_spread(num, far.present.device, generator) * far.count).long()
        return Draws(far.at(ranks.clamp(max=max(far.count - 1, 0))), far.count / max(num, 1))


class Clustered(nn.Module):
    r"""Importance sampling for scores \(l_i^\top r_j + b\) that are mostly very negative, where few pairs matter.

    Right factors are put into clusters (random rows as centres, improved once). Node i and cluster c are drawn in
    proportion to \(n_c\, \mathrm{softplus}(m + \min(v, 2\sqrt{v}))\), with m and v the mean and (from a diagonal
    covariance) variance of the scores of i within c, and j uniformly in c. A share of uniform pairs bounds the weights:
    no term exceeds 1 / `uniform` times the weight it has
    under uniform draws of ordered pairs. Time and memory O(N · clusters).

    Args:
        clusters: More of them follow the scores more closely; never more than nodes are used.
        uniform: Share of uniform draws, in (0, 1].
    """

    def __init__(self, clusters: int = 64, uniform: float = 0.1) -> None:
        super().__init__()
        if clusters < 1 or not 0 < uniform <= 1:
            raise ValueError(f"'clusters' must be positive and 'uniform' in (0, 1], got {clusters} and {uniform}")
        self.clusters, self.uniform = clusters, uniform

    @torch.no_grad()
    def forward(self, edges: EdgeDistribution, far: NonEdges, num: int, generator: torch.Generator | None) -> Draws:
        """`num` pairs and their weights, 0 for near pairs and for a node with itself.

        Raises:
            TypeError: Scores are no inner products.
            ValueError: Several graphs in one batch.
        """
        edges = inner_product(edges, "Clustered")
        if edges.layout.num_graphs > 1:
            raise ValueError(
                f"'proposal' Clustered is for one large graph, got {edges.layout.num_graphs}; the exact sum over small "
                "graphs is cheap, leave the estimator out"
            )
        with torch.autocast(edges.left.device.type, enabled=False):
            cluster, order, first, table = self._table(edges, generator)
        sizes = first.diff()
        mass = (table * sizes).flatten().double().cumsum(0)
        cells = torch.searchsorted(mass, _spread(num, mass.device, generator) * mass[-1], right=True)
        cells = cells.clamp(max=mass.numel() - 1)
        row, chosen = cells // sizes.numel(), cells % sizes.numel()
        place = torch.rand(num, generator=generator, device=mass.device, dtype=mass.dtype) * sizes[chosen]
        column = order[first[chosen] + place.long().clamp(max=sizes[chosen] - 1)]
        density = table[row, chosen]
        if not edges.directed:
            density = density + table[column, cluster[row]]
        pairs = torch.stack([row, column])
        counts = (row != column) & far.contains(pairs)
        return Draws(pairs, torch.where(counts, mass[-1].to(table.dtype) / (num * density), 0.0))

    def _table(self, edges: BernoulliEdges, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The cluster of each node, nodes by cluster, where each begins there, and `(N, C)` densities of a pair."""
        left, right, count = edges.left, edges.right, min(self.clusters, edges.layout.num_rows)
        chosen = torch.randperm(right.size(0), generator=generator, device=right.device)[:count]
        centres, _ = _means(right, _nearest(right, right[chosen]), count)
        cluster = _nearest(right, centres)
        centres, sizes = _means(right, cluster, count)
        spread, _ = _means((right - centres[cluster]) ** 2, cluster, count)
        variance = left**2 @ spread.T
        table = softplus(left @ centres.T + edges.bias + torch.minimum(variance, 2 * variance.sqrt()))
        mean = (table @ sizes.to(table.dtype)).mean() / left.size(0)
        table = (1 - self.uniform) * table + self.uniform * mean
        first = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
        return cluster, cluster.argsort(), first, table


def _spread(num: int, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """`(num,)` sorted numbers in [0, 1), one uniform in each of `num` equal intervals."""
    inside = torch.rand(num, generator=generator, device=device, dtype=torch.float64)
    return (torch.arange(num, device=device) + inside) / max(num, 1)


def _nearest(rows: Tensor, centres: Tensor) -> Tensor:
    return (rows @ centres.T - (centres**2).sum(1) / 2).argmax(1)


def _means(rows: Tensor, cluster: Tensor, count: int) -> tuple[Tensor, Tensor]:
    sizes = torch.bincount(cluster, minlength=count)
    total = rows.new_zeros(count, rows.size(1)).index_add(0, cluster, rows)
    return total / sizes.clamp(min=1)[:, None], sizes
