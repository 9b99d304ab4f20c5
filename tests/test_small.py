"""`small_graphs`: what is written is read, the benchmarks have their sizes, and a bad file is refused by name."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from graphvae.datasets import small_graphs

DATA = Path(os.environ.get("GRAPHVAE_DATA") or Path(__file__).parents[2] / "shared" / "data")

ARRAYS = {  # Test: one edge. Train: no edge, then a path of three nodes. Validation: one node.
    "num_nodes": np.array([2, 4, 3, 1]),
    "edge_index": np.array([[0, 0, 1], [1, 1, 2]], dtype=np.int16),
    "edge_ptr": np.array([0, 1, 1, 3, 3]),
    "split": np.array([2, 0, 0, 1]),
}


def store(path: Path, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in (ARRAYS | changes).items() if value is not None})
    return path


def contents(graphs) -> list:
    return [(g.num_nodes, sorted(map(tuple, g.edge_index.T.tolist()))) for g in graphs]


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = store(tmp_path / "mine.npz")
    for parts in (small_graphs(path), small_graphs(str(path)), small_graphs("mine", tmp_path)):
        assert contents(parts.train) == [(4, []), (3, [(0, 1), (1, 0), (1, 2), (2, 1)])]
        assert contents(parts.val) == [(1, [])]
        assert contents(parts.test) == [(2, [(0, 1), (1, 0)])]
        assert all(g.edge_index.dtype == torch.int64 for part in parts for g in part)
        assert all(g.x is None for part in parts for g in part)


def test_a_part_may_be_empty(tmp_path):
    parts = small_graphs(store(tmp_path / "mine.npz", split=np.full(4, 1)))
    assert [len(part) for part in parts] == [0, 4, 0]


def test_the_root_is_the_argument_else_the_variable(tmp_path, monkeypatch):
    store(tmp_path / "variable" / "graphs" / "mine.npz")
    store(tmp_path / "argument" / "mine.npz", split=np.zeros(4))
    monkeypatch.setenv("GRAPHVAE_DATA", str(tmp_path / "variable"))
    assert len(small_graphs("mine").train) == 2
    assert len(small_graphs("mine", tmp_path / "argument").train) == 4
    store(tmp_path / "argument" / "community_small.npz")
    assert len(small_graphs("community-small", tmp_path / "argument").train) == 2
    where = tmp_path / "variable" / "graphs" / "other.npz"
    with pytest.raises(ValueError, match=f"^no data set 'other'; put an npz file of plain arrays at {where}, or"):
        small_graphs("other")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edge_ptr": None}, "it lacks edge_ptr"),
        ({"split": np.array([{}] * 4)}, "holds pickled objects, which are never loaded; save plain arrays"),
        ({"split": np.array([0, 1, 2, 3])}, "'split' must hold 0, 1 or 2 for each of 4 graphs"),
        ({"split": np.array([0, 1, 2, -1])}, "'split' must hold 0, 1 or 2 for each of 4 graphs"),
        ({"split": np.array([0, 1, 2])}, "'split' must hold 0, 1 or 2 for each of 4 graphs"),
        ({"edge_ptr": np.array([0, 1, 1, 3])}, "'edge_ptr' must be 5 integers, got shape (4,) of int64"),
        ({"edge_ptr": np.array(3)}, "'edge_ptr' must be 5 integers, got shape () of int64"),
        ({"edge_ptr": np.array([0, 0.5, 1, 3, 3])}, "'edge_ptr' must be 5 integers, got shape (5,) of float64"),
        ({"edge_ptr": np.array([0, 1, 1, 2, 2])}, "'edge_ptr' must rise from 0 to 3 edges, got 0 to 2"),
        ({"edge_ptr": np.array([1, 1, 1, 3, 3])}, "'edge_ptr' must rise from 0 to 3 edges, got 1 to 3"),
        ({"edge_ptr": np.array([0, 3, 1, 3, 3], dtype=np.uint8)}, "'edge_ptr' must rise from 0 to 3 edges, got 0 to 3"),
        ({"edge_index": np.array([0, 1, 2])}, "'edge_index' must be (2, E) integers, got shape"),
        ({"edge_index": np.array(3)}, "'edge_index' must be (2, E) integers, got shape ()"),
        ({"edge_index": np.zeros((2, 3)) + 0.5}, "'edge_index' must be (2, E) integers, got shape"),
        ({"num_nodes": np.array([2, 4, 2, 1])}, "'graphs[2]': 'edge_index' must hold nodes 0 to 1, got (1, 2)"),
        ({"num_nodes": np.array([2, 0, 3, 1])}, "'graphs[1]': 'num_nodes' must be at least 1, got 0"),
        ({"edge_index": np.array([[0, 1, 0], [1, 0, 1]])}, "'graphs[2]': 'edge_index' must have no duplicates"),
        ({"edge_index": np.array([[0, 1, 1], [1, 1, 2]])}, "'graphs[2]': 'edge_index' must have no self loops"),
    ],
)
def test_a_malformed_file_is_refused_by_name(changes, message, tmp_path):
    path = store(tmp_path / "mine.npz", **changes)
    with pytest.raises(ValueError, match=rf"^{path}.*{re.escape(message)}") as caught:
        small_graphs(path)
    assert "\n" not in str(caught.value)


def test_a_file_without_graphs_is_refused(tmp_path):
    none = {"num_nodes": np.empty(0, int), "edge_index": np.empty((2, 0), int), "split": np.empty(0, int)}
    path = store(tmp_path / "mine.npz", **none, edge_ptr=np.array([0]))
    with pytest.raises(ValueError, match=f"^{path}: 'graphs' must hold at least one graph, got an empty list$"):
        small_graphs(path)


@pytest.mark.skipif(not (DATA / "graphs").is_dir(), reason=f"no data sets in {DATA}")
@pytest.mark.parametrize("name", ["planar", "tree"])
def test_the_benchmarks_have_their_sizes_and_their_kind(name):
    parts = small_graphs(name, DATA)
    assert [len(part) for part in parts] == [128, 32, 40]
    for graph in (graph for part in parts for graph in part):
        assert graph.num_nodes == 64
        edges = graph.edge_index.size(1) // 2
        assert edges == 63 if name == "tree" else 64 <= edges <= 3 * 64 - 6
