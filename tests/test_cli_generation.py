"""`graphvae generate` and `graphvae evaluate`."""

import json

import networkx as nx
import numpy as np
import pytest
import torch

from graphvae.cli import main
from graphvae.datasets import graphs_from, read_graphs, write_graph6, write_graphs
from graphvae.datasets.graph_lists import GraphSplits
from graphvae.datasets.small import atlas
from graphvae.encoders import NormalEncoder
from graphvae.plots.generation import positions

METHODS = ("erdos-renyi", "node-latents")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What one command left: the folder, and what it printed is tested by another."""
    folder = tmp_path_factory.mktemp("made")
    words = [word for method in METHODS for word in ("--method", method)]
    sizes = ["--steps", "4", "--draws", "2", "--num-graphs", "8", "--seed", "3"]
    assert main(["generate", "--dataset", "atlas-5", *words, *sizes, "--out", str(folder)]) == 0
    return folder


def rows_of(path):
    result = json.loads(path.read_text())
    return result, {row["method"]: row for row in result["rows"]}


def test_generating_leaves_rows_samples_models_and_pictures(made):
    result, rows = rows_of(made / "result.json")
    assert list(rows) == ["train set", "train set copied", *METHODS]
    protocol = result["protocol"]
    assert (protocol["dataset"], protocol["draws"], protocol["graphs_per_draw"]) == ("atlas-5", 2, 8)
    assert (protocol["valid"], protocol["kernels"], protocol["test_isomorphic_to_train"]) == ("connected", "tv", 0)
    assert result["seed"] == 3
    for method in METHODS:
        row = rows[method]
        assert row["num_graphs"] == 16
        assert set(row["mmd"]) == {"degree", "clustering", "orbit", "spectral"}
        assert row["graphs_per_second"] > 0
        samples = read_graphs(made / f"samples-{method}.npz")
        assert len(samples) == 16
        same = read_graphs(made / f"samples-{method}.g6")
        assert [graph.num_edges for graph in same] == [graph.num_edges for graph in samples]
    assert (made / "model-node-latents" / "model.safetensors").exists()
    for picture in ("graphs.png", "statistics.png"):
        assert (made / picture).read_bytes().startswith(b"\x89PNG")


def test_a_table_of_the_usual_methods(tmp_path, capsys):
    write_graphs(tmp_path / "mine.npz", graphs_from([nx.cycle_graph(n) for n in range(3, 9)] * 4))
    words = ["generate", "--dataset", str(tmp_path / "mine.npz"), "--steps", "2", "--draws", "1", "--kernel", "emd"]
    assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    _, rows = rows_of(tmp_path / "rows.json")
    assert set(rows) == {
        "train set",
        "train set copied",
        "erdos-renyi",
        "graphvae",
        "node-latents",
        "node-hierarchical",
    }
    for name in rows:
        assert name in printed
    assert "earth mover's" in printed
    assert "Test graphs that are isomorphic to a training graph: 100%" in printed


def test_methods_that_do_not_suit_are_left_out_unless_asked_for(tmp_path, capsys):
    write_graphs(tmp_path / "mine.npz", graphs_from([nx.path_graph(30)] * 10))
    words = ["generate", "--dataset", str(tmp_path / "mine.npz"), "--steps", "1", "--draws", "1"]
    assert main(words) == 0
    assert "Left out: graphvae, whose matching" in capsys.readouterr().out
    assert main([*words, "--method", "graphvae"]) == 2
    assert "graphvae-bfs has no such limit" in capsys.readouterr().err


def test_samples_are_judged_as_they_were_when_generated(made, tmp_path):
    """Of a file of all draws: what does not depend on how many there are."""
    _, before = rows_of(made / "result.json")
    words = ["evaluate", str(made / "samples-node-latents.npz"), "--reference", "atlas-5"]
    assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    _, after = rows_of(tmp_path / "rows.json")
    assert list(after) == ["train set", "train set copied", "samples-node-latents.npz"]
    own = after["samples-node-latents.npz"]
    assert own["num_graphs"] == 16
    for name in ("valid", "novel"):
        assert own[name] == pytest.approx(before["node-latents"][name])
    assert after["train set"]["mmd"] == before["train set"]["mmd"]


def test_a_saved_model_is_drawn_from(made, tmp_path):
    words = ["evaluate", str(made / "model-node-latents"), "--reference", "atlas-5:test", "--num-graphs", "12"]
    assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    assert rows_of(tmp_path / "rows.json")[1]["model-node-latents"]["num_graphs"] == 12


def test_training_graphs_may_be_given(tmp_path):
    """With --train the reference is taken whole; without, training and test parts of the reference."""
    small, large = (graphs_from([nx.path_graph(n)] * 4) for n in (4, 5))
    write_graphs(tmp_path / "set.npz", GraphSplits(small, small, large))
    write_graph6(tmp_path / "train.g6", large)
    write_graph6(tmp_path / "samples.g6", large)
    words = ["evaluate", str(tmp_path / "samples.g6"), "--json", str(tmp_path / "rows.json"), "--valid", "tree"]
    reference = ["--reference", str(tmp_path / "set.npz")]
    assert main([*words, *reference]) == 0
    own = rows_of(tmp_path / "rows.json")[1]["samples.g6"]
    assert (own["valid"], own["unique"], own["novel"], own["vun"]) == (1, 0.25, 1, 0.25)
    assert own["mmd"]["degree"] == pytest.approx(0, abs=1e-12)
    assert main([*words, *reference, "--train", str(tmp_path / "train.g6")]) == 0
    own = rows_of(tmp_path / "rows.json")[1]["samples.g6"]
    assert own["novel"] == 0
    assert own["mmd"]["degree"] > 0.001


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["generate", "--dataset", "nothing"], "no data set or file 'nothing'; names are atlas, "),
        (["generate", "--dataset", "atlas-5:test"], "--dataset must have all its parts, got atlas-5:test"),
        (["generate", "--dataset", "missing.npz"], "missing.npz"),
        (["generate", "--num-graphs", "0"], "--num-graphs must be positive, got 0"),
        (["generate", "--draws", "0"], "--draws must be positive, got 0"),
        (["generate", "--steps", "-1"], "--steps must be positive, got -1"),
        (["generate", "--dataset", "atlas-5", "--kernel", "rbf"], "--kernel must be one of tv, emd, got rbf"),
        (["generate", "--dataset", "atlas-5", "--valid", "round"], "--valid must be one of planar, "),
        (["generate", "--dataset", "atlas-5", "--method", "gan"], "--method must be one of erdos-renyi, "),
        (["evaluate", "missing.npz", "--reference", "atlas-5"], "missing.npz"),
        (["evaluate", "missing", "--reference", "atlas-5"], "no file or folder missing of samples"),
        (["evaluate", "missing.npz", "--reference", "nothing"], "no data set or file 'nothing'"),
        (["evaluate", "own.g6", "--reference", "atlas-5", "--train", "nothing"], "no data set or file 'nothing'"),
        (["evaluate", "own.g6", "--reference", "atlas-5", "--num-graphs", "5"], "--num-graphs is for SAMPLES that are"),
        (["evaluate", "damaged.npz", "--reference", "atlas-5"], "damaged.npz"),
        (["evaluate", "encoder", "--reference", "atlas-5"], "encoder holds NormalEncoder"),
    ],
)
def test_bad_input_is_one_line_and_status_two(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_graph6("own.g6", atlas(3))
    np.savez("damaged.npz", num_nodes=np.array([2]))
    if "encoder" in words:
        from graphvae import save

        save(NormalEncoder(torch.nn.Linear(2, 2), 2, 2), "encoder")
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_layouts_keep_parts_apart():
    """Every node has a place; parts of a graph, lone nodes among them, do not overlap."""
    net = nx.disjoint_union_all([nx.cycle_graph(6), nx.path_graph(3), *[nx.empty_graph(1)] * 4])
    places = positions(net)
    assert set(places) == set(net)
    boxes = []
    for part in nx.connected_components(net):
        corners = np.stack([places[node] for node in part])
        boxes.append((corners.min(0), corners.max(0)))
    for k, (low, high) in enumerate(boxes):
        for other_low, other_high in boxes[:k]:
            assert (low > other_high).any() or (high < other_low).any()


def test_molecules_are_generated_and_judged(tmp_path, capsys, monkeypatch):
    """A line for each sample, also for those that are no molecules, so that the file is judged as the samples were."""
    pytest.importorskip("rdkit")
    pytest.importorskip("zuko")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    chains = [a + "C" * n + b for n in range(1, 4) for a in "CNO" for b in ("", "F", "=O", "#N", "(C)C", "C=C")]
    (tmp_path / "set.smi").write_text("\n".join(chains))
    data, out = str(tmp_path / "set.smi"), tmp_path / "out"
    words = ["generate", "--dataset", data, "--steps", "6", "--num-graphs", "20", "--out", str(out)]
    assert main([*words, "--method", "graphvae"]) == 0
    result, rows = rows_of(out / "result.json")
    assert result["protocol"]["atoms"] == ["C", "N", "O", "F"]
    lines = (out / "samples-graphvae.smi").read_text().splitlines()
    assert len(lines) == 20
    assert len(read_graphs(out / "samples-graphvae.npz")) == 20
    for picture in ("molecules.png", "statistics.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")
    assert "V.U.N.: different valid molecules" in capsys.readouterr().out
    judged = tmp_path / "rows.json"
    assert main(["evaluate", str(out / "samples-graphvae.smi"), "--reference", data, "--json", str(judged)]) == 0
    again = rows_of(judged)[1]["samples-graphvae.smi"]
    for name in ("valid", "unique", "novel", "vun"):
        assert again[name] == rows["graphvae"][name]
    # All of the reference, and training molecules from elsewhere.
    (tmp_path / "own.smi").write_text("CCO\nnothing\nC.C\nOCC\n")
    words = ["evaluate", str(tmp_path / "own.smi"), "--reference", data, "--train", data, "--json", str(judged)]
    assert main(words) == 0
    own = rows_of(judged)[1]["own.smi"]
    assert (own["sanitised"], own["valid"], own["unique"]) == (0.75, 0.5, 0.5)
    for bad, message in (
        (["generate", "--dataset", data, "--kernel", "emd"], "--kernel is not for molecules"),
        (["evaluate", "missing.smi", "--reference", data], "no file missing.smi of samples"),
        (["evaluate", str(out / "samples-graphvae.npz"), "--reference", data], "must be a file of SMILES"),
        (["evaluate", "missing.smi", "--reference", f"{data}:train"], "--reference must be test molecules"),
    ):
        assert main(bad) == 2
        assert message in capsys.readouterr().err
