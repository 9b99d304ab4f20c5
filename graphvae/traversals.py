"""Breadth-first and depth-first orders as distributions: how a search that decides at random would walk the graphs.

Both start at a root in every connected component. The next root is any node with the best key among the nodes of the
largest components not yet visited, all alike; of the nodes that a search may visit next, one with the best key, all
alike. An order has probability zero if the search cannot walk so, else one over the number of choices at every step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graphvae.graphs import ranks
from graphvae.layout import Layout
from graphvae.orders import OrderDistribution, Ties
from graphvae.sort_keys import (
    KEY_BITS,
    bits_for,
    block_starts,
    per_graph,
    picked,
    random_bits,
    run_places,
    run_starts,
)
from graphvae.structure import Neighbors, components, lexicographic

_LAST = (1 << 63) - 1


class Roots:
    """Where a search of each connected component starts, and in which order components are searched.

    Args:
        neighbors: Of the batch.
        key: `(N,)` int64, 0, 1, ... without gaps; the smallest is the best.

    Attributes:
        component: `(N,)` number of the component of each node.
        sizes: `(C,)` nodes of each component; components of a graph are numbered in a row.
        rank: `(N,)` which nodes are the best roots, in each graph from 0.
    """

    def __init__(self, neighbors: Neighbors, key: Tensor) -> None:
        layout = neighbors.layout
        self.component = components(neighbors)
        self.sizes = torch.bincount(self.component)
        rank = lexicographic(layout.batch, -self.sizes[self.component], key)
        best = rank.new_full(self.sizes.shape, rank.numel()).scatter_reduce_(0, self.component, rank, "amin")
        eligible = rank == best[self.component]
        self.rank = rank - rank.new_full((layout.num_graphs,), rank.numel()).scatter_reduce_(
            0, layout.batch, rank, "amin"
        ).index_select(0, layout.batch)
        self._nodes = eligible.nonzero().squeeze(1)
        self._ties = Ties(lexicographic(rank[self._nodes]))
        self._layout = layout
        # Candidates of the component of a node, of the ranks below its own, and of those up to its own, in its graph.
        self._candidates = torch.bincount(self.component[self._nodes], minlength=self.sizes.numel())[self.component]
        per_rank = torch.bincount(rank[self._nodes], minlength=rank.numel())
        upto = per_rank.cumsum(0)
        before = torch.nn.functional.pad(upto, (1, 0))[rank[layout.ptr[:-1]] - self.rank[layout.ptr[:-1]]]
        self._upto = (upto[rank] - before[layout.batch]).masked_fill_(~eligible, -1)
        self._below = self._upto - per_rank[rank]

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """`(K, C)` the root of each component, and `(K, C)` the place in the order where it comes to stand."""
        sequence = self._ties.sample(num_orders, generator)
        owner = self.component[self._nodes].expand_as(sequence)
        first = sequence.new_full((num_orders, self.sizes.numel()), sequence.size(1))
        first.scatter_reduce_(1, owner, ranks(sequence), "amin")
        return self._nodes[sequence.gather(1, first)], block_starts(first.argsort(1), self.sizes)

    def choices(self, orders: Tensor, root: Tensor) -> tuple[Tensor, Tensor]:
        """How many nodes could have been the root, float64, and whether the root is none that may be taken.

        Args:
            orders: `(K, N)`.
            root: `(K, N)` bool, the places at which a component begins.

        Returns:
            Both `(K, N)`; 1 and False where no component begins.
        """
        begins = root.flatten().nonzero().squeeze(1)
        nodes = orders.flatten().index_select(0, begins)
        draw, place = begins // orders.size(1), begins % orders.size(1)
        visited = self._candidates[nodes].cumsum(0) - self._candidates[nodes]
        start = run_starts((draw * self._layout.num_graphs + self._layout.batch[place])[None])[0]
        visited = visited - visited[start]
        below, upto = self._below[nodes], self._upto[nodes]
        number = torch.ones(orders.shape, dtype=torch.float64, device=orders.device)
        number.view(-1).index_copy_(0, begins, (upto - visited).double())
        wrong = torch.zeros_like(root)
        wrong.view(-1).index_copy_(0, begins, (visited < below) | (visited >= upto))
        return number, wrong


class BreadthFirstOrders(OrderDistribution):
    """Orders of a breadth-first search: a queue, to which the unseen neighbours of its head are added, best key first.

    The work is that of visiting every edge and sorting every node once for each order; the rounds are the levels of the
    deepest search.

    Args:
        neighbors: Of the batch.
        key: `(N,)` int64, 0, 1, ... without gaps; the smallest is the best.
    """

    def __init__(self, neighbors: Neighbors, key: Tensor) -> None:
        self._neighbors, self._key, self._roots = neighbors, key, Roots(neighbors, key)
        self._num_keys = int(key.max()) + 1

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """As promised by `OrderDistribution`."""
        roots, starts = self._roots.sample(num_orders, generator)
        sizes = self._roots.sizes
        first = (sizes.cumsum(0) - sizes)[:, None]
        places = self._places(roots.t(), first, generator)
        if sizes.numel() > self._neighbors.layout.num_graphs:
            places += (starts.t() - first)[self._roots.component]
        return ranks(places.t())

    def _places(self, roots: Tensor, first: Tensor, generator: torch.Generator | None) -> Tensor:
        """`(N, K)` the place of each node, if component after component were searched from `roots` `(C, K)`.

        Draws are in columns: what is gathered for all of them are contiguous rows.
        """
        num_nodes, num_orders = self._key.numel(), roots.size(1)
        places = roots.new_full((num_nodes, num_orders), num_nodes)
        places.scatter_(0, roots, first.expand_as(roots))
        bits = KEY_BITS - bits_for(num_nodes) - bits_for(self._num_keys)
        tiebreak = random_bits(bits, places.shape, places.device, generator) + (self._key[:, None] << bits)
        tiebreak_bits = bits + bits_for(self._num_keys)
        free, left = (first + 1).repeat(1, num_orders), places.numel() - roots.numel()
        frontier, done = roots.unique(), self._neighbors.degree == 0
        while left:
            rows, parent = self._parents(frontier, done, places)
            old = places.index_select(0, rows)
            new = (old == num_nodes) & (parent < num_nodes)
            # Sorted by component, as parents are, then parent, key, and at random.
            by = (parent << tiebreak_bits).add_(tiebreak.index_select(0, rows)).masked_fill_(~new, _LAST)
            component = self._roots.component[rows]
            # In floating point, which is added several times as fast.
            counts = torch.zeros(free.shape, dtype=torch.float64, device=free.device)
            counts = counts.index_add_(0, component, new.double()).long()
            shift = (free - counts.cumsum(0)).add_(counts)
            found = ranks(by.t().argsort(1)).t() + shift.index_select(0, component)
            now = torch.where(new, found, old)
            places.index_copy_(0, rows, now)
            free += counts
            left -= int(counts.sum())
            frontier, done[rows] = rows[by.amin(1) < _LAST], now.amax(1) < num_nodes
        return places

    def _parents(self, frontier: Tensor, done: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Neighbours `(r,)` of the frontier not seen in all draws, and `(r, K)` their earliest neighbour's place."""
        owner, target = self._neighbors.of(frontier)
        kept = (~done[target]).nonzero().squeeze(1)
        rows, slot = target[kept].unique(return_inverse=True)
        sources = places.index_select(0, frontier[owner[kept]])
        parents = places.new_full((rows.numel(), places.size(1)), len(places))
        return rows, parents.scatter_reduce_(0, slot[:, None].expand_as(sources), sources, "amin")

    def log_prob(self, orders: Tensor) -> Tensor:
        """As promised by `OrderDistribution`."""
        place = torch.arange(orders.size(1), device=orders.device)
        rows = ranks(orders).int().t().contiguous()  # To move half as much memory.
        parent = self._neighbors.extreme(rows, torch.minimum).t().gather(1, orders).long()
        root = parent == place
        # Nodes added to the queue together are those of one parent; a component begins after all before it is done.
        added = torch.where(root, 2 * place, 2 * parent + 1) * self._num_keys + picked(self._key, orders)
        choices, wrong = self._roots.choices(orders, root)
        wrong[:, 1:] |= added[:, 1:] < added[:, :-1]
        number = torch.where(root, choices, run_places(added))
        return _one_of(number, wrong, self._neighbors.layout)


class DepthFirstOrders(OrderDistribution):
    """Orders of a depth-first search: next comes an unvisited neighbour, of the best key, of the last node with any.

    A search is one node after another: as many rounds as the largest graph has nodes, each over the nodes of all.

    Args:
        neighbors: Of the batch.
        key: `(N,)` int64, 0, 1, ... without gaps; the smallest is the best.
    """

    def __init__(self, neighbors: Neighbors, key: Tensor) -> None:
        self._neighbors, self._key, self._roots = neighbors, key, Roots(neighbors, key)
        self._num_keys = int(key.max()) + 1
        self._layout = neighbors.layout

    def sample(self, num_orders: int, generator: torch.Generator | None = None) -> Tensor:
        """As promised by `OrderDistribution`."""
        layout, num_graphs = self._layout, self._layout.num_graphs
        orders = layout.ptr.new_empty(num_orders, layout.num_rows)
        urgency = _Urgency(self._key, self._roots.rank, layout)
        waiting = urgency.of_roots(num_orders, generator)
        for place in range(max(layout.host_sizes)):
            graphs = (layout.sizes > place).nonzero().squeeze(1)
            draw = torch.arange(num_orders, device=graphs.device).repeat_interleave(graphs.numel())
            start = layout.ptr[graphs].repeat(num_orders)
            column = draw * num_graphs + graphs.repeat(num_orders)
            within = urgency.node_within(waiting.amax(0)[column])
            node = start + within
            orders[draw, start + place] = node
            waiting[within, column] = -1
            owner, neighbor = self._neighbors.of(node)
            slot = layout.places.index_select(0, neighbor) * waiting.size(1) + column.index_select(0, owner)
            current = waiting.view(-1).index_select(0, slot)
            fresh = urgency.of_neighbors(neighbor, place, generator).masked_fill_(current < 0, -1)
            waiting.view(-1).index_copy_(0, slot, fresh)
        return orders

    def log_prob(self, orders: Tensor) -> Tensor:
        """As promised by `OrderDistribution`."""
        rank = ranks(orders)
        latest, farthest = self._extreme_neighbors(rank)
        parent, reach = latest.t().gather(1, orders), farthest.t().gather(1, orders)
        root = parent < 0
        place = torch.arange(orders.size(1), device=orders.device)
        since = torch.where(root, self._layout.first_rows, parent + 1)
        # Nothing visited after the parent may still have a neighbour to visit.
        unfinished = _window_max(reach, since, max(self._layout.host_sizes)) >= place
        choices, wrong = self._roots.choices(orders, root)
        siblings, skipped = self._siblings(orders, rank, parent)
        return _one_of(torch.where(root, choices, siblings.double()), wrong | unfinished | skipped, self._layout)

    def _extreme_neighbors(self, rank: Tensor) -> tuple[Tensor, Tensor]:
        """`(N, K)` place of the latest neighbour before each node, -1 if none; and of the last of it and them all."""
        owner, neighbor = self._neighbors.with_self
        rows = rank.int().t().contiguous()  # To move half as much memory.
        neighbors = rows.index_select(0, neighbor)
        earlier = neighbors.masked_fill_(neighbors >= rows.index_select(0, owner), -1)
        reduce, extreme = self._neighbors.reduce, self._neighbors.extreme
        return reduce(earlier, torch.maximum).long(), extreme(rows, torch.maximum).long()

    def _siblings(self, orders: Tensor, rank: Tensor, parent: Tensor) -> tuple[Tensor, Tensor]:
        """At each place `(K, N)`: the unvisited neighbours of the parent with the node's key; whether a better one was.

        An edge leads from the earlier of its nodes to the later. Sorted by the first, the key of the second, and how
        late it comes, those still to come when a node is visited stand before it.
        """
        source, target = self._neighbors.edge_index[:, self._neighbors.edge_index[0] < self._neighbors.edge_index[1]]
        num_nodes = orders.size(1)
        ends = rank.index_select(1, source), rank.index_select(1, target)
        first, second = torch.minimum(*ends), torch.maximum(*ends)
        group = first * self._num_keys + picked(self._key, orders).gather(1, second)
        edges = (group * num_nodes + num_nodes - 1 - second).sort(1).values
        group, second = edges // num_nodes, num_nodes - 1 - edges % num_nodes
        first = group // self._num_keys
        start = run_starts(group)
        number = torch.arange(group.size(1), device=group.device) - start + 1
        latest = (first * num_nodes + second).cummax(1).values if group.size(1) else group
        better = (start > 0) & (latest.gather(1, (start - 1).clamp_min(0)) > first * num_nodes + second)
        # The edge to a node from its parent; the others go to a column that is dropped.
        slot = torch.where(parent.gather(1, second) == first, second, num_nodes)
        siblings = orders.new_ones(len(orders), num_nodes + 1).scatter_(1, slot, number)
        skipped = torch.zeros_like(siblings, dtype=torch.bool).scatter_(1, slot, better)
        return siblings[:, :-1], skipped[:, :-1]


class _Urgency:
    """What decides which node a depth-first search visits next, as one integer, the largest first.

    From its highest bits to its lowest: the last visited neighbour; the key, or for a root its rank; random bits, drawn
    anew for every neighbour that is visited; the number of the node in its graph, to be read off.
    """

    def __init__(self, key: Tensor, root_rank: Tensor, layout: Layout) -> None:
        self._layout = layout
        self._node_bits = bits_for(max(layout.host_sizes))
        rank_bits = bits_for(max(int(key.max()), int(root_rank.max())) + 1)
        self._random_bits = KEY_BITS - 2 * self._node_bits - 1 - rank_bits
        self._place_shift = self._node_bits + self._random_bits + rank_bits
        shift = self._node_bits + self._random_bits
        best = (1 << rank_bits) - 1
        self._neighbor, self._root = ((best - rank << shift) + layout.places for rank in (key, root_rank))

    def of_roots(self, num_orders: int, generator: torch.Generator | None) -> Tensor:
        """`(n, K·B)` of all nodes before the search, -1 where a graph has no node."""
        layout = self._layout
        columns = layout.batch + layout.num_graphs * torch.arange(num_orders, device=layout.ptr.device)[:, None]
        waiting = layout.ptr.new_full((max(layout.host_sizes), num_orders * layout.num_graphs), -1)
        waiting[layout.places.expand_as(columns), columns] = self._root + self._random(columns.shape, generator)
        return waiting

    def of_neighbors(self, nodes: Tensor, place: int, generator: torch.Generator | None) -> Tensor:
        """Of unvisited `nodes` `(M,)` of which a neighbour has just been visited, as number `place` of its graph."""
        return (
            self._neighbor.index_select(0, nodes)
            + self._random(nodes.shape, generator)
            + (place + 1 << self._place_shift)
        )

    def node_within(self, urgency: Tensor) -> Tensor:
        """The number in its graph of the node of each urgency."""
        return urgency & ((1 << self._node_bits) - 1)

    def _random(self, shape: torch.Size, generator: torch.Generator | None) -> Tensor:
        return random_bits(self._random_bits, shape, self._layout.ptr.device, generator) << self._node_bits


def _one_of(number: Tensor, wrong: Tensor, layout: Layout) -> Tensor:
    """Log-probabilities `(K, B)` of one choice of `number` `(K, N)` at every place; minus infinity if one is wrong."""
    logs = number.clamp_min(1).log().neg_()
    return per_graph(logs.masked_fill_(wrong, -torch.inf), layout)


def _window_max(values: Tensor, since: Tensor, longest: int) -> Tensor:
    """The maximum of `values` `(K, N)` at the places from `since` to before each place; -1 of none.

    Of the maxima over 1, 2, 4, ... places, two that overlap cover a window.
    """
    place = torch.arange(values.size(1), device=values.device)
    length = place - since
    found, width = torch.full_like(values, -1), 1
    while width <= longest:
        ends = values.gather(1, since), values.roll(width, 1)
        found = torch.where((length >= width) & (length < 2 * width), torch.maximum(*ends), found)
        values = torch.maximum(values, values.roll(-width, 1))
        width *= 2
    return found
