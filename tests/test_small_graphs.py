"""Names of sets of small graphs, their files in every format, and that what is written is read."""

import re

import networkx as nx
import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_networkx

from conftest import random_graph
from graphvae.datasets import GraphSplits, graphs_from, oracle, read_graphs, small_graphs, write_graph6, write_graphs
from graphvae.datasets.graph6 import decoded, encoded
from graphvae.datasets.small import PROCEDURAL, atlas
from graphvae.graphs import as_batch

PATH, TRIANGLE = Data(edge_index=torch.tensor([[0, 1, 1, 2], [1, 2, 0, 1]]), num_nodes=4), nx.complete_graph(3)


def edges_of(graph) -> list:
    types = graph.get("edge_type")
    types = [None] * graph.edge_index.size(1) if types is None else types.tolist()
    return sorted((i, j, t) for (i, j), t in zip(graph.edge_index.T.tolist(), types, strict=True))


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert a.num_nodes == b.num_nodes
        assert edges_of(a) == edges_of(b)
        assert (a.x is None) == (b.x is None)
        assert a.x is None or torch.equal(a.x, b.x)


def typed(num_nodes: int, seed: int) -> Data:
    graph = random_graph(num_nodes, 0.5, seed)
    low, high = graph.edge_index.sort(0).values
    graph.edge_type = (low + 2 * high) % 3
    return graph


# Reading and writing.


@pytest.mark.parametrize("make", [typed, lambda n, seed: random_graph(n, 0.4, seed), lambda n, seed: PATH.clone()])
def test_npz_holds_what_was_written(make, tmp_path):
    graphs = [make(n, n) for n in (5, 1, 9, 2)]
    write_graphs(tmp_path / "mine.npz", graphs)
    assert_same(read_graphs(tmp_path / "mine.npz"), graphs)
    once = read_graphs(tmp_path / "mine.npz")
    write_graphs(tmp_path / "again.npz", once)
    for a, b in zip(once, read_graphs(tmp_path / "again.npz"), strict=True):
        assert torch.equal(a.edge_index, b.edge_index)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "mine.npz").read_bytes()


def test_a_batch_and_one_graph_can_be_written(tmp_path):
    graphs = [random_graph(n, 0.4, n) for n in (3, 6)]
    for given in (as_batch(graphs), graphs):
        write_graphs(tmp_path / "mine.npz", given)
        assert_same(read_graphs(tmp_path / "mine.npz"), graphs)
    write_graphs(tmp_path / "mine.npz", graphs[1])
    assert_same(read_graphs(tmp_path / "mine.npz"), graphs[1:])


def test_parts_are_kept(tmp_path):
    graphs = [random_graph(n, 0.4, n) for n in range(1, 7)]
    parts = GraphSplits(graphs[:3], [], graphs[3:])
    write_graphs(tmp_path / "mine.npz", parts)
    for found, part in zip(small_graphs(tmp_path / "mine.npz"), parts, strict=True):
        assert_same(found, part)
    assert_same(read_graphs(tmp_path / "mine.npz"), graphs)
    assert_same(read_graphs(f"{tmp_path / 'mine.npz'}:test"), graphs[3:])
    alone = small_graphs(f"{tmp_path / 'mine.npz'}:test")
    assert [len(part) for part in alone] == [0, 0, 3]
    assert_same(alone.test, graphs[3:])
    with pytest.raises(ValueError, match=r"the part of '.*mine.npz' must be train, val, test, got 'tets'"):
        small_graphs(f"{tmp_path / 'mine.npz'}:tets")


def test_graphs_without_parts_are_split_always_alike(tmp_path):
    graphs = [Data(edge_index=torch.empty(2, 0).long(), num_nodes=n) for n in range(1, 101)]
    write_graphs(tmp_path / "mine.npz", graphs)
    parts = small_graphs(tmp_path / "mine.npz")
    assert [len(part) for part in parts] == [64, 16, 20]
    sizes = [graph.num_nodes for part in parts for graph in part]
    assert sorted(sizes) == list(range(1, 101))
    assert sizes != sorted(sizes)
    # Of numpy's only generator that promises it.
    assert sorted(graph.num_nodes for graph in parts.test)[:8] == [3, 8, 9, 14, 17, 23, 25, 27]
    assert_same(read_graphs(f"{tmp_path / 'mine.npz'}:val"), parts.val)
    write_graphs(tmp_path / "one.npz", graphs[:1])
    assert [len(part) for part in small_graphs(tmp_path / "one.npz")] == [1, 0, 0]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 62, 63, 100])
def test_graph6_is_that_of_networkx(size):
    net = nx.gnp_random_graph(size, 0.3, seed=size)
    line = nx.to_graph6_bytes(net, header=False).strip()
    edges = np.array(net.edges).reshape(-1, 2).T.astype(int)
    assert encoded(size, edges) == line
    assert encoded(size, np.concatenate([edges, edges[::-1]], 1)) == line
    found, once = decoded(line)
    assert found == size
    assert sorted(map(tuple, once.T.tolist())) == sorted(net.edges)


def test_large_graphs_have_a_longer_size_in_graph6():
    for size in (258_047, 258_048, 300_000):  # Without the bits, of which there would be billions.
        line = encoded_size(size)
        digits = {1: line[:1], 4: line[1:], 8: line[2:]}[len(line)]
        assert sum((value - 63) << 6 * k for k, value in enumerate(reversed(digits))) == size
    assert [len(encoded_size(size)) for size in (0, 62, 63, 258_047, 258_048)] == [1, 1, 4, 4, 8]


def encoded_size(size: int) -> bytes:
    from graphvae.datasets.graph6 import _of_size

    return _of_size(size)


def test_graph6_files_and_folders_are_read(tmp_path):
    graphs = [Data(edge_index=random_graph(n, 0.4, n).edge_index, num_nodes=n) for n in (5, 1, 70)]
    write_graph6(tmp_path / "b.g6", graphs)
    assert_same(read_graphs(tmp_path / "b.g6"), graphs)
    nets = nx.read_graph6(tmp_path / "b.g6")
    assert [len(net) for net in nets] == [5, 1, 70]
    nx.write_graph6(nx.path_graph(4), tmp_path / "a.g6")  # With a header.
    assert_same(read_graphs(tmp_path), [*graphs_from([nx.path_graph(4)]), *graphs])
    assert sum(map(len, small_graphs(tmp_path))) == 4


def test_folders_of_edge_lists_are_read(tmp_path):
    (tmp_path / "a.edges").write_text("# a path\n10 9\n9,2 weight\n\n7\n")
    (tmp_path / "b.txt").write_text("bob\talice\nalice\tcarol\n")
    (tmp_path / "README.md").write_text("not a graph")
    first, second = read_graphs(tmp_path)
    assert first.num_nodes == 4  # Named 2, 7, 9, 10.
    assert edges_of(first) == [(0, 2, None), (2, 0, None), (2, 3, None), (3, 2, None)]
    assert edges_of(second) == [(0, 1, None), (1, 0, None), (1, 2, None), (2, 1, None)]
    net = nx.gnp_random_graph(8, 0.6, seed=0)
    nx.write_edgelist(net, tmp_path / "c.edgelist")
    assert_same(read_graphs(tmp_path)[2:], graphs_from([net]))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.g6", b"A_\nB\n", "a.g6, line 2: graph6 of 3 nodes must have 1 characters after the size, got 0"),
        ("a.g6", b":An\n", "a.g6, line 1: must be graph6, got sparse6 or digraph6; convert it"),
        ("a.g6", b"A \x01\n", "a.g6, line 1: graph6 must consist of the characters ? to ~"),
        ("a.g6", b"A`\n", "a.g6, line 1: graph6 must end in zero bits, got others"),
        ("a.g6", b"?\n", "'graphs[0]': 'num_nodes' must be at least 1, got 0"),
        ("a.g6", b"", "'graphs' must hold at least one graph, got an empty list"),
        ("a.txt", b"1 2\n2 1\n", "a.txt must name each undirected edge once, got one twice"),
        ("a.txt", b"1 1\n", "'edge_index' must have no self loops"),
        ("a.txt", b"\xff\xfe\n", "a.txt must be text, one edge on each line, got other bytes"),
        ("a.txt", b"# nothing\n", "'num_nodes' must be at least 1, got 0"),
        ("a.md", b"text", "must hold .g6 files, or an edge list (.edges, .edgelist, .txt) for each graph"),
    ],
)
def test_a_malformed_file_is_refused_by_name(file, content, message, tmp_path):
    (tmp_path / file).write_bytes(content)
    for place in (tmp_path, tmp_path / file) if file.endswith("g6") else (tmp_path,):
        with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path))}.*{re.escape(message)}") as caught:
            small_graphs(place)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((8, 2))}, "'x' must be (9, F) floating point, got shape (8, 2) of float64"),
        ({"x": np.zeros((9, 2), dtype=int)}, "'x' must be (9, F) floating point, got shape (9, 2) of int64"),
        ({"x": np.full((9, 2), np.nan)}, "'graphs[0]': 'x' must be finite"),
        ({"edge_type": np.zeros(2, dtype=int)}, "'edge_type' must be 3 integers, got shape (2,) of int64"),
        ({"edge_type": np.array([0, 1, -1])}, "'edge_type' must not be negative, got -1"),
        ({"num_nodes": np.array([[4, 5]])}, "'num_nodes' must be (G,) integers, got shape (1, 2) of int64"),
        ({"num_nodes": np.array([4.0, 5.0])}, "'num_nodes' must be (G,) integers, got shape (2,) of float64"),
    ],
)
def test_malformed_arrays_are_refused_by_name(changes, message, tmp_path):
    arrays = {
        "num_nodes": np.array([4, 5]),
        "edge_index": np.array([[0, 0, 1], [1, 1, 2]]),
        "edge_ptr": np.array([0, 1, 3]),
    }
    path = tmp_path / "mine.npz"
    np.savez(path, **(arrays | changes))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: {re.escape(message)}"):
        small_graphs(path)


def test_what_cannot_be_written_is_refused(tmp_path):
    graphs = [typed(4, 0), random_graph(4, 0.5, 0)]
    with pytest.raises(ValueError, match="'graphs' must all have 'edge_type' or none, "):
        write_graphs(tmp_path / "mine.npz", graphs)
    with pytest.raises(ValueError, match=r"'path' must end in .npz, got 'mine.g6'"):
        write_graphs("mine.g6", graphs)
    with pytest.raises(ValueError, match=r"'path' must end in .g6, got 'mine'"):
        write_graph6("mine", graphs)
    uneven = typed(4, 0)
    uneven.edge_type[0] += 1
    with pytest.raises(ValueError, match=r"'graphs\[0\]': 'edge_type' must be alike in both directions of an"):
        write_graphs(tmp_path / "mine.npz", [uneven])
    assert not any(tmp_path.iterdir())


# Graphs of networkx.


def test_graphs_of_networkx_keep_their_structure():
    net = nx.Graph([("b", "a"), ("a", "c")], name="attributes are ignored")
    net.add_node("d", weight=3)
    found, path, triangle = graphs_from([net, PATH, TRIANGLE])
    assert edges_of(found) == [(0, 1, None), (0 + 1, 0, None), (1, 2, None), (2, 1, None)]
    assert found.num_nodes == 4
    assert path.num_nodes == 4
    assert nx.utils.graphs_equal(to_networkx(triangle, to_undirected=True), TRIANGLE)
    assert graphs_from([nx.empty_graph(2)])[0].edge_index.shape == (2, 0)


@pytest.mark.parametrize(
    ("graphs", "message"),
    [
        (
            [TRIANGLE, nx.DiGraph([(0, 1)])],
            r"'graphs\[1\]' must be an undirected graph .* got DiGraph; use networkx.Gr",
        ),
        ([nx.MultiGraph([(0, 1)])], r"'graphs\[0\]' must be an undirected graph .* got MultiGraph; use networkx.Graph"),
        ([nx.Graph([(0, 0)])], r"'graphs\[0\]' must have no self loops; use graph.remove_edges_from"),
        ([nx.Graph()], r"'graphs\[0\]': 'num_nodes' must be at least 1, got 0"),
        ([], "'graphs' must hold at least one graph"),
    ],
)
def test_graphs_that_are_not_simple_are_refused(graphs, message):
    with pytest.raises(ValueError, match=message):
        graphs_from(graphs)


# Names.


@pytest.mark.parametrize("name", PROCEDURAL)
def test_random_sets_need_no_file(name, tmp_path):
    parts = small_graphs(name, tmp_path)
    assert [len(part) for part in parts] == [128, 32, 40]
    again = small_graphs(name.replace("_", "-"), tmp_path)
    for first, second in zip(parts, again, strict=True):
        assert_same(first, second)
    assert_same(read_graphs(f"{name}:test", tmp_path), parts.test)


@pytest.mark.parametrize("name", ["planar-procedural", "sbm", "lobster", "tree-procedural"])
def test_the_oracle_does_not_draw_the_data_again(name):
    known = {str(graph.edge_index.tolist()) for graph in read_graphs(name)}
    for seed in range(3):
        assert not known & {str(graph.edge_index.tolist()) for graph in oracle(name)(40, seed)}


def test_an_oracle_is_there_where_the_distribution_is_known():
    for name in ("planar", "tree", "community_small", "sbm", "erdos-renyi", "planar:test"):
        assert len(oracle(name)(3, 0)) == 3
    for name in ("grid", "atlas", "ego", "mine.npz", "mine.npz:test"):
        assert oracle(name) is None


def test_the_atlas_holds_every_isomorphism_class_once():
    """1, 2, 6, 21, 112 and 853 connected graphs of 2 to 7 nodes (OEIS A001349)."""
    sizes = np.bincount([graph.num_nodes for graph in atlas()])
    assert sizes.tolist() == [0, 0, 1, 2, 6, 21, 112, 853]
    # 2, 4, 11, 34 and 156 graphs of 2 to 6 nodes (OEIS A000088).
    sizes = np.bincount([graph.num_nodes for graph in atlas(6, connected=False)])
    assert sizes.tolist() == [0, 0, 2, 4, 11, 34, 156]
    with pytest.raises(ValueError, match="'max_nodes' must be 2 to 7"):
        atlas(8)


def test_nothing_leaks_between_the_parts_of_the_atlas():
    parts = small_graphs("atlas-6")
    assert [len(part) for part in parts] == [92, 22, 28]
    nets = [to_networkx(graph, to_undirected=True) for part in parts for graph in part]
    assert all(nx.is_connected(net) for net in nets)
    for k, net in enumerate(nets):
        assert not any(nx.is_isomorphic(net, other) for other in nets[:k])
    assert [len(part) for part in small_graphs("atlas")] == [637, 159, 199]


def test_a_missing_set_is_told_where_to_be_and_what_else_there_is(tmp_path):
    with pytest.raises(ValueError, match=r"npz file of plain arrays at .*planar.npz, or .*, or use planar-procedural"):
        small_graphs("planar", tmp_path)
    with pytest.raises(ValueError, match=r"put a graph6 file, one graph on each line, at .*a.g6$"):
        small_graphs(tmp_path / "a.g6")
    (tmp_path / "notes").write_text("")
    with pytest.raises(ValueError, match="must be an npz or g6 file, or a folder of g6 files or of edge lists"):
        small_graphs(tmp_path / "notes")


def test_a_missing_folder_is_made(tmp_path):
    for write, name in ((write_graphs, "mine.npz"), (write_graph6, "mine.g6")):
        path = tmp_path / "new" / name / name
        write(path, [PATH])
        assert_same(read_graphs(path), [PATH])
        with pytest.raises(ValueError, match=r"'path' must be in a folder, got '.*mine\.(npz|g6)'"):
            write(path / "deeper" / name, [PATH])


def test_graph6_may_have_its_header_before_every_graph(tmp_path):
    nets = [nx.path_graph(4), nx.empty_graph(2), nx.complete_graph(5)]
    lines = [nx.to_graph6_bytes(net) for net in nets]
    assert all(line.startswith(b">>graph6<<") for line in lines)
    for content in (b"".join(lines), b">>graph6<<\n\n" + b"".join(lines)):
        (tmp_path / "mine.g6").write_bytes(content)
        assert_same(read_graphs(tmp_path / "mine.g6"), graphs_from(nets))


def test_types_are_kept_where_a_graph_has_no_edges(tmp_path):
    bare = Data(edge_index=torch.empty(2, 0).long(), num_nodes=2)
    graphs = [bare, typed(4, 1)]
    graphs[1].num_nodes, graphs[1].x = 4, None
    (empty, kept) = graphs_from(graphs)
    assert empty.edge_type.shape == (0,)
    assert torch.equal(kept.edge_type, graphs[1].edge_type)
    write_graphs(tmp_path / "mine.npz", graphs)
    assert_same(read_graphs(tmp_path / "mine.npz"), [empty, kept])
