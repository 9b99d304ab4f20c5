"""Colours are those of colour refinement as the textbook states it, in whatever graph, batch or numbering."""

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data

from conftest import graph_from, random_graph
from graphvae import colours
from graphvae.graphs import as_batch, permute

ATLAS = [graph for graph in nx.graph_atlas_g() if 1 <= len(graph) <= 6]


def textbook_classes(graphs) -> list[int]:
    """Colour refinement of all nodes at once, by sorting and numbering, for as many rounds as there are nodes."""
    rows = [()] * graphs.num_nodes if graphs.x is None else [tuple((row + 0.0).tolist()) for row in graphs.x]
    outward, inward = ([[] for _ in rows] for _ in range(2))
    for i, j in graphs.edge_index.T.tolist():
        outward[i].append(j)
        inward[j].append(i)
    found, classes = numbered(rows), 0
    while max(found) + 1 > classes:
        classes = max(found) + 1
        seen = [
            (found[v], sorted(found[u] for u in outward[v]), sorted(found[u] for u in inward[v]))
            for v in range(len(rows))
        ]
        found = numbered(seen)
    return found


def numbered(values) -> list[int]:
    names = {key: k for k, key in enumerate(sorted({str(value) for value in values}))}
    return [names[str(value)] for value in values]


def assert_same_partition(found: torch.Tensor, classes: list[int]):
    assert len(set(zip(found.tolist(), classes, strict=True))) == len(set(classes)) == len(set(found.tolist()))


def test_colours_are_the_classes_of_the_textbook_across_graphs():
    """All graphs of up to six nodes, and cycles, in one batch: each pair of nodes shares a colour or does not."""
    graphs = as_batch(
        [graph_from(graph) for graph in [*ATLAS, nx.cycle_graph(9), nx.path_graph(17), nx.petersen_graph()]]
    )
    assert_same_partition(colours.refined(graphs), textbook_classes(graphs))


@pytest.mark.parametrize("directed", [False, True])
def test_colours_start_from_features_and_follow_directions(directed):
    listed = [
        random_graph(n, 0.3, seed=n + 10 * k, features=2, directed=directed) for n in (1, 4, 6) for k in range(30)
    ]
    for graph in listed:
        graph.x = (2 * graph.x).round() / 2
    graphs = as_batch(listed, directed=directed)
    assert_same_partition(colours.refined(graphs), textbook_classes(graphs))


def test_what_refinement_cannot_tell_apart_shares_a_colour():
    hexagon, triangles = nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))
    found = colours.refined(as_batch([graph_from(hexagon), graph_from(triangles), graph_from(nx.cycle_graph(50))]))
    assert found.unique().numel() == 1
    assert colours.refined(as_batch(graph_from(nx.complete_graph(4))))[0] != found[0]


def test_the_rest_of_a_component_tells_nodes_apart_that_are_alike_nearby():
    """Both first nodes have two neighbours of the other kind; only further on do the graphs differ."""
    x = torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    path = Data(x=x[:3], edge_index=torch.tensor([[0, 1, 0, 2], [1, 0, 2, 0]]))
    square = Data(x=x, edge_index=torch.tensor([[0, 1, 1, 3, 3, 2, 2, 0], [1, 0, 3, 1, 2, 3, 0, 2]]))
    found = colours.refined(as_batch([path, square]))
    assert found[0] != found[3]


def test_colours_depend_neither_on_the_batch_nor_on_the_numbering():
    listed = [graph_from(nx.path_graph(n)) for n in (2, 30, 7)] + [graph_from(nx.cycle_graph(5))]
    graphs = as_batch(listed)
    found = colours.refined(graphs)
    assert torch.equal(found, torch.cat([colours.refined(as_batch(graph)) for graph in listed]))
    order = torch.rand(graphs.num_nodes).add(graphs.layout.batch).argsort()
    assert torch.equal(colours.refined(permute(graphs, order)), found[order])
    union = nx.disjoint_union(nx.path_graph(30), nx.cycle_graph(5))
    assert torch.equal(
        colours.refined(as_batch(graph_from(union))), found[torch.tensor([*range(2, 32), *range(39, 44)])]
    )


def test_rows_of_features_are_told_apart_by_their_values_alone():
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.5, 0.5], [1e-30, 1.0]])
    graphs = as_batch(Data(x=x, edge_index=torch.empty(2, 0, dtype=torch.long)))
    found = colours.of_features(graphs)
    assert found[0] == found[1]
    assert found.unique().numel() == 5
    sparse = as_batch(Data(x=x.to_sparse_csr(), edge_index=graphs.edge_index))
    double = as_batch(Data(x=x.double(), edge_index=graphs.edge_index))
    assert torch.equal(colours.of_features(sparse), found)
    assert torch.equal(colours.of_features(double), found)


def test_a_node_that_is_singled_out_orders_a_cycle():
    graphs = as_batch([graph_from(nx.cycle_graph(8)), graph_from(nx.cycle_graph(5))])
    stable = colours.refined(graphs)
    found = colours.refined(graphs, colours.individualised(stable, torch.tensor([3, 9])))
    for first, size, chosen in ((0, 8, 3), (8, 5, 1)):
        around = [min((v - chosen) % size, (chosen - v) % size) for v in range(size)]
        assert_same_partition(found[first : first + size], around)
