"""Sets of orders: which of them, or of the graphs they make, are the same; draws without replacement."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.colours import mixed, of_features
from graphvae.graphs import field, layout_of_edges, ranks
from graphvae.layout import Layout
from graphvae.orders import OrderDistribution
from graphvae.sort_keys import first_of_each, per_graph

_ROUNDS = 64  # Of draws, before a set is left smaller than asked for.
_REMAINING = 1e-12  # A distribution whose drawn orders lack no more than this has been exhausted.


def order_hashes(orders: Tensor, layout: Layout) -> Tensor:
    """`(K, B)` int64 hashes: equal for equal orders of a graph, and otherwise different up to collisions."""
    slots = torch.arange(layout.num_rows, device=orders.device)
    return per_graph(mixed(mixed(slots) ^ orders), layout)


def image_hashes(graphs: Batch, orders: Tensor) -> Tensor:
    r"""`(K, B)` int64 hashes of the relabelled graphs \(\pi G\), features, edges and types: equal for equal graphs.

    Unequal graphs have equal hashes only by a coincidence of 64-bit numbers; a bound over distinct images then leaves
    one out, and stays a bound.

    Args:
        graphs: A checked batch with N nodes.
        orders: `(K, N)`.
    """
    place = mixed(ranks(orders) - graphs.layout.first_rows)
    source, target = (place.index_select(1, graphs.edge_index[side]) for side in (0, 1))
    ends = source + 3 * target
    types = field(graphs, "edge_type")
    found = per_graph(mixed(ends if types is None else ends + 5 * mixed(types)), layout_of_edges(graphs))
    if graphs.x is None:
        return found
    return found + per_graph(mixed(mixed(graphs.layout.places) ^ of_features(graphs)[orders]), graphs.layout)


@torch.no_grad()
def drawn_without_replacement(
    r: OrderDistribution, layout: Layout, num_orders: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Distinct orders, drawn one after another from what `r` has left.

    Args:
        r: Over orders of graphs with this layout.
        layout: Of N nodes in B graphs.
        num_orders: K. Fewer are found of a graph for which `r` has fewer, or very unequal ones.
        generator: To draw from.

    Returns:
        `(K, N)` orders, `(K, B)` their log r, and `(K, B)` which of them count.
    """
    drawn = r.sample(num_orders, generator)
    log_r = r.log_prob(drawn)
    for _ in range(_ROUNDS):
        new = first_of_each(order_hashes(drawn, layout))
        lacks = 1 - log_r.exp().masked_fill(~new, 0).sum(0)
        if bool(((new.sum(0) >= num_orders) | (lacks <= _REMAINING)).all()):
            break
        more = r.sample(num_orders, generator)
        drawn, log_r = torch.cat([drawn, more]), torch.cat([log_r, r.log_prob(more)])
    # The first appearances, in the order in which they came, before everything else.
    chosen = (~new).long().argsort(dim=0, stable=True)[:num_orders]
    return drawn.gather(0, chosen.index_select(1, layout.batch)), log_r.gather(0, chosen), new.gather(0, chosen)


def log_inclusion_weights(log_probs: Tensor, present: Tensor) -> Tensor:
    r"""Log of weights c with \(E \sum_{\pi \in S} c(\pi) f(\pi) = \sum_\pi f(\pi)\), S drawn without replacement.

    \(c(\pi) = \Pr(S | \pi \text{ came first}) / \Pr(S)\): the importance weight 1 / r of one draw, averaged over which
    of S it was. With \(\rho\) the probability outside S, and clocks that ring at rates r,
    \(\Pr(S) = \int_0^\infty e^{-v} \prod_{\pi \in S} (1 - e^{-v r(\pi) / \rho}) dv\), and the numerator leaves out the
    factor of \(\pi\). For a uniform r they are n! / K, for tiny probabilities 1 / (K r). If S is all that r gives,
    or holds fewer than asked for, they are 1: never more than they should be, so that bounds stay bounds.

    Args:
        log_probs: `(K, B)` log r of distinct orders, float64.
        present: `(K, B)` which of them are in S.

    Returns:
        `(K, B)` float64; minus infinity where not present.

    References:
        Murthy, 1957 (the estimator); Kool, van Hoof & Welling, 2020, arXiv:2002.06043 (its integrals).
    """
    log_r = log_probs.masked_fill(~present, -torch.inf)
    rest = 1 - log_r.exp().sum(0)
    whole = (rest <= _REMAINING) | ~present.all(0)
    log_v = _nodes(len(log_r), log_r.device)[:, None, None]
    rang = _log1mexp(log_v + log_r - rest.clamp(min=_REMAINING).log()).masked_fill(~present, 0)
    together = rang.sum(1, keepdim=True) - log_v.exp() + log_v
    log_c = (together - rang).logsumexp(0) - together.logsumexp(0)
    return log_c.masked_fill(whole, 0).masked_fill(~present, -torch.inf)


def _nodes(count: int, device: torch.device) -> Tensor:
    """Where to evaluate the integrals, `(T,)` log v: a peak near v = K, by the trapezoidal rule, to rounding."""
    end = math.log(count + 10 * math.sqrt(count) + 40)
    steps = math.ceil((end + 32) * 1.3 * math.sqrt(count + 8))
    return torch.linspace(-32.0, end, steps, dtype=torch.float64, device=device)


def _log1mexp(log_t: Tensor) -> Tensor:
    """Log(1 - exp(-t)) given log t, also where t is no longer a number."""
    t = log_t.clamp(min=-40.0).exp()
    return torch.where(log_t < -30, log_t, torch.log(-torch.expm1(-t)))
