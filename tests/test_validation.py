"""Every bad input gets one line that names the argument, the rule, the value and the fix, and changes nothing."""

import copy
import re

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data, HeteroData

from graphvae.graphs import as_batch
from graphvae.validation import check_edges, check_features

PATH = [[0, 1, 1, 2], [1, 0, 2, 1]]


def graph(edges=PATH, x=None, n=3, dtype=torch.long, **other) -> Data:
    x = torch.ones(n, 2) if x is None else x
    return Data(x=x, edge_index=torch.tensor(edges, dtype=dtype), **other)


def with_x(*places: tuple[int, int, float]) -> Data:
    x = torch.ones(3, 2)
    for row, column, value in places:
        x[row, column] = value
    return graph(x=x)


def altered(**values) -> Batch:
    batch = Batch.from_data_list([graph(), graph()])
    for key, value in values.items():
        batch[key] = value
    return batch


EDGES = [
    (graph([[0, 1], [1, 3]]), ValueError, "'edge_index' must hold nodes 0 to 2, got (1, 3) in column 1"),
    (graph([[0, 7], [1, 1]]), ValueError, "'edge_index' must hold nodes 0 to 2, got (7, 1) in column 1"),
    (graph([[0, 1], [1, -1]]), ValueError, "'edge_index' must hold nodes 0 to 2, got (1, -1) in column 1"),
    (graph([[-2, 1], [1, 0]]), ValueError, "'edge_index' must hold nodes 0 to 2, got (-2, 1) in column 0"),
    (graph([[0, 1], [1, 0], [1, 2]]), ValueError, "must have shape (2, E), got (3, 2); transpose it with .t()"),
    (graph([[0, 1, 2]]), ValueError, "'edge_index' must have shape (2, E), got (1, 3)"),
    (graph([0, 1]), ValueError, "'edge_index' must have shape (2, E), got (2,)"),
    (graph([[[0], [1]]]), ValueError, "'edge_index' must have shape (2, E), got (1, 2, 1)"),
    (graph(dtype=torch.float), TypeError, "must hold int64 node numbers, got torch.float32; use edge_index.long()"),
    (graph(dtype=torch.bool), TypeError, "must hold int64 node numbers, got torch.bool; use edge_index.long()"),
    (graph(dtype=torch.cfloat), TypeError, "must hold int64 node numbers, got torch.complex64; use edge_index.long()"),
    (Data(x=torch.ones(3, 2)), TypeError, "'edge_index' must be a torch.Tensor, got NoneType"),
    (Data(x=torch.ones(3, 2), edge_index=PATH), TypeError, "'edge_index' must be a torch.Tensor, got list"),
    (
        graph([[0, 1, 1, 2], [1, 0, 1, 2]]),
        ValueError,
        "must have no self loops, got 2, first at node 1; use torch_geometric.utils.remove_self_loops",
    ),
    (
        graph([[1, 2, 1, 2, 1], [2, 1, 2, 1, 2]]),
        ValueError,
        "must have no duplicates, got 3, first (1, 2); use torch_geometric.utils.coalesce",
    ),
    (
        graph([[0, 1, 2], [1, 0, 1]]),
        ValueError,
        "must hold both directions of an undirected edge, got 1 without their reverse, first (2, 1); "
        "use torch_geometric.utils.to_undirected",
    ),
]
FEATURES = [
    (with_x((1, 0, torch.nan)), ValueError, "'x' must be finite, got 1 NaN or infinite values, first at x[1, 0]"),
    (with_x((2, 1, -torch.inf), (2, 0, torch.inf)), ValueError, "got 2 NaN or infinite values, first at x[2, 0]"),
    (graph(x=torch.ones(3, 2, dtype=torch.long)), TypeError, "must be floating point, got torch.int64; use x.float()"),
    (graph(x=torch.ones(3, 2, dtype=torch.bool)), TypeError, "must be floating point, got torch.bool; use x.float()"),
    (graph(x=torch.ones(3)), ValueError, "'x' must be (num_nodes, num_features), got shape (3,)"),
    (graph(x=torch.ones(3, 1, 1)), ValueError, "'x' must be (num_nodes, num_features), got shape (3, 1, 1)"),
    (graph(x=np.ones((3, 2))), TypeError, "'x' must be a torch.Tensor, got ndarray; use torch.as_tensor(x)"),
    (graph(x=torch.eye(3).to_sparse()), TypeError, "got torch.sparse_coo; use x.to_dense()"),
    (graph(num_nodes=4), ValueError, "'x' must have one row per node, got 3 rows for 4 nodes"),
    (
        Data(x=torch.ones(3, 2), edge_index=torch.empty(2, 4, dtype=torch.long, device="meta")),
        ValueError,
        "'graphs' must be on one device, got 'x' on cpu and 'edge_index' on meta; use .to(device)",
    ),
]
NO_NODES = "'num_nodes' must be at least 1, got 0; drop empty graphs"
EMPTY = [
    (graph([[], []], n=0), ValueError, NO_NODES),
    (Data(edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=0), ValueError, NO_NODES),
    (Data(edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=-1), ValueError, NO_NODES.replace("0;", "-1;")),
]
BATCHES = [
    (
        altered(edge_index=torch.tensor([[0, 3], [3, 0]])),
        ValueError,
        "'edge_index' must join nodes of one graph, an edge joins two graphs of the batch",
    ),
    (altered(x=torch.ones(5, 2)), ValueError, "'ptr' must rise from 0 to 5 nodes, got 0 to 6; rebuild the batch"),
    (altered(ptr=torch.tensor([1, 3, 6])), ValueError, "'ptr' must rise from 0 to 6 nodes, got 1 to 6"),
    (altered(ptr=torch.tensor([0, 7, 6])), ValueError, "'ptr' must rise from 0 to 6 nodes, got 0 to 6"),
    (altered(ptr=torch.tensor([0, 3, 3, 6])), ValueError, "must have at least one node each, graph 1 has none"),
    (altered(ptr=None), ValueError, "'graphs' must have 'ptr' beside 'batch', got none; rebuild the batch with"),
    (altered(batch=torch.tensor([0, 1, 0, 1, 0, 1])), ValueError, "'batch' must give each node the graph that 'ptr'"),
    (altered(batch=torch.zeros(5)), ValueError, "'batch' must give each node the graph that 'ptr'"),
]
LISTS = [
    ([], ValueError, "'graphs' must hold at least one graph, got an empty list"),
    ((), ValueError, "'graphs' must hold at least one graph, got an empty list"),
    ([graph(), "graph"], TypeError, "'graphs[1]' must be a PyG Data, got str"),
    ([graph(), HeteroData()], TypeError, "'graphs[1]' must be a PyG Data, got HeteroData"),
    ([altered(), graph()], TypeError, "'graphs[0]' must be one graph, got a PyG Batch; use its to_data_list()"),
    (
        [graph(), graph(x=torch.ones(3, 4))],
        ValueError,
        "must have features 'x' of one width, got 2 in graph 0 and 4 in graph 1",
    ),
    (
        [graph(), Data(edge_index=torch.tensor(PATH), num_nodes=3)],
        ValueError,
        "must all have features 'x' or none, graph 1 has none and graph 0 has",
    ),
    (
        [Data(edge_index=torch.tensor(PATH), num_nodes=3), graph()],
        ValueError,
        "must all have features 'x' or none, graph 0 has none and graph 1 has",
    ),
    ([graph(num_nodes=2), graph(num_nodes=4)], ValueError, "'graphs[0]': 'x' must have one row per node, got 3 rows"),
]
OTHERS = [
    (None, TypeError, "'graphs' must be a PyG Data, Batch or a list of Data, got NoneType"),
    (HeteroData(), TypeError, "'graphs' must be a PyG Data, Batch or a list of Data, got HeteroData"),
    (torch.ones(2, 2), TypeError, "'graphs' must be a PyG Data, Batch or a list of Data, got Tensor"),
]
IN_LISTS = [([graph(), bad], kind, message) for bad, kind, message in EDGES + FEATURES + EMPTY]


def contents(given) -> list:
    graphs = given if isinstance(given, (list, tuple)) else [given]
    return [g.to_dict() if isinstance(g, (Data, HeteroData)) else g for g in graphs]


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    EDGES + FEATURES + EMPTY + BATCHES + LISTS + OTHERS + IN_LISTS,
)
def test_bad_graphs_are_refused_in_one_line_and_left_alone(given, kind, message):
    kept = copy.deepcopy(contents(given))
    with pytest.raises(kind, match=re.escape(message)) as caught:
        as_batch(given)
    assert "\n" not in str(caught.value)
    assert repr(contents(given)) == repr(kept)  # repr prints every value of these small tensors


@pytest.mark.parametrize(("given", "kind", "message"), IN_LISTS)
def test_in_a_list_the_message_names_the_graph(given, kind, message):
    with pytest.raises(kind, match=r"^'graphs\[1\]': '"):
        as_batch(given)
    with pytest.raises(kind, match=r"^'graphs\[0\]': '"):
        as_batch(given[::-1])


@pytest.mark.parametrize("wrap", [lambda g: g, lambda g: [graph(), g], lambda g: Batch.from_data_list([graph(), g])])
def test_one_directional_edges_are_for_directed_graphs(wrap):
    given = wrap(graph([[0, 1], [1, 2]]))
    shift = 3 if as_batch(given, directed=True).num_graphs == 2 else 0
    assert as_batch(given, directed=True).edge_index[:, -2:].tolist() == [[shift, shift + 1], [shift + 1, shift + 2]]
    with pytest.raises(ValueError, match="must hold both directions of an undirected edge, got 2"):
        as_batch(given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32, torch.bool])
def test_an_empty_edge_index_of_any_type_is_taken_as_long(dtype):
    given = graph([[], []], dtype=dtype)
    assert as_batch(given).edge_index.dtype == torch.int64
    assert as_batch(given).edge_index.shape == (2, 0)
    assert given.edge_index.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_other_integers_are_cast(dtype):
    edges = check_edges(torch.tensor(PATH, dtype=dtype), 3)
    assert edges.dtype == torch.int64
    assert edges.tolist() == PATH


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floating_point_features_keep_their_type(dtype):
    check_features(torch.ones(3, 2, dtype=dtype))
    assert as_batch(graph(x=torch.ones(3, 2, dtype=dtype))).x.dtype == dtype


def test_large_node_numbers_do_not_overflow():
    """Edges are compared as row * num_nodes + column: a product that would overflow 32 bits."""
    n = 100_000
    edges = torch.tensor([[n - 1, n - 2], [n - 2, n - 1]], dtype=torch.int32)
    assert check_edges(edges, n).tolist() == edges.tolist()
    with pytest.raises(ValueError, match=rf"first \({n - 2}, {n - 1}\); use"):
        check_edges(edges[:, [0, 1, 1]], n)
