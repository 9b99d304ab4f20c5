"""Orderings of graphs: sums over all orders, relabelling, and searches against plain ones."""

import itertools
import math

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv
from torch_geometric.utils import to_networkx

from conftest import all_orders, assert_draws_match, random_graph
from graphvae import colours, orderings
from graphvae.descriptions import build, describe
from graphvae.graphs import as_batch, permute, ranks
from graphvae.spectra import fiedler_classes
from graphvae.structure import Neighbors, components, core_numbers

pytestmark = pytest.mark.usefixtures("double")


def graph_of(num_nodes, edges):
    edges = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).T
    x = torch.stack([torch.ones(num_nodes), torch.bincount(edges.flatten(), minlength=num_nodes).double()], 1)
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), num_nodes=num_nodes)


def random_of(num_nodes, probability, seed):
    edge_index = random_graph(num_nodes, probability, seed).edge_index
    return graph_of(num_nodes, edge_index[:, edge_index[0] < edge_index[1]].T.tolist())


GRAPHS = {
    "node": (1, []),
    "empty": (4, []),
    "pair": (2, [(0, 1)]),
    "path": (5, [(0, 1), (1, 2), (2, 3), (3, 4)]),
    "star": (5, [(0, 1), (0, 2), (0, 3), (0, 4)]),
    "cycle": (5, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]),
    "complete": (4, [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]),
    "triangle and a node": (4, [(0, 1), (0, 2), (1, 2)]),
    "triangle and a pair": (5, [(0, 1), (0, 2), (1, 2), (3, 4)]),
    "tree": (6, [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)]),
    "two paths": (6, [(0, 1), (1, 2), (3, 4), (4, 5)]),
    "triangle and a path": (6, [(0, 1), (0, 2), (1, 2), (3, 4), (4, 5)]),
    "prism": (6, [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (0, 3), (1, 4), (2, 5)]),
    "bull": (5, [(0, 1), (1, 2), (0, 2), (0, 3), (1, 4)]),
}
SMALL = {name: graph for name, graph in GRAPHS.items() if graph[0] <= 5}
FACTORS = {
    "uniform": orderings.Uniform,
    "degree": orderings.Degree,
    "degree, refined": lambda: orderings.Degree(refine=True),
    "core": orderings.KCore,
    "core, refined": lambda: orderings.KCore(refine=True),
    "spectral": orderings.Spectral,
    "breadth": orderings.BreadthFirst,
    "breadth, refined": lambda: orderings.BreadthFirst(refine=True),
    "depth": orderings.DepthFirst,
    "depth, refined": lambda: orderings.DepthFirst(refine=True),
    "learned": lambda: orderings.PlackettLuce(GCNConv(2, 4), 4),
    "defensive": lambda: orderings.Defensive(orderings.BreadthFirst(), 0.3),
}


@pytest.fixture(params=FACTORS)
def factor(request):
    return FACTORS[request.param]()


def test_all_orders_sum_to_one(factor):
    graphs = [graph_of(*graph) for graph in GRAPHS.values()] + [random_of(5, 0.5, seed) for seed in range(12)]
    for graph in graphs:
        total = factor.log_prob(graph, all_orders(graph.num_nodes)).exp().sum()
        torch.testing.assert_close(total, torch.tensor(1.0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["star", "cycle", "triangle and a node", "two paths", "tree", "bull"])
def test_draws_have_the_probabilities_they_are_said_to_have(factor, name):
    graph = as_batch(graph_of(*GRAPHS[name]))
    assert_draws_match(factor(graph), graph.num_nodes, 10_000)


def test_relabelling_moves_the_orders(factor):
    graphs = [graph_of(*graph) for graph in SMALL.values()] + [random_of(5, 0.5, 3)]
    for graph in map(as_batch, graphs):
        orders = all_orders(graph.num_nodes)
        expected = factor.log_prob(graph, orders)
        for relabelling in all_orders(graph.num_nodes)[:: max(1, len(orders) // 12)]:
            moved = ranks(relabelling[None])[0][orders]
            torch.testing.assert_close(
                factor.log_prob(permute(graph, relabelling), moved), expected, rtol=0, atol=1e-10
            )


def test_automorphic_images_of_an_order_are_alike(factor):
    edges = GRAPHS["prism"][1]
    graph, orders, adjacency = graph_of(*GRAPHS["prism"]), all_orders(6), {frozenset(edge) for edge in edges}
    expected = factor.log_prob(graph, orders)
    turns = [t for t in all_orders(6).tolist() if {frozenset((t[a], t[b])) for a, b in edges} == adjacency]
    assert len(turns) == 12
    for turn in turns:
        torch.testing.assert_close(factor.log_prob(graph, torch.tensor(turn)[orders]), expected, rtol=0, atol=1e-10)


def test_a_batch_is_its_graphs(factor):
    graphs = [graph_of(*graph) for graph in GRAPHS.values()] + [random_of(17, 0.2, seed) for seed in range(4)]
    batch = as_batch(graphs)
    orders = factor.sample(batch, 6)
    orders[3:] = orderings.Uniform().sample(batch, 3)
    log_prob = factor.log_prob(batch, orders)
    assert log_prob[:3].isfinite().all()
    assert log_prob.shape == (6, len(graphs))
    bounds = batch.layout.ptr.tolist()
    for b, graph in enumerate(graphs):
        own = orders[:, bounds[b] : bounds[b + 1]] - bounds[b]
        torch.testing.assert_close(factor.log_prob(graph, own)[:, 0], log_prob[:, b], rtol=0, atol=1e-10)


def walks(graph, key, depth_first):
    """Every order of a plain search from the best roots, with its probability, by following every choice."""
    nodes = to_networkx(graph, to_undirected=True)
    size = {v: len(c) for c in nx.connected_components(nodes) for v in c}
    found = {}

    def best(candidates, of):
        least = min(map(of, candidates))
        return [v for v in candidates if of(v) == least]

    def follow(visited, chance):
        rest = [v for v in nodes if v not in visited]
        if not rest:
            found[visited] = chance
            return
        for parent in reversed(visited) if depth_first else visited:
            new = [v for v in nodes[parent] if v not in visited]
            if new:
                options = best(new, lambda v: key[v])
                break
        else:
            options = best(rest, lambda v: (-size[v], key[v]))
        for option in options:
            follow((*visited, option), chance / len(options))

    follow((), 1.0)
    return found


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("depth_first", [False, True])
def test_searches_are_those_of_a_plain_search(depth_first, refine):
    factor = (orderings.DepthFirst if depth_first else orderings.BreadthFirst)(refine=refine)
    graphs = [graph_of(*graph) for graph in GRAPHS.values()] + [random_of(6, 0.4, seed) for seed in range(6)]
    for graph in graphs:
        batch = as_batch(graph)
        degree, colour = Neighbors(batch).degree.tolist(), colours.refined(batch).tolist()
        key = [(-d, c if refine else 0) for d, c in zip(degree, colour, strict=True)]
        chances = walks(graph, key, depth_first)
        orders = all_orders(graph.num_nodes)
        expected = torch.tensor([chances.get(tuple(order), 0.0) for order in orders.tolist()])
        torch.testing.assert_close(factor.log_prob(batch, orders)[:, 0].exp(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("depth_first", [False, True])
def test_searches_of_larger_graphs_are_walked_and_have_a_probability(depth_first):
    factor = (orderings.DepthFirst if depth_first else orderings.BreadthFirst)(refine=False)
    nets = [nx.star_graph(60), nx.path_graph(70), nx.grid_2d_graph(7, 9), nx.gnp_random_graph(80, 0.03, seed=1)]
    nets = [nx.convert_node_labels_to_integers(net) for net in nets]
    batch = as_batch([graph_of(len(net), list(net.edges)) for net in nets])
    orders = factor.sample(batch, 8)
    assert factor.log_prob(batch, orders).isfinite().all()
    assert (factor.log_prob(batch, orderings.Uniform().sample(batch, 8))[:, 1:] == -math.inf).all()
    for net, start in zip(nets, batch.layout.ptr.tolist(), strict=False):
        for order in (orders[:, start : start + len(net)] - start).tolist():
            assert is_search(net, order, depth_first)


def is_search(net, order, depth_first):
    """Whether each node is a neighbour of the first, or last, visited node that has unvisited ones."""
    visited = []
    for node in order:
        open_nodes = [v for v in visited if set(net[v]) - set(visited)]
        if open_nodes and node not in net[open_nodes[-1 if depth_first else 0]]:
            return False
        visited.append(node)
    return True


def test_the_star_of_many_leaves_takes_little_memory_and_no_time():
    graph = graph_of(3001, [(0, i) for i in range(1, 3001)])
    factor = orderings.BreadthFirst()
    log_prob = factor.log_prob(graph, factor.sample(graph, 3))
    torch.testing.assert_close(log_prob, torch.full((3, 1), -math.lgamma(3001)))


def test_components_and_core_numbers_are_those_of_networkx():
    nets = [nx.gnp_random_graph(40, p, seed=seed) for seed, p in enumerate((0.0, 0.02, 0.05, 0.1, 0.4))]
    nets += [nx.path_graph(30), nx.barbell_graph(5, 4)]
    batch = as_batch([graph_of(len(net), list(net.edges)) for net in nets])
    neighbors = Neighbors(batch)
    expected = [core for net in nets for core in dict(sorted(nx.core_number(net).items())).values()]
    assert core_numbers(neighbors).tolist() == expected
    found = components(neighbors)
    for net, start in zip(nets, batch.layout.ptr.tolist(), strict=False):
        for nodes in nx.connected_components(net):
            inside = torch.tensor(sorted(nodes)) + start
            assert torch.equal((found == found[inside[0]]).nonzero().squeeze(1), inside)
    assert found.unique().numel() == int(found.max()) + 1


def test_cores_come_before_degrees():
    star_and_triangle = [(0, 1), (0, 2), (0, 3), (0, 4), (4, 5), (5, 6), (4, 6)]
    graph = graph_of(7, star_and_triangle)
    orders = orderings.KCore().sample(graph, 50)
    assert {tuple(sorted(order[:3])) for order in orders.tolist()} == {(4, 5, 6)}
    assert (orders[:, 0] == 4).all()
    assert (orders[:, 3] == 0).all()
    assert (orderings.Degree().sample(graph, 50)[:, :2].sort(1).values == torch.tensor([0, 4])).all()


def test_spectral_orders_sort_the_fiedler_vector_of_numpy():
    checked = 0
    for seed in range(12):
        net = nx.gnp_random_graph(9, 0.4, seed=seed)
        values, vectors = np.linalg.eigh(nx.laplacian_matrix(net).toarray().astype(float))
        if not nx.is_connected(net) or values[2] - values[1] < 1e-3:
            continue
        vector = vectors[:, 1] * np.sign((vectors[:, 1] ** 3).sum())
        if abs((vector**3).sum()) < 1e-3:
            continue
        orders = orderings.Spectral().sample(graph_of(9, list(net.edges)), 5)
        assert (np.diff(vector[orders.numpy()]) > -1e-9).all()
        checked += 1
    assert checked > 4


def test_fiedler_classes_tell_only_what_is_determined():
    names = ["path", "cycle", "star", "complete", "tree", "two paths", "pair"]
    batch = as_batch([graph_of(*GRAPHS[name]) for name in names])
    neighbors = Neighbors(batch)
    classes, signless = fiedler_classes(neighbors, components(neighbors))
    bounds = batch.layout.ptr.tolist()
    counts = [classes[a:b].unique().numel() for a, b in itertools.pairwise(bounds)]
    # One class each for the path's nodes; a multiple eigenvalue tells the hub of a star from its leaves and no more.
    assert counts == [5, 1, 2, 1, 5, 3, 1]
    assert signless.tolist() == [True, False, False, False, False, True, True, False]


def test_a_path_is_sorted_from_either_end_alike():
    log_prob = orderings.Spectral().log_prob(graph_of(*GRAPHS["path"]), all_orders(5))[:, 0]
    possible = log_prob > -math.inf
    assert all_orders(5)[possible].tolist() == [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]]
    torch.testing.assert_close(log_prob[possible], torch.full((2,), -math.log(2)))


def test_refinement_leaves_fewer_orders():
    graph = random_of(30, 0.1, 5)
    for plain in (orderings.Degree, orderings.KCore, orderings.BreadthFirst, orderings.DepthFirst):
        fine = plain(refine=True)
        orders = fine.sample(graph, 4)
        assert (fine.log_prob(graph, orders) > plain(refine=False).log_prob(graph, orders)).all()


def test_a_defensive_mixture_has_at_least_its_share_of_every_order():
    graph = graph_of(*GRAPHS["tree"])
    plain = orderings.BreadthFirst()
    chance = orderings.Defensive(plain, 0.2).log_prob(graph, all_orders(6)).exp()
    torch.testing.assert_close(chance, 0.8 * plain.log_prob(graph, all_orders(6)).exp() + 0.2 / 720)


def test_directions_are_forgotten():
    one_way = as_batch(Data(edge_index=torch.tensor([[0, 1, 3], [1, 2, 1]]), num_nodes=4), directed=True)
    both = graph_of(4, one_way.edge_index.T.tolist())
    for factor in (orderings.BreadthFirst(False), orderings.DepthFirst(False), orderings.KCore(False)):
        torch.testing.assert_close(factor.log_prob(one_way, all_orders(4)), factor.log_prob(both, all_orders(4)))


def test_gradients_reach_the_network_of_a_learned_ordering():
    factor = orderings.PlackettLuce(GCNConv(2, 4), 4)
    graph = random_of(8, 0.4, 1)
    orders = factor.sample(graph, 3)
    assert not orders.requires_grad
    factor.log_prob(graph, orders).sum().backward()
    assert all(parameter.grad is not None for parameter in factor.backbone.parameters())


def test_an_ordering_is_described_and_built_again():
    factors = nn.ModuleList(make() for make in FACTORS.values())
    graph = graph_of(*GRAPHS["tree"])
    for factor in factors:
        rebuilt = build(describe(factor))
        rebuilt.load_state_dict(factor.state_dict())
        orders = factor.sample(graph, 5)
        torch.testing.assert_close(rebuilt.log_prob(graph, orders), factor.log_prob(graph, orders))


def test_the_seed_decides(factor):
    graph = random_of(12, 0.3, 2)
    one, other = (factor.sample(graph, 4, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, other)


def test_errors_name_the_argument():
    graph = graph_of(*GRAPHS["path"])
    factor = orderings.Uniform()
    with pytest.raises(ValueError, match="'num_orders' must be positive"):
        factor.sample(graph, 0)
    with pytest.raises(ValueError, match="order\\[None\\]"):
        factor.log_prob(graph, torch.arange(5))
    for wrong in ([0, 1, 2, 3, 3], [0, 1, 2, 3, 5], [-1, 1, 2, 3, 4]):
        with pytest.raises(ValueError, match="'orders' must be permutations"):
            factor.log_prob(graph, torch.tensor([wrong]))
    with pytest.raises(ValueError, match="'orders' must be permutations"):
        factor.log_prob([graph, graph], torch.tensor([[5, 1, 2, 3, 4, 0, 6, 7, 8, 9]]))
    with pytest.raises(ValueError, match="'share' must lie strictly"):
        orderings.Defensive(factor, 1.0)
    with pytest.raises(ValueError, match="'hidden' must be positive"):
        orderings.PlackettLuce(GCNConv(2, 4), 0)
    with pytest.raises(ValueError, match="must have node features"):
        orderings.PlackettLuce(GCNConv(2, 4), 4).sample(Data(edge_index=graph.edge_index, num_nodes=5), 2)
