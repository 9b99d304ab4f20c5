"""`Layout` against loops over graphs, and batches against the single graphs they are made of."""

import copy

import pytest
import torch
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from conftest import random_graph
from graphvae.graphs import Selector, as_batch, batch_of, copies, density, edgeless, permute, relabelled
from graphvae.layout import Layout
from graphvae.sparse import normalized_adjacency

NO_EDGE = torch.empty(2, 0, dtype=torch.long)


def three() -> list[Data]:
    return [random_graph(n, 0.5, seed=n) for n in (4, 1, 6)]


def parts(batch: Batch) -> list[tuple]:
    """Features and edges of each graph, cut out by hand, with the edges sorted."""
    found = []
    for b in range(batch.layout.num_graphs):
        first, last = batch.layout.ptr[b : b + 2].tolist()
        edges = [edge for edge in batch.edge_index.T.tolist() if first <= edge[0] < last]
        x = None if batch.x is None else batch.x[first:last].tolist()
        found.append((last - first, x, sorted((i - first, j - first) for i, j in edges)))
    assert sum(len(edges) for _, _, edges in found) == batch.edge_index.size(1)
    return found


def expected(graphs: list[Data]) -> list[tuple]:
    return [(g.num_nodes, g.x.tolist(), sorted((i, j) for i, j in g.edge_index.T.tolist())) for g in graphs]


@pytest.mark.parametrize("sizes", [[3, 1, 2], [0, 3, 0, 0, 2], [4, 0], [0], [5], [0, 0]])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_layout_agrees_with_a_loop_over_graphs(sizes, shape):
    layout = Layout.of(sizes)
    rows = torch.randn(sum(sizes), *shape, dtype=torch.float64)
    pieces = rows.split(sizes)
    assert layout.host_sizes == layout.sizes.tolist() == sizes
    assert (layout.num_graphs, layout.num_rows) == (len(sizes), sum(sizes))
    assert layout.batch.tolist() == [b for b, n in enumerate(sizes) for _ in range(n)]
    assert layout.num_pairs.tolist() == [len(torch.combinations(torch.arange(n))) for n in sizes]
    torch.testing.assert_close(layout.sum(rows), torch.stack([piece.sum() for piece in pieces]))
    padded, mask = layout.dense(rows)
    assert padded.shape == (len(sizes), max(sizes), *shape)
    for b, piece in enumerate(pieces):
        assert mask[b].tolist() == [k < sizes[b] for k in range(max(sizes))]
        assert torch.equal(padded[b, : sizes[b]], piece)
        assert not padded[b, sizes[b] :].any()


def test_layouts_of_one_graph_and_of_single_rows_are_special_cases():
    assert torch.equal(Layout.single(4).ptr, Layout.of([4]).ptr)
    assert torch.equal(Layout.singles(3).ptr, Layout.of(torch.ones(3, dtype=torch.int32)).ptr)
    rows = torch.tensor([1.0, 2.0, 4.0])
    assert Layout.single(3).sum(rows).tolist() == [7.0]
    assert Layout.singles(3).sum(rows).tolist() == [1.0, 2.0, 4.0]
    assert repr(Layout.of([2, 3])) == "Layout(num_graphs=2, num_rows=5)"


@pytest.mark.parametrize("sizes", [[], [2, -1], [[1, 2]], [1.5, 2.0]])
def test_layout_refuses_bad_sizes(sizes):
    with pytest.raises(ValueError, match=r"^'sizes' must be a non-empty list of non-negative integers, got \["):
        Layout.of(sizes)


def test_a_layout_moves_with_its_batch(monkeypatch):
    batch = as_batch(three())
    kept = batch.layout
    assert batch.to("meta").layout.ptr.device.type == "meta"
    assert kept.ptr.device.type == "cpu"
    moved = []  # PyG leaves what lacks .cpu() or .cuda() where it is, in silence
    monkeypatch.setattr(Layout, "to", lambda self, device, non_blocking=False: moved.append(device) or self)
    kept.cpu()
    kept.cuda()
    assert moved == ["cpu", "cuda"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("move", [lambda batch: batch.cuda(), lambda batch: batch.to("cuda")])
def test_batches_on_cuda_equal_batches_on_the_cpu(move):
    host = as_batch(three())
    device, ids = move(host), torch.tensor([2, 0, 2])
    assert device.layout.ptr.is_cuda
    torch.testing.assert_close(device.layout.sum(device.x).cpu(), host.layout.sum(host.x))
    assert parts(Selector(device)(ids.cuda())) == parts(Selector(host)(ids))
    assert expected(device.to_data_list()) == expected(host.to_data_list())
    assert device.cpu().layout.ptr.device.type == "cpu"


def reordered() -> Batch:
    """As a user's transform may leave it: the edges of one graph are no longer beside each other."""
    batch = Batch.from_data_list(three())
    batch.edge_index = batch.edge_index[:, torch.randperm(batch.edge_index.size(1))]
    return batch


@pytest.mark.parametrize(
    "make",
    [
        lambda: random_graph(5, 0.5, 0),
        three,
        lambda: Batch.from_data_list(three()),
        lambda: next(iter(DataLoader(three(), batch_size=3))),
        reordered,
    ],
    ids=["data", "list", "batch", "loader", "reordered"],
)
def test_as_batch_holds_the_graphs_it_is_given_and_leaves_them_alone(make):
    given = make()
    kept = copy.deepcopy(given)
    singles = three() if isinstance(given, (list, Batch)) else [given]
    batch = as_batch(given)
    assert isinstance(batch, Batch)
    assert parts(batch) == expected(singles) == expected(batch.to_data_list())
    assert as_batch(batch) is batch
    for now, then in zip(*[g if isinstance(g, list) else [g] for g in (given, kept)], strict=True):
        assert now.to_dict().keys() == then.to_dict().keys()
        assert all(torch.equal(torch.as_tensor(now[k]), torch.as_tensor(then[k])) for k in now.to_dict())


def test_as_batch_takes_an_empty_float_edge_index_beside_others():
    graphs = [Data(x=torch.ones(2, 5), edge_index=torch.empty(2, 0)), random_graph(4, 0.5, 0)]
    batch = as_batch(graphs)
    assert batch.edge_index.dtype == torch.int64
    assert parts(batch)[0] == (2, [[1.0] * 5] * 2, [])
    assert graphs[0].edge_index.dtype == torch.float32


@pytest.mark.parametrize("make", [three, lambda: random_graph(5, 0.5, 0)])
def test_a_batch_that_was_resized_is_checked_again(make):
    batch = as_batch(make())
    batch.x = batch.x[:-1]
    with pytest.raises(ValueError, match=r"'x' must have one row per node|'ptr' must rise"):
        as_batch(batch)


def test_batch_of_sorts_edges_by_graph_and_can_be_taken_apart():
    edge_index = torch.tensor([[3, 0, 4, 1], [4, 1, 3, 0]])
    batch = batch_of(torch.arange(5.0)[:, None], edge_index, Layout.of([2, 1, 2]))
    singles = batch.to_data_list()
    assert [g.num_nodes for g in singles] == [2, 1, 2]
    assert [g.edge_index.tolist() for g in singles] == [[[0, 1], [1, 0]], [[], []], [[0, 1], [1, 0]]]
    assert [g.x.flatten().tolist() for g in singles] == [[0.0, 1.0], [2.0], [3.0, 4.0]]
    assert [g.num_nodes for g in batch_of(None, edge_index, Layout.of([2, 1, 2])).to_data_list()] == [2, 1, 2]
    assert batch.num_graphs == 3


def test_edgeless_makes_vectors_graphs_of_one_node():
    x = torch.randn(3, 2)
    batch = edgeless(x)
    assert as_batch(batch) is batch
    assert parts(batch) == [(1, [row], []) for row in x.tolist()]
    assert batch.layout.num_pairs.tolist() == [0, 0, 0]
    assert batch.num_graphs == 3


@pytest.mark.parametrize("x", [torch.ones(3), torch.ones(3, 2, dtype=torch.long), torch.ones(0, 2)])
def test_edgeless_refuses_what_is_no_matrix_of_features(x):
    with pytest.raises(ValueError, match=r"^'x' must be a \(B, F\) floating-point tensor"):
        edgeless(x)


@pytest.mark.parametrize("ids", [[0], [2, 0], [1, 1, 2, 1], [0, 1, 2], [2, 2]])
@pytest.mark.parametrize("features", [True, False])
def test_select_equals_picking_from_the_list(ids, features):
    singles = three()
    if not features:
        singles = [Data(edge_index=g.edge_index, num_nodes=g.num_nodes) for g in singles]
    chosen = Selector(as_batch(singles))(torch.tensor(ids))
    assert parts(chosen) == parts(as_batch([singles[i] for i in ids]))
    assert chosen.layout.host_sizes == [singles[i].num_nodes for i in ids]


@pytest.mark.parametrize("ids", [[2, 0], [1], [0, 1, 2, 2]])
def test_a_selected_batch_is_the_one_pyg_would_make(ids):
    singles = three()
    select_some = Selector(as_batch(singles))
    chosen, theirs = select_some(ids), Batch.from_data_list([singles[i] for i in ids])
    for name in ("x", "edge_index", "batch", "ptr"):
        assert torch.equal(chosen[name], theirs[name]), name
    assert (chosen.num_nodes, chosen.num_graphs) == (theirs.num_nodes, theirs.num_graphs)
    assert (chosen.layout.num_rows, chosen.layout.host_sizes) == (theirs.num_nodes, theirs.ptr.diff().tolist())
    assert torch.equal(chosen.layout.batch, theirs.batch)
    assert expected(chosen.to_data_list()) == expected([singles[i] for i in ids])
    assert as_batch(chosen) is chosen
    again = select_some(torch.tensor(ids))
    assert torch.equal(again.edge_index, chosen.edge_index)


def test_changing_a_selected_batch_leaves_the_whole_and_later_batches_alone():
    whole = as_batch(three())
    kept, select_some = copy.deepcopy(whole), Selector(whole)
    first = select_some([0, 2])
    first.x += 1
    first.edge_index += 1
    first.more = 1
    assert parts(whole) == parts(kept)
    assert parts(select_some([0, 2])) == parts(Selector(kept)(torch.tensor([0, 2])))
    assert "more" not in select_some([0])
    assert "more" not in edgeless(torch.ones(2, 1))


def test_permute_moves_edges_and_features_together():
    batch = as_batch(three())
    order = torch.cat([torch.randperm(n) + first for n, first in zip([4, 1, 6], [0, 4, 5], strict=True)])
    moved = permute(batch, order)
    assert not torch.equal(order, torch.arange(11))
    assert torch.equal(moved.x, batch.x[order])
    old = {(i, j) for i, j in batch.edge_index.T.tolist()}
    assert {(int(order[i]), int(order[j])) for i, j in moved.edge_index.T.tolist()} == old
    assert parts(permute(moved, order.argsort())) == parts(batch)


@pytest.mark.parametrize("order", [[2, 1, 0, 3], [0, 0, 1, 2], [1, 0], [0, 0, 2, 3], [2, 3, 0, 1], [0, 1, 2, 4]])
def test_permute_refuses_what_does_not_keep_every_node_in_its_graph(order):
    batch = as_batch([Data(x=torch.ones(2, 1), edge_index=NO_EDGE)] * 2)
    with pytest.raises(ValueError, match="'order' must be a permutation that keeps every node in its own graph"):
        permute(batch, torch.tensor(order))


def test_density_is_the_share_of_pairs_within_graphs():
    path = Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), num_nodes=3)
    pair = Data(edge_index=torch.tensor([[0], [1]]), num_nodes=2)
    assert density(path) == 2 / 3
    assert density([path, pair]) == 5 / 8  # a directed edge fills one of the two ordered pairs
    with pytest.raises(ValueError, match="'graphs' must have a graph of at least two nodes"):
        density([Data(edge_index=NO_EDGE, num_nodes=1)] * 2)


@pytest.mark.parametrize("sizes", [[4], [5, 1, 3], [1, 1]])
def test_copies_are_relabelled_by_nothing(sizes):
    graphs = as_batch([random_graph(n, 0.5, seed=n) for n in sizes])
    graphs.checked_for = "anything"
    nothing = torch.arange(sum(sizes)).expand(3, -1)
    found, expected = copies(graphs, 3), relabelled(graphs, nothing)
    for name in ("x", "edge_index", "ptr", "batch"):
        assert torch.equal(found[name], expected[name])
    assert found.checked_for == "anything"
    assert found.layout.host_sizes == sizes * 3
    for one, other in zip(found.to_data_list(), graphs.to_data_list() * 3, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.edge_index, other.edge_index)
    operator = normalized_adjacency(found.edge_index, 3 * sum(sizes)).to_dense()
    torch.testing.assert_close(operator, normalized_adjacency(expected.edge_index, 3 * sum(sizes)).to_dense())
    assert copies(graphs, 1) is graphs


def test_copies_make_sparse_features_dense():
    graphs = as_batch(random_graph(4, 0.5, seed=1))
    graphs.x = graphs.x.to_sparse_csr()
    assert torch.equal(copies(graphs, 2).x, graphs.x.to_dense().repeat(2, 1))
