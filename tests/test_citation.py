"""`citation`: the published figures of the three graphs, npz files, and errors that say what to put where."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.datasets import Coauthor, Planetoid

from graphvae.datasets import citation
from graphvae.datasets.citation import read_npz
from graphvae.datasets.folders import data_root

DATA = Path(os.environ.get("GRAPHVAE_DATA") or Path(__file__).parents[2] / "shared" / "data")
needs_data = pytest.mark.skipif(not (DATA / "planetoid").is_dir(), reason=f"no data sets in {DATA}")

ARRAYS = {  # A triangle with a tail; row 2 of the features is empty.
    "num_nodes": np.array(4),
    "edge_index": np.array([[0, 0, 1, 2], [1, 2, 2, 3]], dtype=np.int32),
    "x_shape": np.array([4, 3]),
    "x_indptr": np.array([0, 2, 3, 3, 4]),
    "x_indices": np.array([0, 2, 1, 2]),
    "x_data": np.array([0.5, 2, -1, 4]),
    "y": np.array([1, 0, 0, 2], dtype=np.int16),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Every download fails, at once and in two lines."""

    def download(self):
        raise OSError("no network here\nand a second line")

    monkeypatch.setattr(Planetoid, "download", download)
    monkeypatch.setattr(Coauthor, "download", download)


def store(path: Path, **changes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in (ARRAYS | changes).items() if value is not None})
    return path


def listing(folder: Path) -> list[tuple[str, int, int]]:
    found = [(path, path.stat()) for path in sorted(folder.rglob("*"))]
    return [(str(path), facts.st_size, facts.st_mtime_ns) for path, facts in found]


def test_an_npz_file_is_read_as_it_was_written(tmp_path):
    path = store(tmp_path / "My_Graph.npz")
    graph = citation(path)
    assert graph.x.tolist() == [[0.5, 0, 2], [0, -1, 0], [0, 0, 0], [0, 0, 4]]
    assert (graph.x.dtype, graph.y.dtype, graph.edge_index.dtype) == (torch.float32, torch.int64, torch.int64)
    edges = {(0, 1), (0, 2), (1, 2), (2, 3)}
    assert sorted(map(tuple, graph.edge_index.T.tolist())) == sorted(edges | {(j, i) for i, j in edges})
    assert graph.y.tolist() == [1, 0, 0, 2]
    assert graph.name == "My_Graph"
    assert citation(str(path)).x.equal(graph.x)
    assert citation(store(path, x_data=np.empty(0))).x.equal(graph.x.ne(0).float())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y": None, "x_data": None}, "it lacks x_data, y"),
        ({"y": np.array([{}], dtype=object)}, "holds pickled objects, which are never loaded; save plain arrays"),
        ({"edge_index": np.array([[0], [4]])}, "'edge_index' must hold nodes 0 to 3, got (0, 4) in column 0"),
        ({"edge_index": np.array([[0], [-1]])}, "'edge_index' must hold nodes 0 to 3, got (0, -1) in column 0"),
        ({"edge_index": np.array([[0, 1], [1, 1]])}, "'edge_index' must have no self loops, got 2, first at node 1"),
        ({"edge_index": np.array([[0, 1], [1, 0]])}, "'edge_index' must have no duplicates, got 2, first (0, 1)"),
        ({"edge_index": np.array([[0, 1], [1, 2], [2, 3]])}, "'edge_index' must be (2, E) integers, got shape (3, 2)"),
        ({"edge_index": np.array([[0.5], [1]])}, "'edge_index' must be (2, E) integers, got shape (2, 1) of float64"),
        ({"num_nodes": np.array(5), "y": np.zeros(5)}, "'x' must have one row per node, got 4 rows for 5 nodes"),
        ({"num_nodes": np.array([4, 4])}, ""),
        ({"y": np.zeros(3)}, "'y' must be one label per node, got shape (3,) for 4 nodes"),
        ({"y": np.array(list("abcd"))}, ""),
        ({"x_data": np.array([1, np.nan, 1, 1])}, "'x' must be finite, got 1 NaN or infinite values, first at x[0, 2]"),
        ({"x_data": np.ones(3)}, ""),
        ({"x_indices": np.array([0, 2, 1, 3])}, "indices must be < 3"),
        ({"x_indices": np.array([0, -1, 1, 2])}, ""),
        ({"x_indptr": np.array([0, 2, 1, 3, 4])}, ""),
        ({"x_indptr": np.array([0, 2, 3, 4])}, ""),
        ({"x_shape": np.array([4])}, ""),
    ],
)
def test_a_malformed_npz_file_is_refused_by_name(changes, message, tmp_path):
    path = store(tmp_path / "graph.npz", **changes)
    with pytest.raises(ValueError, match=rf"^{path}.*{re.escape(message)}") as caught:
        citation(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [slice(0), slice(100), slice(-9), slice(len(b"PK"), None)])
def test_a_damaged_file_is_refused_by_name(kept, tmp_path):
    path = store(tmp_path / "graph.npz")
    path.write_bytes(path.read_bytes()[kept])
    with pytest.raises(ValueError, match=rf"^{path} is (not an npz file of plain arrays|damaged or not an npz file)"):
        read_npz(path)


def test_flipped_bits_are_noticed_wherever_they_are(tmp_path):
    path = tmp_path / "graph.npz"
    np.savez_compressed(path, **ARRAYS)
    sound, expected = path.read_bytes(), read_npz(path).to_dict()
    refused = []
    for position in range(0, len(sound), 7):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 0x55]) + sound[position + 1 :])
        try:
            found = read_npz(path).to_dict()
        except ValueError as error:
            refused.append(str(error))
        else:  # a date, say
            assert all(torch.equal(torch.as_tensor(found[key]), torch.as_tensor(expected[key])) for key in expected)
    assert len(refused) > len(sound) / 7 / 2
    assert [message for message in refused if not message.startswith(str(path))] == []


def test_pickles_and_lone_arrays_under_the_name_npz_are_refused(tmp_path):
    path = tmp_path / "graph.npz"
    for content in (np.ones(3), np.array([{}], dtype=object)):
        with path.open("wb") as file:
            np.save(file, content)
        with pytest.raises(ValueError, match=f"^{path} is not an npz file of plain arrays$"):
            read_npz(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("corra", "unknown data set 'corra': use cora, citeseer, pubmed, coauthor-cs, or the path of an npz file"),
        ("none.npz", "no file none.npz; give the path of an npz file"),
        *[
            (
                name,
                f"'{title}' cannot be loaded (no network here); put the Planetoid files "
                f"ind.{title.lower()}.x ... ind.{title.lower()}.test.index into {{root}}/{title}/raw",
            )
            for name, title in [("cora", "Cora"), ("CiteSeer", "CiteSeer"), ("PUBMED", "PubMed")]
        ],
        (
            "coauthor_cs",
            "'coauthor-cs' cannot be loaded (no network here); put coauthor_cs.npz into {root}/citation",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(name, message, tmp_path, capsys):
    with pytest.raises(ValueError, match=f"^{re.escape(message.format(root=tmp_path))}$"):
        citation(name, tmp_path)
    assert capsys.readouterr().out == ""


def test_the_root_is_the_argument_else_the_variable_else_the_cache(tmp_path, monkeypatch):
    store(tmp_path / "variable" / "citation" / "coauthor_cs.npz", y=np.full(4, 7))
    store(tmp_path / "argument" / "coauthor_cs.npz", y=np.full(4, 8))
    store(tmp_path / "cache" / "graphvae" / "coauthor_cs.npz", y=np.full(4, 9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GRAPHVAE_DATA", str(tmp_path / "variable"))
    assert citation("coauthor-cs").y.tolist() == [7] * 4
    assert citation("coauthor-cs", tmp_path / "argument").y.tolist() == [8] * 4
    monkeypatch.delenv("GRAPHVAE_DATA")
    assert citation("Coauthor-CS").y.tolist() == [9] * 4
    assert data_root("~/here") == Path.home() / "here"


@needs_data
@pytest.mark.parametrize(
    ("name", "folder", "nodes", "edges", "features", "classes"),
    [
        ("cora", "", 2708, 5278, 1433, 7),
        ("Cora", "planetoid", 2708, 5278, 1433, 7),
        ("citeseer", "", 3327, 4552, 3703, 6),
        ("coauthor_cs", "", 18333, 81894, 6805, 15),
    ],
)
def test_the_published_graphs_have_their_published_sizes(name, folder, nodes, edges, features, classes, capfd):
    before = listing(DATA)
    graph = citation(name, DATA / folder)
    assert listing(DATA) == before
    assert graph.x.shape == (nodes, features)
    assert graph.edge_index.shape == (2, 2 * edges)
    assert graph.is_undirected()
    assert not graph.has_self_loops()
    assert graph.y.unique().tolist() == list(range(classes))
    assert graph.name == name.lower().replace("_", "-")
    assert set(graph.keys()) >= {"x", "edge_index", "y", "name"}
    assert capfd.readouterr() == ("", "")


def test_damaged_planetoid_files_are_named(tmp_path):
    raw = tmp_path / "Cora" / "raw"
    raw.mkdir(parents=True)
    for part in ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index"):
        (raw / f"ind.cora.{part}").write_bytes(b"garbage")
    with pytest.raises(
        ValueError, match=f"^'Cora' cannot be loaded .*; the files in {re.escape(str(raw))} are damaged$"
    ):
        citation("cora", tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == sorted(
        ["Cora", "raw", *(path.name for path in raw.iterdir())]
    )
