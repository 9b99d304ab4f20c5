"""A list of graphs joined as a whole is what PyG makes of it, and a fault is told as if graphs were read one by one."""

import pytest
import torch
from torch_geometric.data import Batch, Data

from conftest import random_graph
from graphvae.collation import alike, collated
from graphvae.graphs import as_batch
from graphvae.validation import check_collation

BARE = [Data(edge_index=random_graph(n, 0.5, n).edge_index, num_nodes=n) for n in (3, 1, 5)]
ATTRIBUTED = [random_graph(n, 0.5, n) for n in (3, 1, 5, 2)]
SPARSE = random_graph(4, 0.5, 0)
SPARSE.x = SPARSE.x.to_sparse_csr()


@pytest.mark.parametrize("graphs", [BARE, ATTRIBUTED, ATTRIBUTED[:1]])
def test_it_is_what_pyg_makes_of_the_list(graphs):
    found, expected = as_batch(graphs), as_batch(Batch.from_data_list(check_collation(graphs)))
    assert alike(graphs) is not None
    for name in ("x", "edge_index", "batch", "ptr"):
        assert (found.get(name) is None) == (expected.get(name) is None)
        assert found.get(name) is None or torch.equal(found[name], expected[name])
    for graph, copy in zip(graphs, found.to_data_list(), strict=True):
        assert graph.num_nodes == copy.num_nodes
        assert torch.equal(graph.edge_index, copy.edge_index)


def test_the_input_is_left_as_it_was():
    graph = random_graph(4, 0.5, 0)
    before = graph.edge_index.clone()
    as_batch([graph, graph]).edge_index += 1
    assert torch.equal(graph.edge_index, before)


def test_types_of_edges_are_joined():
    graphs = [random_graph(n, 0.5, n) for n in (3, 5)]
    for graph in graphs:
        graph.edge_type = graph.edge_index.sum(0)
    assert torch.equal(collated(graphs).edge_type, torch.cat([graph.edge_type for graph in graphs]))
    del graphs[1].edge_type
    assert alike(graphs) is None


def changed(**fields) -> list:
    graph = random_graph(4, 0.5, 0)
    for name, value in fields.items():
        graph[name] = value
    return [random_graph(3, 0.5, 1), graph, random_graph(3, 0.5, 2)]


EDGE = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        ([], "'graphs' must hold at least one graph"),
        # Edges that a neighbouring graph would have room for.
        (changed(edge_index=EDGE + 4), r"'graphs\[1\]': 'edge_index' must hold nodes 0 to 3, got \(4, 5\)"),
        (changed(edge_index=EDGE - 2), r"'graphs\[1\]': 'edge_index' must hold nodes 0 to 3, got \(-2, -1\)"),
        (changed(edge_index=EDGE[:, :1]), r"'graphs\[1\]': 'edge_index' must hold both directions"),
        (changed(edge_index=EDGE.repeat(1, 2)), r"'graphs\[1\]': 'edge_index' must have no duplicates"),
        (changed(edge_index=EDGE.float()), r"'graphs\[1\]': 'edge_index' must hold int64 node numbers"),
        (changed(edge_index=None), r"'graphs\[1\]': 'edge_index' must be a torch.Tensor, got NoneType"),
        (changed(x=torch.full((4, 5), torch.nan)), r"'graphs\[1\]': 'x' must be finite"),
        (changed(x=torch.zeros(4, 6)), "'graphs' must have features 'x' of one width"),
        (changed(x=torch.zeros(3, 5)), r"'graphs\[1\]': "),
        (changed(x=SPARSE.x), r"'graphs\[1\]': 'x' must be dense"),
        (changed(num_nodes=7), r"'graphs\[1\]': 'x' must have one row per node, got 4 rows for 7 nodes"),
        ([*BARE, ATTRIBUTED[0]], "'graphs' must all have features 'x' or none"),
        ([*BARE, Data(edge_index=EDGE[:, :0], num_nodes=0)], r"'graphs\[3\]': 'num_nodes' must be at least 1, got 0"),
        ([*BARE, as_batch(BARE)], r"'graphs\[3\]' must be one graph, got a PyG Batch"),
        ([*BARE, 3], r"'graphs\[3\]' must be a PyG Data, got int"),
    ],
)
def test_a_faulty_graph_is_told_by_its_place(graphs, message):
    assert alike(graphs) is None
    with pytest.raises((TypeError, ValueError), match=message):
        as_batch(graphs)


def test_integer_edges_of_other_types_are_still_taken():
    graphs = [*BARE, Data(edge_index=EDGE.int(), num_nodes=2)]
    assert alike(graphs) is None
    assert as_batch(graphs).edge_index.dtype == torch.int64


def test_directed_graphs_are_joined_where_they_are_allowed():
    graphs = [Data(edge_index=EDGE[:, :1], num_nodes=2), BARE[0]]
    assert alike(graphs) is None
    assert torch.equal(as_batch(graphs, directed=True).edge_index[:, 0], torch.tensor([0, 1]))
