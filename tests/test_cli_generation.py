"""`graphvae generate` and `graphvae evaluate`."""

import argparse
import json
import shutil

import networkx as nx
import numpy as np
import pytest
import torch

from graphvae import plots
from graphvae.cli import main
from graphvae.cli.graph_kind import GRAPHS
from graphvae.cli.molecule_kind import MOLECULES
from graphvae.datasets import graphs_from, read_graphs, write_graph6, write_graphs
from graphvae.datasets.graph_lists import GraphSplits
from graphvae.datasets.small import atlas
from graphvae.datasets.smiles import from_smiles
from graphvae.encoders import NormalEncoder
from graphvae.plots.generation import positions

METHODS = ("erdos-renyi", "node-latents")
OPTIONS = {"root": None, "kernel": None, "valid": None}


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


def test_a_saved_model_is_drawn_from(made, tmp_path, capsys):
    words = ["evaluate", str(made / "model-node-latents"), "--reference", "atlas-5:test", "--num-graphs", "12"]
    assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
    assert rows_of(tmp_path / "rows.json")[1]["model-node-latents"]["num_graphs"] == 12
    assert main([*words, "--most-likely"]) == 2
    assert "--most-likely is for models with a decoder of whole graphs" in capsys.readouterr().err


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
        (["generate", "--dataset", "atlas-9"], "no data set or file 'atlas-9'; names are atlas, atlas-2 to atlas-7"),
        (["generate", "--dataset", "own.g6"], "testing; of 3 it has 3 and 0. A set without parts is split if it has 5"),
        (
            ["generate", "--dataset", "complete.g6"],
            "'complete' must have both pairs of nodes that are joined",
        ),
        (["generate", "--dataset", "empty.g6"], "no two nodes are joined in its training graphs"),
        (["evaluate", "own.g6", "--reference", "own.g6"], "for training and for testing; of 3 it has 3 and 0"),
        (["evaluate", "own.g6", "--reference", "atlas-5", "--most-likely"], "--most-likely is for SAMPLES that are"),
        (["evaluate", "own.g6:all", "--reference", "atlas-5"], "own.g6"),
        (["generate", "--dataset", "own.npz:all"], "the part of 'own.npz' must be train, val, test, got 'all'"),
        (["generate", "--dataset", "atlas-5", "--max-atoms", "5"], "--max-atoms is for molecules"),
    ],
)
def test_bad_input_is_one_line_and_status_two(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_graph6("own.g6", atlas(3))
    write_graph6("complete.g6", graphs_from([nx.complete_graph(4)] * 20))
    write_graph6("empty.g6", graphs_from([nx.empty_graph(4)] * 20))
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
    found = rows_of(judged)[1]
    assert list(found) == ["train set copied", "oracle", "own.smi"]  # Of a reference that is whole nothing is held out.
    own = found["own.smi"]
    assert (own["sanitised"], own["valid"], own["unique"], own["novel"]) == (0.75, 0.5, 0.5, 0)
    for known, novel in (("OCC", 0), ("CCN", 1)):
        (tmp_path / "tiny.smi").write_text(f"{known}\n")  # Too few for parts, which are not needed.
        assert main([*words[:4], "--train", str(tmp_path / "tiny.smi"), *words[-2:]]) == 0
        assert rows_of(judged)[1]["own.smi"]["novel"] == novel
    for bad, message in (
        (["generate", "--dataset", data, "--kernel", "emd"], "--kernel is not for molecules"),
        (["evaluate", "missing.smi", "--reference", data], "no file missing.smi of samples"),
        (["evaluate", str(out / "samples-graphvae.npz"), "--reference", data], f"use {out / 'samples-graphvae.smi'}"),
        (["evaluate", str(tmp_path), "--reference", data], "has no samples-METHOD.smi; give a file of SMILES"),
        (["evaluate", "missing.smi", "--reference", f"{data}:train"], "--reference must be test molecules"),
        (["generate", "--dataset", data, "--max-atoms", "0"], "--max-atoms must be positive, got 0"),
    ):
        assert main(bad) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Molecules of four types of atoms, the same with sulfur for nitrogen, and what `generate` makes of the former."""
    pytest.importorskip("rdkit")
    pytest.importorskip("zuko")
    tmp_path = tmp_path_factory.mktemp("chains")
    rows = [a + "C" * n + b for n in range(1, 4) for a in "CNO" for b in ("", "F", "=O", "(C)C", "C=C")]
    (tmp_path / "set.smi").write_text("\n".join(rows))
    (tmp_path / "other.smi").write_text("\n".join(rows).replace("N", "S"))
    words = ["--dataset", str(tmp_path / "set.smi"), "--steps", "6", "--num-graphs", "20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert main(["generate", *words, "--out", str(tmp_path / "out")]) == 0
        yield tmp_path


def test_a_saved_model_of_molecules_is_drawn_from_as_generate_did(chains, capsys):
    """With its own alphabet, whatever that of the reference, and decoded as published."""
    before = rows_of(chains / "out" / "result.json")[1]
    assert main(["generate", "--dataset", str(chains / "set.smi"), "--steps", "1", "--num-graphs", "5"]) == 0
    printed = capsys.readouterr().out
    assert "graphvae: each latent is decoded to its likeliest graph, its nodes joined by" in printed
    assert "one-shot: each latent is decoded to its likeliest graph." in printed
    assert "nats:" not in printed
    assert "KL: nats per test graph" in printed
    json_ = ["--json", str(chains / "rows.json"), "--num-graphs", "20"]
    for method in ("graphvae", "one-shot"):
        folder = chains / "out" / f"model-{method}"
        for reference in ("set.smi", "other.smi"):
            assert main(["evaluate", str(folder), "--reference", str(chains / reference), *json_]) == 0
            own = rows_of(chains / "rows.json")[1][folder.name]
            for name in ("sanitised", "valid", "unique"):
                assert own[name] == before[method][name]
            assert ("spanning tree" in capsys.readouterr().out) == (method == "graphvae")
    words = ["evaluate", str(chains / "out" / "model-graphvae"), "--reference", str(chains / "set.smi"), *json_]
    assert main([*words, "--most-likely"]) == 0  # As generate did, and so with the tree.
    assert "spanning tree" in capsys.readouterr().out
    assert rows_of(chains / "rows.json")[1]["model-graphvae"]["valid"] == before["graphvae"]["valid"]
    assert main([*words, "--no-most-likely"]) == 0
    assert "model-graphvae: a graph is drawn for each latent." in capsys.readouterr().out


def test_a_model_that_says_nothing_of_its_types(chains, tmp_path, capsys):
    folder = shutil.copytree(chains / "out" / "model-graphvae", tmp_path / "model-graphvae")
    (folder / "decoding.json").write_text("{}")
    words = ["evaluate", str(folder), "--num-graphs", "9", "--reference"]
    assert main([*words, str(chains / "set.smi")]) == 2
    assert "decoding.json is not what graphvae generate writes beside a model" in capsys.readouterr().err
    (folder / "decoding.json").unlink()
    assert main([*words, str(chains / "set.smi")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "types are taken for those of the reference, C, N, O, F; single, double, triple." in printed
    (chains / "few.smi").write_text("\n".join("C" * length + "O" for length in range(1, 9)))
    assert main([*words, str(chains / "few.smi")]) == 2
    assert "has no decoding.json that says what types of nodes and edges stand for" in capsys.readouterr().err


def test_files_of_molecules_have_a_row_each_and_typed_graphs_lose_types_aloud(chains, capsys):
    before = rows_of(chains / "out" / "result.json")[1]
    words = ["evaluate", str(chains / "out"), "--reference", str(chains / "set.smi")]
    assert main([*words, "--json", str(chains / "rows.json")]) == 0
    after = rows_of(chains / "rows.json")[1]
    for method in ("graphvae", "one-shot"):
        assert after[f"samples-{method}.smi"]["vun"] == before[method]["vun"]
    assert "spanning tree" not in capsys.readouterr().out.split("samples-one-shot.smi", 1)[1]
    assert main(["evaluate", str(chains / "out" / "samples-one-shot.npz"), "--reference", "atlas-5"]) == 0
    note = "types of nodes and edges are left out, because the reference is judged by its edges alone."
    assert f"samples-one-shot.npz: {note}" in " ".join(capsys.readouterr().out.split())
    folder = chains / "out" / "model-graphvae"
    assert main(["evaluate", str(folder), "--reference", "atlas-5", "--json", str(chains / "rows.json")]) == 0
    assert rows_of(chains / "rows.json")[1]["model-graphvae"]["valid"] == 1  # Connected, by a spanning tree.
    assert f"model-graphvae: {note}" in " ".join(capsys.readouterr().out.split())


def test_both_commands_have_the_same_training_molecules(tmp_path, monkeypatch):
    """Whatever the seed and the limit of atoms: the training set, given as samples, is known."""
    pytest.importorskip("rdkit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = tmp_path / "set.smi"
    data.write_text("\n".join("C" * length + end for length in range(1, 31) for end in ("", "O", "N", "F")))
    for most in (None, 12):
        known = MOLECULES.task(
            argparse.Namespace(**OPTIONS, dataset=str(data), max_atoms=most, seed=1)
        ).data.train_smiles
        (tmp_path / "known.smi").write_text("\n".join(known))
        for limit in ([], ["--max-atoms", "25"]):
            words = ["evaluate", str(tmp_path / "known.smi"), "--reference", str(data), "--seed", "7", *limit]
            assert main([*words, "--json", str(tmp_path / "rows.json")]) == 0
            assert rows_of(tmp_path / "rows.json")[1]["known.smi"]["novel"] == 0


def test_pictures_say_what_they_leave_out(tmp_path, monkeypatch):
    """Test molecules are not the first of the file; nothing is said of red edges where there are none."""
    pytest.importorskip("rdkit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seen = []
    for name in ("generated_molecules", "generated_graphs"):
        monkeypatch.setattr(plots, name, lambda sets, path, *rest, **named: seen.append((sets, *rest, named)))
    (tmp_path / "set.smi").write_text("\n".join("C" * length for length in range(1, 200)))
    options = argparse.Namespace(**OPTIONS, dataset=str(tmp_path / "set.smi"), max_atoms=200)
    task = MOLECULES.task(options)
    read = from_smiles(["CC", "C", "CC"], task.data.alphabet)
    MOLECULES.draw(task, {"copy": read.graphs}, tmp_path)
    sets, _, title, _ = seen.pop()
    assert sets["copy\nvalid: 3 of 3\ndifferent: 2"] == ["CC", "C"]
    assert "the others are not shown" in title
    first = sets["set, test"]
    assert set(first) < set(task.data.test_smiles)
    assert first != task.data.test_smiles[: len(first)]
    graphs = GRAPHS.task(argparse.Namespace(**OPTIONS, dataset="atlas-4", max_atoms=None))
    two = graphs_from([nx.empty_graph(2)])
    for samples, title in ((graphs.train[:6], ""), (two, "red edges: not connected")):
        GRAPHS.draw(graphs, {"copy": samples}, tmp_path)
        assert seen.pop()[1]["title"] == title


def test_a_folder_of_samples_has_a_row_for_each_method(made, tmp_path, capsys):
    assert main(["evaluate", str(made), "--reference", "atlas-5", "--json", str(tmp_path / "rows.json")]) == 0
    _, rows = rows_of(tmp_path / "rows.json")
    assert list(rows) == ["train set", "train set copied", *(f"samples-{method}.npz" for method in METHODS)]
    assert rows["samples-erdos-renyi.npz"]["num_graphs"] == 16
    assert "16 graphs in each file" in capsys.readouterr().out
    write_graph6(tmp_path / "one.g6", atlas(3))
    write_graph6(tmp_path / "two.g6", atlas(3))
    assert main(["evaluate", str(tmp_path), "--reference", "atlas-5", "--json", str(tmp_path / "rows.json")]) == 0
    assert rows_of(tmp_path / "rows.json")[1][tmp_path.name]["num_graphs"] == 6  # A folder of anybody's is one set.


def test_files_of_an_earlier_run_are_removed_when_asked_for(tmp_path, capsys):
    """All of that run, nothing else, and not before the new run is done."""
    out = tmp_path / "out"
    words = ["generate", "--dataset", "atlas-4", "--steps", "1", "--draws", "1", "--num-graphs", "4", "--out", str(out)]
    assert main([*words, "--method", "node-latents"]) == 0
    (out / "notes.txt").write_text("mine")
    (out / "model-node-latents" / "mine").write_text("mine")
    before = sorted(out.rglob("*"))
    assert main([*words, "--method", "erdos-renyi"]) == 2
    assert "has the result of another run (graphvae generate --dataset atlas-4" in capsys.readouterr().err
    assert main([*words, "--method", "erdos-renyi", "--kernel", "rbf", "--overwrite"]) == 2
    assert sorted(out.rglob("*")) == before
    (tmp_path / "precious").write_text("")  # What a list must not reach.
    result, _ = rows_of(out / "result.json")
    (out / "result.json").write_text(json.dumps(result | {"files": [*result["files"], "../precious"]}))
    assert main([*words, "--method", "erdos-renyi", "--overwrite"]) == 0
    assert (tmp_path / "precious").exists()
    names = ["graphs.png", "samples-erdos-renyi.g6", "samples-erdos-renyi.npz", "statistics.png"]
    assert rows_of(out / "result.json")[0]["files"] == names
    mine = ["model-node-latents", "model-node-latents/mine", "notes.txt", "result.json"]
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == sorted(names + mine)
    for content in ("{}", "[]", "nothing"):
        (out / "result.json").write_text(content)
        assert main([*words, "--overwrite"]) == 2
        assert "does not list the files of its run" in capsys.readouterr().err
