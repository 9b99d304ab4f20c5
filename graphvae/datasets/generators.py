"""Random graphs of known distributions, as many as are asked for: what a generative model can be held against.

All randomness is from `seed`: an integer, or a generator of numpy or torch, which is advanced. Equal integers give
equal graphs, on one version of numpy. `num_nodes` is a number, or the least and the largest of a uniform draw.
"""

from __future__ import annotations

import networkx as nx
import numpy as np
import scipy.sparse
from scipy.spatial import Delaunay
from torch_geometric.data import Data

from graphvae.datasets.draws import Array, Seed, Sizes, accepted, bounds, check_probabilities, drawn_sizes, rng_from
from graphvae.datasets.graph_lists import joined
from graphvae.validation import check_edges, check_positive


def planar(num_graphs: int, seed: Seed, num_nodes: Sizes = 64) -> list[Data]:
    """Delaunay triangulations of uniform points in a square: connected, planar, 3n - 3 - h edges for h on the hull.

    References:
        Martinkus et al., "SPECTRE", 2022, arXiv:2204.01613: the set Planar.
    """
    rng, sizes = drawn_sizes(num_graphs, seed, num_nodes, least=3)
    return joined(sizes, [_triangulated(rng.random((size, 2))) for size in sizes])


def _triangulated(points: Array) -> Array:
    ends = np.sort(Delaunay(points).simplices[:, [[0, 1], [1, 2], [0, 2]]].reshape(-1, 2), 1)
    return np.stack(np.divmod(np.unique(ends[:, 0] * len(points) + ends[:, 1]), len(points)))


def tree(num_graphs: int, seed: Seed, num_nodes: Sizes = 64) -> list[Data]:
    """Labelled trees, each of the n^(n - 2) equally likely: decoded from uniform Prüfer codes, all at once.

    References:
        Bergmeister et al., "Efficient and scalable graph generation", 2023, arXiv:2312.11529: the set Tree.
    """
    rng, sizes = drawn_sizes(num_graphs, seed, num_nodes)
    edges: list[Array] = [np.empty((2, 0), dtype=np.int64)] * num_graphs
    for size in np.unique(sizes[sizes > 1]):
        places = np.flatnonzero(sizes == size)
        for place, found in zip(places, _decoded(rng.integers(size, size=(places.size, size - 2))), strict=True):
            edges[place] = found
    return joined(sizes, edges)


def _decoded(codes: Array) -> Array:
    """Array `(G, 2, n - 1)` of the trees with the Prüfer codes `(G, n - 2)`."""
    count, size = len(codes), codes.shape[1] + 2
    row = np.arange(count)
    degree = np.ones((count, size), dtype=np.int64)
    np.add.at(degree, (row[:, None], codes), 1)
    edges = np.empty((count, 2, size - 1), dtype=np.int64)
    for k, parent in enumerate(codes.T):
        leaf = (degree == 1).argmax(1)
        edges[:, :, k] = np.stack([leaf, parent], 1)
        degree[row, leaf] = 0
        degree[row, parent] -= 1
    edges[:, 0, -1] = (degree == 1).argmax(1)
    edges[:, 1, -1] = size - 1 - (degree[:, ::-1] == 1).argmax(1)
    return edges


def lobster(
    num_graphs: int,
    seed: Seed,
    backbone: float = 80,
    legs: float = 0.7,
    feet: float = 0.7,
    num_nodes: tuple[int, int] = (10, 100),
) -> list[Data]:
    """Lobsters: trees within two steps of a path; as networkx's `random_lobster_graph`, kept if of the right size.

    A path of a uniform length up to twice `backbone`; every node of it has k legs with probability (1 - p) p^k for
    p = `legs`, and every leg as many feet for p = `feet`. Early versions of networkx, of the time of the set Lobster
    of Liao et al. (2019, arXiv:1910.00760), drew at most one of each.

    Args:
        num_graphs: How many.
        seed: See above.
        backbone: Mean length of the path, before graphs are chosen by their size.
        legs: Probability of one more leg.
        feet: Probability of one more foot.
        num_nodes: Least and largest size; all others are drawn anew.
    """
    for name, chance in (("legs", legs), ("feet", feet)):
        if not 0 <= chance < 1:
            raise ValueError(f"'{name}' must be a probability below 1, got {chance}")
    rng, (least, largest) = rng_from(num_graphs, seed), bounds(num_nodes)

    def draw() -> tuple[int, Array] | None:
        length = int(2 * backbone * rng.random() + 0.5)
        if not 1 <= length <= largest:
            return None
        each = rng.geometric(1 - legs, length) - 1
        ends = rng.geometric(1 - feet, each.sum()) - 1
        parents = [np.arange(length - 1), np.arange(length).repeat(each), length + np.arange(ends.size).repeat(ends)]
        parent = np.concatenate(parents)
        size = parent.size + 1
        return (size, np.stack([parent, np.arange(1, size)])) if least <= size <= largest else None

    return accepted(draw, num_graphs)


def erdos_renyi(num_graphs: int, seed: Seed, num_nodes: Sizes = (10, 30), probability: float = 0.2) -> list[Data]:
    """Every pair of nodes is joined with one probability, independently; connected or not."""
    check_probabilities(probability=probability)
    rng, sizes = drawn_sizes(num_graphs, seed, num_nodes)
    pairs = [np.stack(np.triu_indices(size, 1)) for size in sizes]
    return joined(sizes, [ends[:, rng.random(ends.shape[1]) < probability] for ends in pairs])


def grid(sides: Sizes = (10, 19)) -> list[Data]:
    """All rectangular grids with m <= n rows and columns, both within `sides`, the smaller first; nothing is drawn."""
    least, largest = bounds(sides, "sides")
    shapes = sorted(
        ((m, n) for m in range(least, largest + 1) for n in range(m, largest + 1)),
        key=lambda shape: (np.prod(shape), shape),
    )
    edges = []
    for m, n in shapes:
        place = np.arange(m * n).reshape(m, n)
        right, down = (place[:, :-1], place[:, 1:]), (place[:-1], place[1:])
        edges.append(np.concatenate([np.stack([a.ravel(), b.ravel()]) for a, b in (right, down)], 1))
    return joined([m * n for m, n in shapes], edges)


def ego(
    num_graphs: int, seed: Seed, graph: Data | None = None, radius: int = 1, num_nodes: tuple[int, int] = (4, 18)
) -> list[Data]:
    """Neighbourhoods of different random nodes of one graph, with all edges inside; the node itself becomes node 0.

    There are few kinds of small neighbourhoods: expect isomorphic graphs, in different parts of a split too.

    Args:
        num_graphs: How many; no node is taken twice.
        seed: See above.
        graph: Undirected, such as `citation("citeseer")`; by default one of 5,000 nodes with a power law of degrees
            and triangles (Holme & Kim, 2002, arXiv:cond-mat/0110452), drawn anew.
        radius: Steps from the node.
        num_nodes: Least and largest size of the neighbourhoods that are drawn from.

    Raises:
        ValueError: The graph has too few such neighbourhoods.
    """
    check_positive(radius=radius)
    rng, (least, largest) = rng_from(num_graphs, seed), bounds(num_nodes)
    adjacency = _citations(rng) if graph is None else _adjacency(graph)
    step = adjacency + scipy.sparse.eye_array(adjacency.shape[0], dtype=np.int64, format="csr")
    reach = step
    for _ in range(radius - 1):
        reach = ((reach @ step) > 0).astype(np.int64)
    sizes = np.diff(reach.indptr)
    centers = np.flatnonzero((sizes >= least) & (sizes <= largest))
    if centers.size < num_graphs:
        raise ValueError(
            f"'num_graphs' must be at most {centers.size}, the neighbourhoods of {least} to {largest} nodes that the "
            f"graph has, got {num_graphs}; widen 'num_nodes' or give a larger 'graph'"
        )
    chosen = rng.choice(centers, num_graphs, replace=False)
    return joined(sizes[chosen], [_around(center, reach, adjacency) for center in chosen])


def _around(center: int, reach: scipy.sparse.csr_array, adjacency: scipy.sparse.csr_array) -> Array:
    nodes = reach.indices[reach.indptr[center] : reach.indptr[center + 1]]
    nodes = np.concatenate([[center], np.sort(nodes[nodes != center])])
    inside = adjacency[nodes][:, nodes].tocoo()
    ends = np.stack([inside.row, inside.col])
    return ends[:, ends[0] < ends[1]]


def _adjacency(graph: Data) -> scipy.sparse.csr_array:
    size = int(graph.num_nodes or 0)
    source, target = check_edges(graph.edge_index, size).cpu().numpy()
    return scipy.sparse.csr_array((np.ones(source.size, dtype=np.int64), (source, target)), shape=(size, size))


def _citations(rng: np.random.Generator) -> scipy.sparse.csr_array:
    drawn = nx.powerlaw_cluster_graph(5000, 2, 0.5, seed=int(rng.integers(2**31)))
    return nx.to_scipy_sparse_array(drawn, weight=None, format="csr").astype(np.int64)
