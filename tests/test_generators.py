"""Random graphs: each kind is what it is called, its moments are those of theory, and all randomness is the seed's."""

import inspect
import random

import networkx as nx
import numpy as np
import pytest
import torch

from graphvae.datasets import communities, generators
from graphvae.datasets.draws import accepted

DRAWN = [
    *(generators.planar, generators.tree, generators.lobster, generators.erdos_renyi, generators.ego),
    *(communities.sbm, communities.community, communities.community_small),
]


def as_networkx(graph) -> nx.Graph:
    net = nx.empty_graph(graph.num_nodes)
    net.add_edges_from(graph.edge_index.T.tolist())
    assert 2 * net.number_of_edges() == graph.edge_index.size(1)  # Both directions, once each.
    return net


def num_edges(graphs) -> np.ndarray:
    return np.array([graph.edge_index.size(1) / 2 for graph in graphs])


def num_nodes(graphs) -> np.ndarray:
    return np.array([graph.num_nodes for graph in graphs])


def assert_mean(found: np.ndarray, expected: float):
    """Within four standard errors."""
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(found.size)


def same(first, second) -> bool:
    return all(
        a.num_nodes == b.num_nodes and torch.equal(a.edge_index, b.edge_index)
        for a, b in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_all_randomness_is_from_the_seed(draw):
    np.random.seed(0)
    random.seed(0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first = draw(5, 3)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert len(first) == 5
    assert same(first, draw(5, 3))
    assert same(first, draw(5, np.random.default_rng(3)))
    assert not same(first, draw(5, 4))


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_generator_is_advanced(draw):
    for start in (np.random.default_rng, torch.Generator().manual_seed):
        generator = start(0)
        first, second = draw(5, generator), draw(5, generator)
        assert not same(first, second)
        assert same(first, draw(5, start(0)))


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_number_of_graphs_that_is_none_is_refused(draw):
    assert list(inspect.signature(draw).parameters)[:2] == ["num_graphs", "seed"]
    with pytest.raises(ValueError, match=r"^'num_graphs' must be positive, got 0$"):
        draw(0, 0)


@pytest.mark.parametrize("size", [3, 4, 64])
def test_triangulations_are_planar_and_have_the_edges_of_euler(size):
    for graph in generators.planar(10, 0, size):
        net = as_networkx(graph)
        assert len(net) == size
        assert nx.is_connected(net)
        assert nx.check_planarity(net)[0]
        # All faces but the outer one are triangles: E = 3n - 3 - h with 3 to n corners of the hull.
        assert 2 * size - 3 <= net.number_of_edges() <= 3 * size - 6 or size < 4


def test_trees_are_uniform():
    """All 4^2 = 16 labelled trees of four nodes, alike often; and sizes are drawn within their bounds."""
    draws = 8000
    trees = generators.tree(draws, 0, 4)
    kinds, counts = np.unique(
        [sum(1 << 4 * i + j for i, j in g.edge_index.T.tolist()) for g in trees], return_counts=True
    )
    assert len(kinds) == 16
    assert (np.abs(counts - draws / 16) < 5 * np.sqrt(draws / 16)).all()
    assert all(nx.is_tree(as_networkx(tree)) for tree in trees[:20])


def test_degrees_of_a_large_tree_are_one_plus_poisson():
    """The degree of a node less one is binomial, n - 2 of 1/n: one node has expected degree 2 - 2/n."""
    trees = generators.tree(300, 0)
    assert all(nx.is_tree(as_networkx(tree)) for tree in trees)
    degree = torch.stack([torch.bincount(tree.edge_index[0], minlength=64) for tree in trees]).double().numpy()
    leaves = (degree == 1).mean(1)
    assert_mean(leaves, (63 / 64) ** 62)
    assert_mean((degree[:, 0] - 1), 62 / 64)


def test_trees_of_every_size():
    sizes = num_nodes(generators.tree(500, 0, (1, 6)))
    assert set(sizes) == set(range(1, 7))
    assert all(nx.is_tree(as_networkx(tree)) for tree in generators.tree(50, 0, (1, 6)))


def without_leaves(net: nx.Graph) -> nx.Graph:
    return net.subgraph([node for node, degree in net.degree if degree > 1])


def test_lobsters_become_paths_when_leaves_are_taken_twice():
    for graph in generators.lobster(50, 0):
        net = as_networkx(graph)
        assert 10 <= len(net) <= 100
        assert nx.is_tree(net)
        inner = without_leaves(without_leaves(net))
        assert len(inner) <= 1 or (nx.is_connected(inner) and max(dict(inner.degree).values()) <= 2)


def test_lobsters_have_the_size_of_theory_and_of_networkx():
    """A path of length L has L (1 + l (1 + f)) nodes, for l = p / (1 - p) legs and f feet; L is uniform up to 2 b."""
    ours = num_nodes(generators.lobster(3000, 0, backbone=20, legs=0.4, feet=0.6, num_nodes=(1, 10**6)))
    mean_length = np.mean([int(40 * u + 0.5) for u in np.arange(0.5, 10_000) / 10_000 if int(40 * u + 0.5) > 0])
    assert_mean(ours, mean_length * (1 + (0.4 / 0.6) * (1 + 0.6 / 0.4)))
    theirs = [len(nx.random_lobster_graph(20, 0.4, 0.6, seed=seed)) for seed in range(3000)]
    theirs = np.array([size for size in theirs if size])
    error = np.sqrt(ours.var() / ours.size + theirs.var() / theirs.size)
    assert abs(ours.mean() - theirs.mean()) < 4 * error
    assert abs(np.median(ours) - np.median(theirs)) < 0.1 * np.median(theirs)


def test_erdos_renyi_graphs_have_their_density():
    graphs = generators.erdos_renyi(400, 0, num_nodes=12, probability=0.3)
    assert_mean(num_edges(graphs), 0.3 * 66)
    assert num_edges(generators.erdos_renyi(3, 0, 12, probability=0.0)).tolist() == [0, 0, 0]
    assert num_edges(generators.erdos_renyi(3, 0, 12, probability=1.0)).tolist() == [66, 66, 66]


def test_block_models_have_the_blocks_and_the_density_that_were_asked_for():
    graphs = communities.sbm(100, 0)
    assert all(nx.is_connected(as_networkx(graph)) for graph in graphs)
    assert num_nodes(graphs).min() >= 40
    assert num_nodes(graphs).max() <= 200
    two = communities.sbm(200, 0, communities=2, community_size=30, within=0.3, between=0.1)
    across = np.array([((g.edge_index < 30).sum(0) == 1).sum().item() / 2 for g in two])
    assert_mean(across, 0.1 * 30 * 30)
    assert_mean(num_edges(two) - across, 0.3 * 2 * 435)


def test_communities_are_not_alike_and_have_bridges():
    graphs = communities.community(200, 0, community_size=8)
    assert all(nx.is_connected(as_networkx(graph)) for graph in graphs)
    first = {tuple(map(tuple, g.edge_index[:, (g.edge_index < 8).all(0)].T.tolist())) for g in graphs}
    assert len(first) > 190
    across = np.array([((g.edge_index < 8).sum(0) == 1).sum().item() / 2 for g in graphs])
    # 0.05 * 2 / 8 of 64 pairs, and one where there is none.
    assert_mean(across, 0.8 + (1 - 0.1 / 8) ** 64)


def test_community_small_has_one_pair_of_communities_of_each_size():
    inside = {}
    for graph in communities.community_small(200, 0):
        half = graph.num_nodes // 2
        one_side = (graph.edge_index < half).sum(0) != 1
        inside.setdefault(half, set()).add(str(graph.edge_index[:, one_side].T.sort(0).values.tolist()))
        assert nx.is_connected(as_networkx(graph))
    assert sorted(inside) == [6, 7, 8, 9, 10]
    assert all(len(kinds) == 1 for kinds in inside.values())
    assert set(num_nodes(communities.community_small(20, 0, [12, 18]))) == {12, 18}


def test_grids_are_all_grids_within_the_sides():
    graphs = generators.grid((2, 4))
    shapes = [(2, 2), (2, 3), (2, 4), (3, 3), (3, 4), (4, 4)]
    assert num_nodes(graphs).tolist() == [m * n for m, n in shapes]
    for graph, shape in zip(graphs, shapes, strict=True):
        assert nx.is_isomorphic(as_networkx(graph), nx.grid_2d_graph(*shape))


def portrait(net: nx.Graph) -> list:
    """Degree, triangles and neighbours' degrees of every node."""
    degree, triangles = dict(net.degree), nx.triangles(net)
    return sorted((degree[i], triangles[i], sorted(degree[j] for j in net[i])) for i in net)


def test_neighbourhoods_are_those_of_the_graph():
    graph = generators.erdos_renyi(1, 0, num_nodes=60, probability=0.08)[0]
    net = as_networkx(graph)
    for radius in (1, 2):
        around = {node: nx.ego_graph(net, node, radius=radius) for node in net}
        allowed = [ego for ego in around.values() if 4 <= len(ego) <= 12]
        drawn = generators.ego(len(allowed), 0, graph, radius, (4, 12))
        # All of them were drawn, so these are two lists of the same graphs.
        assert sorted(map(portrait, map(as_networkx, drawn))) == sorted(map(portrait, allowed))
        for ego in drawn:
            reached = nx.single_source_shortest_path_length(as_networkx(ego), 0, cutoff=radius)
            assert len(reached) == ego.num_nodes
    with pytest.raises(ValueError, match=f"'num_graphs' must be at most {len(allowed)}"):
        generators.ego(len(allowed) + 1, 0, graph, 2, (4, 12))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generators.planar(1, 0, 2), "'num_nodes' must be a number of at least 3"),
        (lambda: generators.tree(1, 0, (5, 3)), "'num_nodes' must be a number of at least 1, or two in rising order"),
        (lambda: generators.lobster(1, 0, legs=1.0), "'legs' must be a probability below 1, got 1.0"),
        (lambda: generators.erdos_renyi(1, 0, probability=1.5), "'probability' must be a probability, got 1.5"),
        (lambda: communities.sbm(1, 0, between=-1), "'between' must be a probability, got -1"),
        (lambda: communities.community_small(1, 0, [3]), "'num_nodes' must be a number of at least 4"),
    ],
)
def test_arguments_that_make_no_graph_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_conditions_that_are_never_met_are_told():
    with pytest.raises(ValueError, match="none of 10000 random graphs met the conditions"):
        accepted(lambda: None, 1)
