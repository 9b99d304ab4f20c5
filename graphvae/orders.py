r"""Distributions over the orders of the nodes of each graph of a batch, with exact log-probabilities.

An order is `(N,)` int64 in batch numbering: new node i is old node `order[i]`, of the same graph. Orders come stacked,
`(K, N)`, and their log-probabilities are `(K, B)`, minus infinity for an order that is never drawn. Whatever is drawn
at random, ties among it, is counted. Nothing is decided by the numbers of the nodes, so that a relabelled graph has the
relabelled orders with the same probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from graphvae.layout import Layout
from graphvae.sort_keys import (
    KEY_BITS,
    bits_for,
    block_starts,
    minus_infinity,
    per_graph,
    picked,
    random_bits,
    run_places,
)

_LOWEST_SCORE = -600.0  # exp(-600), times a million nodes, is far from the end of float64; so is its inverse.


class OrderDistribution(ABC):
    """A distribution over the orders of each graph, independent between graphs."""

    @abstractmethod
    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """Independent draws, `(K, N)`, without gradient."""

    @abstractmethod
    def log_prob(self, orders: Tensor) -> Tensor:
        """Log-probabilities of `orders` `(K, N)`, which must be permutations within each graph: `(K, B)` float64."""


class Ties:
    """Rows sorted by an integer class, ties at random; only rows that tie are sorted anew for every draw.

    Args:
        classes: `(N,)` int64, 0, 1, ... without gaps.
    """

    def __init__(self, classes: Tensor) -> None:
        self.classes, self._order = classes.sort(stable=True)
        sizes = torch.bincount(classes)
        self._tied = (sizes[self.classes] > 1).nonzero().squeeze(1)
        bits = bits_for(sizes.numel())
        self._random_bits = KEY_BITS - bits
        self._high = self.classes[self._tied] << self._random_bits

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """`(K, N)` the rows in order."""
        orders = self._order.repeat(num_orders, 1)
        if self._tied.numel():
            keys = random_bits(self._random_bits, (num_orders, self._tied.numel()), self._high.device, generator)
            shuffled = keys.add_(self._high).argsort(1)
            orders.index_copy_(1, self._tied, picked(self._order[self._tied], shuffled))
        return orders


class SortedOrders(OrderDistribution):
    r"""Nodes sorted by class, ties in every order alike: \(r(\pi) = \prod_c 1 / \lvert c \rvert!\) if sorted.

    Drawing costs a sort of the nodes that tie.

    Args:
        classes: `(N,)` int64, the smallest first.
        layout: Of the nodes.
    """

    def __init__(self, classes: Tensor, layout: Layout) -> None:
        _, self._class = torch.unique(_paired(layout.batch, classes), return_inverse=True)
        self._ties, self._layout = Ties(self._class), layout
        self._log_prob = per_graph(-run_places(self._ties.classes[None])[0].log()[None], layout)

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """As promised by `OrderDistribution`."""
        return self._ties.sample(num_orders, generator)

    def log_prob(self, orders: Tensor) -> Tensor:
        """As promised by `OrderDistribution`."""
        wrong = picked(self._class, orders) != self._ties.classes
        return self._log_prob + per_graph(minus_infinity(wrong), self._layout)


class BlockOrders(OrderDistribution):
    """Blocks of nodes one after another, sorted by class, and so are the nodes of a block; or the latter in reverse.

    Blocks of one class, and nodes of one class in a block, are in every order alike. A fair coin for each reversible
    block decides whether its nodes are sorted from the last class to the first.

    Args:
        block: `(N,)` int64 number of the block of each node, 0, 1, ... without gaps; blocks lie within graphs.
        block_class: `(C,)` int64, the smallest first within a graph.
        node_class: `(N,)` int64, the smallest first within a block.
        reversible: `(C,)` bool.
        layout: Of the nodes.
    """

    def __init__(
        self, block: Tensor, block_class: Tensor, node_class: Tensor, reversible: Tensor, layout: Layout
    ) -> None:
        self._block, self._reversible, self._layout = block, reversible, layout
        self._sizes = torch.bincount(block, minlength=block_class.numel())
        self._graph = graph = torch.zeros_like(block_class).scatter_(0, block, layout.batch)
        _, self._block_class = torch.unique(_paired(graph, block_class), return_inverse=True)
        _, self._class = torch.unique(_paired(block, node_class), return_inverse=True)
        self._ties = Ties(self._block_class)
        lowest = torch.full_like(self._sizes, block.numel()).scatter_reduce_(0, block, self._class, "amin")
        highest = torch.zeros_like(self._sizes).scatter_reduce_(0, block, self._class, "amax")
        self._mirror = lowest + highest
        ties = torch.zeros(1, layout.num_graphs, dtype=torch.float64, device=block.device)
        places = run_places(self._block_class.sort().values[None]).log()
        ties.index_add_(1, graph[self._block_class.argsort(stable=True)], places)
        self._ties_log_prob = -ties - per_graph(run_places(self._class.sort().values[None]).log(), layout)

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """As promised by `OrderDistribution`."""
        blocks = self._ties.sample(num_orders, generator)
        start = block_starts(blocks, self._sizes)
        coin = torch.rand(blocks.shape, generator=generator, device=blocks.device) < 0.5
        turned = (coin & self._reversible)[:, self._block]
        classes = torch.where(turned, self._mirror[self._block] - self._class, self._class)
        bits = bits_for(self._block.numel())
        keys = random_bits(KEY_BITS - 2 * bits, classes.shape, classes.device, generator)
        keys += ((start[:, self._block] << bits) + classes) << (KEY_BITS - 2 * bits)
        return keys.argsort(1)

    def log_prob(self, orders: Tensor) -> Tensor:
        """As promised by `OrderDistribution`."""
        block, shape = picked(self._block, orders), (len(orders), self._sizes.numel())
        place = torch.arange(orders.size(1), device=orders.device).expand_as(orders)
        first = orders.new_full(shape, orders.size(1)).scatter_reduce_(1, block, place, "amin")
        wrong = _falls(first.gather(1, block)) | _falls(picked(self._block_class, block))
        step = torch.nn.functional.pad(picked(self._class, orders).diff(dim=1), (1, 0))
        step = step * (torch.nn.functional.pad(block.diff(dim=1), (1, 0), value=1) == 0)
        highest, lowest = (orders.new_zeros(shape).scatter_reduce_(1, block, step, how) for how in ("amax", "amin"))
        rises, falls = (lowest >= 0).double(), (highest <= 0).double()
        chance = torch.where(self._reversible, (rises + falls) / 2, rises).log()
        signs = chance.new_zeros(len(orders), self._layout.num_graphs).index_add_(1, self._graph, chance)
        return self._ties_log_prob + signs + per_graph(minus_infinity(wrong), self._layout)


class PlackettLuceOrders(OrderDistribution):
    r"""The Plackett-Luce law, \(\log r(\pi) = \sum_t [s_{\pi_t} - \log \sum_{u \ge t} e^{s_{\pi_u}}]\).

    Nodes are drawn one after another without replacement with weights exp(s), by one sort of exponential variables.
    A score of more than 600 nats below the largest of its graph is taken as 600 below. Differentiable in the scores.

    Args:
        scores: `(N,)` floating point; a constant added to those of a graph changes nothing.
        layout: Of the nodes.

    References:
        Luce, "Individual choice behavior", 1959; Plackett, "The analysis of permutations", 1975.
    """

    def __init__(self, scores: Tensor, layout: Layout) -> None:
        self.scores, self._layout = scores, layout
        top = scores.detach().new_full((layout.num_graphs,), -torch.inf)
        top.scatter_reduce_(0, layout.batch, scores.detach(), "amax")
        self._shifted = (scores - top[layout.batch]).double().clamp_min(_LOWEST_SCORE)
        width = max(layout.host_sizes)
        # From the end of the graph, so that a running sum runs over what is still to come; padding is after it.
        self._slots = layout.batch * width + layout.sizes[layout.batch] - 1 - layout.places
        self._width = width

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """As promised by `OrderDistribution`."""
        shape = num_orders, self._layout.num_rows
        noise = torch.rand(shape, generator=generator, dtype=torch.float64, device=self.scores.device)
        arrival = noise.neg_().log1p_().neg_().log_() - self._shifted.detach()
        return _sorted_within(arrival, self._layout)

    def log_prob(self, orders: Tensor) -> Tensor:
        """As promised by `OrderDistribution`."""
        shape = len(orders), self._layout.num_graphs, self._width
        weights = picked(self._shifted.exp(), orders)
        padded = weights.new_zeros(len(orders), shape[1] * shape[2]).index_copy(1, self._slots, weights)
        rest = padded.view(shape).cumsum(2).flatten(1).index_select(1, self._slots)
        return self._layout.sum(self._shifted) - per_graph(rest.log(), self._layout)


class MixedOrders(OrderDistribution):
    """A mixture: every graph of every draw picks its component on its own.

    Args:
        components: M distributions over orders of the same batch.
        log_weights: `(M,)`, their exponentials sum to one.
    """

    def __init__(self, components: Sequence[OrderDistribution], log_weights: Tensor, layout: Layout) -> None:
        self._components, self._log_weights, self._layout = components, log_weights, layout

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """As promised by `OrderDistribution`; every component is sampled."""
        shape, weights = (num_orders, self._layout.num_graphs), self._log_weights.detach().exp()
        chosen = torch.multinomial(weights, shape[0] * shape[1], replacement=True, generator=generator).view(shape)
        chosen = chosen[:, self._layout.batch]
        orders = self._components[0].sample(num_orders, generator)
        for number, component in enumerate(self._components[1:], 1):
            orders = torch.where(chosen == number, component.sample(num_orders, generator), orders)
        return orders

    def log_prob(self, orders: Tensor) -> Tensor:
        """As promised by `OrderDistribution`."""
        parts = [component.log_prob(orders) for component in self._components]
        return torch.stack([part + weight for part, weight in zip(parts, self._log_weights, strict=True)]).logsumexp(0)


def check_orders(orders: Tensor, layout: Layout) -> None:
    """Checks that `orders` are `(K, N)` permutations within the graphs of `layout`, K at least 1.

    Raises:
        TypeError, ValueError: They are not.
    """
    if not isinstance(orders, Tensor):
        raise TypeError(
            f"'orders' must be a (K, {layout.num_rows}) tensor, got {type(orders).__name__}; an ordering such as "
            "Uniform() draws some by .sample(graphs, K)"
        )
    if orders.dim() != 2 or orders.size(1) != layout.num_rows or len(orders) == 0 or orders.dtype != torch.long:
        raise ValueError(
            f"'orders' must be a (K, {layout.num_rows}) int64 tensor, got {tuple(orders.shape)} of {orders.dtype}; "
            "one order is order[None], and orderings.Uniform().sample(graphs, K) makes some"
        )
    inside = bool(((orders >= 0) & (orders < layout.num_rows)).all())
    if inside and bool((layout.batch[orders] == layout.batch).all()):
        seen = torch.zeros_like(orders, dtype=torch.bool).scatter_(1, orders, True)
        if bool(seen.all()):
            return
    raise ValueError("'orders' must be permutations in batch numbering that keep every node in its own graph")


def _falls(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values.diff(dim=1), (1, 0)) < 0


def _paired(first: Tensor, second: Tensor) -> Tensor:
    """Numbers in the order of the pairs."""
    values, place = torch.unique(second, return_inverse=True)
    return first * values.numel() + place


def _sorted_within(values: Tensor, layout: Layout) -> Tensor:
    """`(K, N)` the rows of each graph from its smallest of float64 `values` `(K, N)` to its largest.

    Integers are sorted: the bits of a float, in the order of floats, behind the number of the graph. They lose as many
    of the last bits as that number takes.
    """
    bits = bits_for(layout.num_graphs)
    numbers = values.view(torch.int64)
    numbers = (numbers ^ ((numbers >> 63) & 0x7FFF_FFFF_FFFF_FFFF)) >> bits
    graph = layout.batch - (1 << (bits - 1))
    return numbers.add_((graph << (64 - bits)) + (1 << (63 - bits))).argsort(1)
