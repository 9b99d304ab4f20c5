"""Sampling the neighbourhood of nodes in one large graph: plain PyTorch, one generator, no loop over nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from graphvae.graphs import as_batch
from graphvae.layout import counted


@dataclass(frozen=True)
class Subgraph:
    """What was sampled around some nodes.

    Attributes:
        n_id: `(n,)` numbers in the whole graph: the distinct seeds in ascending order, then what each hop reached.
        edge_index: `(2, E)` in local numbering.
        seeds: `(S,)` local number of each seed given, repeats included.
    """

    n_id: Tensor
    edge_index: Tensor
    seeds: Tensor


class NeighborSampler:
    r"""Draws, for each seed, some of its neighbours, some of theirs, and so on.

    Each hop starts from the nodes that the one before reached first, and draws for each of them, uniformly and without
    replacement, `fanout` of the edges that point to it. What this costs depends on how much is drawn, not on degrees,
    and on the number of nodes only by ten bytes for each.

    The subgraph holds the edges drawn, not all edges between its nodes; those of an undirected graph in both
    directions, as the library has it everywhere. With L hops of fanout -1 an L-layer network of sum, mean or maximum
    aggregations gives the seeds exactly what it gives on the whole graph. Layers that normalise by the degree of the
    *sending* node (`GCNConv`) need one hop more for that, whose edges complete the degrees of the outermost nodes. With
    smaller fanouts means are estimates, sums are too small by the share drawn, and degrees are those of the subgraph;
    in an undirected graph a node hears from the neighbours it drew and from those that drew it.

    Args:
        graph: One graph, checked here unless it was before; only its edges are kept, 4 bytes per column.
        fanouts: Edges to draw per node, hop by hop from the seeds outwards; -1 for all.
        directed: Edges may lack their reverse, and are kept as they point.

    Raises:
        ValueError, TypeError: As `as_batch`; more than one graph; a fanout that is neither positive nor -1.

    References:
        Hamilton et al., "Inductive representation learning on large graphs", 2017, arXiv:1706.02216.
    """

    def __init__(self, graph: Data, fanouts: Sequence[int], directed: bool = False) -> None:
        self.fanouts, self.directed = _checked(fanouts), directed
        whole = as_batch(graph, directed)
        if whole.layout.num_graphs != 1:
            raise ValueError(f"'graph' must be one graph, got a batch of {whole.layout.num_graphs}")
        self.num_nodes = num_nodes = whole.layout.num_rows
        source, target = whole.edge_index
        self._ptr = torch.nn.functional.pad(torch.bincount(target, minlength=num_nodes).cumsum(0), (1, 0))
        # Sorted within a row too, so that an edge is found by bisection; half the memory in int32.
        small = torch.int32 if num_nodes < 2**31 else torch.int64
        self._sources = (target * num_nodes + source).sort().values.remainder_(num_nodes).to(small)
        self._largest_degree = int(self._ptr.diff().max())

    def sample(
        self,
        seeds: Tensor,
        generator: torch.Generator | None = None,
        without: Tensor | None = None,
        fanouts: Sequence[int] | None = None,
    ) -> Subgraph:
        """A subgraph around `seeds`.

        Args:
            seeds: `(S,)` nodes, in any order, with or without repeats.
            generator: Of the device of the edges.
            without: `(2, K)` edges of the graph that are not there for this sample; of an undirected graph neither
                direction is.
            fanouts: Instead of the sampler's own.

        Raises:
            ValueError: A seed or an edge in `without` is not in the graph.
        """
        if seeds.numel() and (int(seeds.min()) < 0 or int(seeds.max()) >= self.num_nodes):
            raise ValueError(f"'seeds' must be nodes 0 to {self.num_nodes - 1}, got {seeds.min()} to {seeds.max()}")
        removed = self._removed(without)
        unseen = torch.ones(self.num_nodes, dtype=torch.bool, device=seeds.device)
        frontier = _distinct(seeds, unseen)
        nodes, columns = [frontier], []
        for fanout in self.fanouts if fanouts is None else _checked(fanouts):
            drawn = self._draw(frontier, fanout, removed, generator)
            frontier = _distinct(drawn[0], unseen)
            nodes.append(frontier)
            columns.append(drawn)
        n_id = torch.cat(nodes)
        local = n_id.new_empty(self.num_nodes)
        local[n_id] = torch.arange(n_id.numel(), device=n_id.device)
        edge_index = local[torch.cat(columns, 1)]
        return Subgraph(n_id, edge_index if self.directed else _symmetric(edge_index, n_id.numel()), local[seeds])

    def _draw(self, nodes: Tensor, fanout: int, removed: Tensor, generator: torch.Generator | None) -> Tensor:
        """`(2, D)` edges (source, target) drawn for `nodes`.

        Edges are counted without the removed ones: with k of them before it, the edge in place p has rank p - k.
        """
        ptr = self._ptr[torch.stack([nodes, nodes + 1])]
        first, end = ptr - torch.searchsorted(removed, ptr)
        owner, offset = _choose(end - first, fanout, generator)
        rank = first[owner] + offset
        kept_before = removed - torch.arange(removed.numel(), device=removed.device)
        place = rank + torch.searchsorted(kept_before, rank, right=True)
        return torch.stack([self._sources[place].long(), nodes[owner]])

    def _removed(self, without: Tensor | None) -> Tensor:
        """`(K,)` places of edges, ascending, found by bisection of their rows."""
        if without is None:
            return self._ptr.new_empty(0)
        source, target = without if self.directed else torch.cat([without, without.flip(0)], 1)
        if without.numel() and (int(without.min()) < 0 or int(without.max()) >= self.num_nodes):
            found = f"{without.min()} to {without.max()}"
            raise ValueError(f"'without' must hold nodes 0 to {self.num_nodes - 1}, got {found}")
        first, end = self._ptr[target], self._ptr[target + 1]
        low, high = first, end - 1
        for _ in range(self._largest_degree.bit_length()):
            middle = (low + high) // 2
            above = self._sources[middle] < source
            low, high = torch.where(above, middle + 1, low).minimum(high), torch.where(above, high, middle)
        if bool((first == end).any()) or not torch.equal(self._sources[low].long(), source):
            raise ValueError("'without' must hold edges of the graph, it holds others")
        return low.unique()


def _checked(fanouts: Sequence[int]) -> tuple[int, ...]:
    if not fanouts or any(fanout < 1 and fanout != -1 for fanout in fanouts):
        raise ValueError(f"'fanouts' must be positive numbers, or -1 for all neighbours, got {tuple(fanouts)}")
    return tuple(fanouts)


def _distinct(nodes: Tensor, unseen: Tensor) -> Tensor:
    """Those of `nodes` that are marked in `unseen`, each once and ascending; takes their marks away."""
    reached = torch.zeros_like(unseen)
    reached[nodes] = True
    reached &= unseen
    unseen &= ~reached
    return reached.nonzero().squeeze(1)


def _choose(sizes: Tensor, fanout: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """For each k, up to `fanout` different numbers below `sizes[k]`, uniformly: all k, and the numbers, one by one."""
    few = torch.ones_like(sizes, dtype=torch.bool) if fanout == -1 else sizes <= fanout
    small, large = few.nonzero().squeeze(1), (~few).nonzero().squeeze(1)
    place, offset = counted(sizes[small])
    owner = small[place]
    if not large.numel():
        return owner, offset
    chosen = _subsets(sizes[large], fanout, generator)
    return torch.cat([owner, large.repeat(fanout)]), torch.cat([offset, chosen.flatten()])


def _subsets(sizes: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """`(count, n)`: for each of `n` sizes > count, a uniform subset of `count` numbers below it (R. W. Floyd's).

    Comm. ACM 30(9), 1987: number `last` enters in place of a draw from 0 to `last` that is there already.
    """
    uniform = torch.rand(count, sizes.numel(), dtype=torch.float64, generator=generator, device=sizes.device)
    chosen = sizes.new_empty(count, sizes.numel())
    for step in range(count):
        last = sizes - count + step
        draw = (uniform[step] * (last + 1)).long()
        taken = (chosen[:step] == draw).any(0)
        chosen[step] = torch.where(taken, last, draw)
    return chosen


def _symmetric(edge_index: Tensor, num_nodes: int) -> Tensor:
    """Both directions of every edge that is there in one or in both."""
    keys = (edge_index.min(0).values * num_nodes + edge_index.max(0).values).sort().values.unique_consecutive()
    once = torch.stack([keys // num_nodes, keys % num_nodes])
    return torch.cat([once, once.flip(0)], 1)
