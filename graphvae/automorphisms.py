"""The number of automorphisms of a graph: relabellings that leave its edges, their types and rows of x as they were."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae import colours
from graphvae.graphs import Graphs, as_batch, batch_of, field, layout_of_edges
from graphvae.layout import Layout


def log_automorphisms(graphs: Graphs, largest: int = 64) -> Tensor:
    r"""Exact \(\log\lvert\mathrm{Aut}(G)\rvert\), `(B,)` float64, in nats. For evaluation: graphs are taken one by one.

    By orbits and stabilisers, \(\lvert\mathrm{Aut}(G)\rvert = \prod_i \lvert\mathrm{orbit}(v_i)\rvert\), where the i-th
    orbit is that under the automorphisms that fix \(v_1, \dots, v_{i-1}\). Whether there is one that takes \(v_i\) to
    a node of its colour is searched for by colour refinement after every choice. Nodes with the same neighbours are
    merged beforehand. The search is short for graphs met in practice, but can take exponential time for graphs made to
    be hard.

    Args:
        graphs: A PyG graph, batch or list, with or without features, directed or not.
        largest: Number of nodes up to which to try.

    Raises:
        ValueError: A graph is larger.

    References:
        McKay & Piperno, "Practical graph isomorphism, II", 2014, arXiv:1301.1493 (individualisation and refinement).
    """
    graphs = as_batch(graphs, directed=True)
    sizes = graphs.layout.host_sizes
    if max(sizes) > largest:
        raise ValueError(
            f"'graphs' must have at most {largest} nodes for an exact count, got {max(sizes)}; use "
            "log_automorphisms_bound, or raise 'largest'"
        )
    graphs = _with_types_as_nodes(graphs)
    sizes = graphs.layout.host_sizes
    start = colours.of_features(graphs).cpu().split(sizes)
    edges = graphs.edge_index.cpu().split(layout_of_edges(graphs).host_sizes, dim=1)
    found = []
    for first, own_start, own_edges in zip(graphs.layout.ptr[:-1].tolist(), start, edges, strict=True):
        adjacency = torch.zeros(own_start.numel(), own_start.numel(), dtype=torch.bool)
        adjacency[tuple(own_edges - first)] = True
        found.append(_log_order(adjacency, own_start))
    return torch.tensor(found, dtype=torch.float64, device=graphs.edge_index.device)


def log_automorphisms_bound(graphs: Graphs) -> Tensor:
    r"""An upper bound on \(\log\lvert\mathrm{Aut}(G)\rvert\), `(B,)` float64, in nats: for large graphs, and many.

    Colours are refined, a node of the smallest class of more than one is singled out, and so on until every node has a
    colour of its own. The bound is the product of the sizes of these classes, because an orbit lies within its class.
    All graphs advance together, in at most as many rounds as the largest has nodes.

    Exact where every class is an orbit: forests, cycles, complete graphs and all graphs whose nodes refinement tells
    apart at once, features included, among them. Too large where it is not, as for regular graphs with nodes that are
    not alike (strongly regular graphs, cycles of different lengths side by side). There it also depends on which node
    is singled out, the first of its class, and so on the numbering of the nodes; it is a bound with any.

    Args:
        graphs: A PyG graph, batch or list, with or without features, directed or not.
    """
    graphs = _with_types_as_nodes(as_batch(graphs, directed=True))
    found = colours.refined(graphs)
    total = torch.zeros(graphs.layout.num_graphs, dtype=torch.float64, device=found.device)
    while True:
        nodes, sizes = smallest_classes(found, graphs.layout)
        if nodes.numel() == 0:
            return total
        total[graphs.layout.batch[nodes]] += sizes.double().log()
        found = colours.refined(graphs, colours.individualised(found, nodes))


def smallest_classes(found: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """The first node of the smallest class of more than one node in each graph that has such a class, and its size.

    Of classes of the same size it is that of the lowest colour. Both results are `(M,)`, M at most B.
    """
    order = found.argsort(stable=True)
    order = order[layout.batch[order].argsort(stable=True)]
    runs, sizes = torch.stack([layout.batch, found])[:, order].unique_consecutive(dim=1, return_counts=True)
    starts, graph_of = sizes.cumsum(0) - sizes, runs[0]
    kept = (sizes > 1).nonzero()[:, 0]
    kept = kept[sizes[kept].argsort(stable=True)]
    kept = kept[graph_of[kept].argsort(stable=True)]
    first = torch.ones_like(kept, dtype=torch.bool)
    first[1:] = graph_of[kept].diff() != 0
    return order[starts[kept[first]]], sizes[kept[first]]


def _with_types_as_nodes(graphs: Batch) -> Batch:
    """The graphs with a node in the middle of every edge, of a kind for each type; as they are if there are no types.

    It has the automorphisms of the typed graph: they move the middles with the ends.
    """
    types = field(graphs, "edge_type")
    if types is None:
        return graphs
    layout, (source, target) = graphs.layout, graphs.edge_index
    kept = torch.ones_like(source, dtype=torch.bool) if graphs.directed else source < target
    source, target, types = source[kept], target[kept], types[kept]
    graph_of = layout.batch[source]
    added = torch.bincount(graph_of, minlength=layout.num_graphs)
    before = added.cumsum(0) - added
    longer = Layout.of(layout.sizes + added)
    nodes = torch.arange(layout.num_rows, device=source.device) + before[layout.batch]
    middles = torch.arange(source.numel(), device=source.device) + layout.ptr[graph_of + 1]
    kinds = torch.nn.functional.one_hot(types, 1 + max(types.tolist(), default=0)).double()
    x = torch.zeros(layout.num_rows, 0, dtype=torch.double, device=kinds.device) if graphs.x is None else graphs.x
    columns = x.size(1)
    rows = torch.zeros(longer.num_rows, columns + kinds.size(1), dtype=torch.double, device=kinds.device)
    rows[nodes, :columns], rows[middles, columns:] = x.to_dense().double(), kinds
    halves = torch.stack([torch.cat([nodes[source], middles]), torch.cat([middles, nodes[target]])])
    edges = halves if graphs.directed else torch.cat([halves, halves.flip(0)], 1)
    return batch_of(rows, edges, longer, graphs.directed)


def _log_order(adjacency: Tensor, start: Tensor) -> float:
    """Log|Aut| of one graph, given its `(n, n)` adjacency and initial colours `(n,)`."""
    adjacency, start, total = _without_twins(adjacency, start)
    search = _Search(adjacency, start)
    generators: list[list[int]] = []  # Of the automorphisms that fix all nodes fixed before the one at hand.
    for depth in reversed(range(len(search.fixed))):
        node, before = search.fixed[depth], search.chain[depth]
        orbit = _orbit(node, generators)
        for other in (before == before[node]).nonzero()[:, 0].tolist():
            found = None if other in orbit else search.automorphism(before, other, depth)
            if found is not None:
                generators.append(found)
                orbit = _orbit(node, generators)
        total += math.log(len(orbit))
    return total


def _without_twins(adjacency: Tensor, start: Tensor) -> tuple[Tensor, Tensor, float]:
    """Merges nodes of the same colour and neighbours, whose permutations are automorphisms, until there are none.

    True twins are joined to each other, false ones are not. The number of nodes merged and their kind go into the
    colour of the one that stays, so that |Aut| is that of the smaller graph times the number of permutations.

    Returns:
        The adjacency and colours of the smaller graph, and the logarithm of the number of permutations.
    """
    total, merged = 0.0, True
    while merged:
        before = start.numel()
        for joined in (False, True):
            rows = adjacency | torch.eye(start.numel(), dtype=torch.bool) if joined else adjacency
            keys = torch.cat([rows.long(), rows.T.long(), start[:, None]], 1)
            counts, kept = _classes(keys)
            total += float(torch.lgamma(counts.double() + 1).sum())
            merger = colours.mixed(start[kept] + colours.mixed(2 * counts + joined))
            start = torch.where(counts > 1, merger, start[kept])
            adjacency = adjacency[kept][:, kept]
        merged = start.numel() < before
    return adjacency, start, total


def _classes(keys: Tensor) -> tuple[Tensor, Tensor]:
    """For each different row of `keys` `(n, C)`, how often it occurs and the index of one that is it: `(M,)` twice."""
    _, members, counts = keys.unique(dim=0, return_inverse=True, return_counts=True)
    return counts, torch.empty_like(counts).scatter_(0, members, torch.arange(len(keys)))


def _orbit(node: int, generators: list[list[int]]) -> set[int]:
    """All nodes that products of `generators` take `node` to."""
    orbit, reached = {node}, [node]
    while reached:
        reached = [image for image in {g[v] for g in generators for v in reached} if image not in orbit]
        orbit.update(reached)
    return orbit


class _Search:
    """The search for automorphisms of one graph.

    Nodes are fixed one after another, colours refined after each, until every node has a colour of its own.

    Attributes:
        fixed: The nodes, each of the smallest class that was left.
        chain: `(n,)` colours before the first, ..., after the last of them.
    """

    def __init__(self, adjacency: Tensor, start: Tensor) -> None:
        directed = not torch.equal(adjacency, adjacency.T)
        self.adjacency = adjacency
        self.graph = batch_of(None, adjacency.nonzero().T.contiguous(), Layout.single(len(start)), directed)
        self.chain, self.fixed = [colours.refined(self.graph, start)], list[int]()
        while (node := smallest_classes(self.chain[-1], self.graph.layout)[0]).numel():
            self.fixed.append(int(node))
            self.chain.append(self.singled_out(self.chain[-1], self.fixed[-1]))

    def singled_out(self, before: Tensor, node: int) -> Tensor:
        """`(n,)` colours after fixing one more node."""
        return colours.refined(self.graph, colours.individualised(before, torch.tensor([node])))

    def automorphism(self, image: Tensor, other: int, depth: int) -> list[int] | None:
        """One that takes the nodes fixed up to `depth` to those that gave the colours `image`, and the next to `other`.

        Returns:
            The new number of each node, or None if there is no such automorphism.
        """
        image, depth = self.singled_out(image, other), depth + 1
        wanted = self.chain[depth]
        if not torch.equal(wanted.sort().values, image.sort().values):
            return None
        if depth < len(self.fixed):
            nodes = (image == wanted[self.fixed[depth]]).nonzero()[:, 0].tolist()
            tries = (self.automorphism(image, node, depth) for node in nodes)
            return next((found for found in tries if found is not None), None)
        moved = torch.empty_like(wanted).scatter_(0, wanted.argsort(), image.argsort())
        return moved.tolist() if torch.equal(self.adjacency[moved][:, moved], self.adjacency) else None
