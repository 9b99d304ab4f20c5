"""|Aut(G)| against all n! relabellings, and against groups whose order is known."""

import math
from itertools import permutations

import networkx as nx
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from conftest import graph_from, random_graph
from graphvae.automorphisms import log_automorphisms, log_automorphisms_bound
from graphvae.graphs import as_batch, permute

ATLAS = nx.graph_atlas_g()
SMALL = [graph for graph in ATLAS if 1 <= len(graph) <= 5]
LARGER = [graph for graph in ATLAS if len(graph) > 5][::29]


def data(graph: nx.Graph, x: Tensor | None = None) -> Data:
    return graph_from(nx.convert_node_labels_to_integers(graph), x)


def enumerated(graph: Data) -> float:
    """Log|Aut| by trying all n! relabellings."""
    orders = torch.tensor(list(permutations(range(graph.num_nodes))))
    adjacency = torch.zeros(graph.num_nodes, graph.num_nodes)
    adjacency[tuple(graph.edge_index)] = 1
    same = (adjacency[orders[:, :, None], orders[:, None, :]] == adjacency).all(2).all(1)
    if graph.x is not None:
        same &= (graph.x[orders] == graph.x).all(2).all(1)
    return math.log(int(same.sum()))


def assert_enumerated(listed: list[Data], directed: bool = False):
    graphs = as_batch(listed, directed=directed)
    expected = torch.tensor([enumerated(graph) for graph in listed], dtype=torch.float64)
    torch.testing.assert_close(log_automorphisms(graphs), expected, rtol=0, atol=1e-12)
    assert (log_automorphisms_bound(graphs) >= expected - 1e-12).all()


def test_every_graph_of_up_to_five_nodes_and_a_sample_of_larger_ones():
    assert_enumerated([data(graph) for graph in SMALL + LARGER])


@pytest.mark.parametrize("directed", [False, True])
def test_graphs_with_features(directed):
    listed = [random_graph(6, 0.4, seed, features=1, directed=directed) for seed in range(60)]
    for graph in listed:
        graph.x = (graph.x > 0.5).float()
    assert_enumerated(listed, directed)


def test_directed_graphs():
    listed = [random_graph(5, probability, seed, directed=True) for probability in (0.2, 0.8) for seed in range(60)]
    bare = [Data(edge_index=graph.edge_index, num_nodes=5) for graph in listed]
    assert_enumerated([*bare, data(nx.DiGraph([(0, 1), (1, 0), (0, 2), (1, 2)]))], directed=True)


KNOWN = {
    "complete": (nx.complete_graph(50), math.factorial(50)),
    "empty": (nx.empty_graph(60), math.factorial(60)),
    "star": (nx.star_graph(59), math.factorial(59)),
    "cycle": (nx.cycle_graph(60), 120),
    "path": (nx.path_graph(20), 2),
    "cocktail party": (nx.complete_multipartite_graph(*[2] * 20), math.factorial(20) * 2**20),
    "cube": (nx.hypercube_graph(3), 48),
    "hypercube": (nx.hypercube_graph(6), 46080),
    "Petersen": (nx.petersen_graph(), 120),
    "rook": (nx.line_graph(nx.complete_bipartite_graph(6, 6)), 2 * math.factorial(6) ** 2),
    "Paley": (nx.Graph(nx.paley_graph(29)), 29 * 14),
    "Frucht": (nx.frucht_graph(), 1),
    "cycles": (nx.disjoint_union_all([nx.cycle_graph(4)] * 3 + [nx.cycle_graph(3)] * 2), 6 * 8**3 * 2 * 6**2),
    "Petersens": (nx.disjoint_union_all([nx.petersen_graph()] * 3), 6 * 120**3),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_groups(name):
    graph, order = KNOWN[name]
    graphs = as_batch(data(graph))
    assert log_automorphisms(graphs).item() == pytest.approx(math.log(order), abs=1e-9)
    assert log_automorphisms_bound(graphs).item() >= math.log(order) - 1e-9


def test_directed_cycles_only_turn():
    graphs = as_batch([data(nx.cycle_graph(n, create_using=nx.DiGraph)) for n in (3, 8, 40)], directed=True)
    expected = torch.tensor([3, 8, 40], dtype=torch.float64).log()
    torch.testing.assert_close(log_automorphisms(graphs), expected)
    torch.testing.assert_close(log_automorphisms_bound(graphs), expected)


def test_the_bound_is_exact_where_it_says_so():
    forests = [nx.disjoint_union(a, b) for a in nx.nonisomorphic_trees(4) for b in nx.nonisomorphic_trees(7)]
    listed = [*nx.nonisomorphic_trees(8), *forests, *(nx.cycle_graph(n) for n in (3, 4, 9)), nx.complete_graph(7)]
    for graphs in (as_batch([data(graph) for graph in listed]), as_batch(data(nx.frucht_graph(), torch.rand(12, 1)))):
        torch.testing.assert_close(log_automorphisms_bound(graphs), log_automorphisms(graphs), rtol=0, atol=1e-10)


@pytest.mark.parametrize("graph", [nx.frucht_graph(), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(4))])
def test_the_bound_is_too_large_where_unlike_nodes_look_alike(graph):
    graphs = as_batch(data(graph))
    assert log_automorphisms_bound(graphs) > log_automorphisms(graphs) + 0.5


def test_relabelling_changes_nothing_and_a_batch_is_its_graphs():
    listed = [data(graph) for graph in (*SMALL, nx.petersen_graph(), nx.balanced_tree(2, 3), nx.frucht_graph())]
    graphs = as_batch(listed)
    moved = permute(graphs, torch.rand(graphs.num_nodes).add(graphs.layout.batch).argsort())
    for count in (log_automorphisms, log_automorphisms_bound):
        torch.testing.assert_close(count(graphs), torch.cat([count(as_batch(graph)) for graph in listed]))
    torch.testing.assert_close(log_automorphisms(moved), log_automorphisms(graphs))
    decided = log_automorphisms_bound(graphs) < log_automorphisms(graphs) + 1e-9
    assert decided.sum() > 50
    torch.testing.assert_close(log_automorphisms_bound(moved)[decided], log_automorphisms(graphs)[decided])


def test_vectors_have_one():
    graphs = as_batch([Data(x=torch.rand(1, 3), edge_index=torch.empty(2, 0, dtype=torch.long))] * 3)
    assert log_automorphisms(graphs).tolist() == log_automorphisms_bound(graphs).tolist() == [0, 0, 0]


def test_large_graphs_are_refused_with_the_way_out():
    graphs = as_batch([data(nx.path_graph(65)), data(nx.path_graph(3))])
    with pytest.raises(ValueError, match=r"at most 64 nodes.*65.*log_automorphisms_bound"):
        log_automorphisms(graphs)
    assert log_automorphisms(graphs, largest=65).exp().tolist() == pytest.approx([2, 2])
