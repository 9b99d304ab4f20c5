import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.sparse import csr_matrix

from conftest import random_graph
from graphvae.cli import main
from graphvae.datasets import LinkSplit, standard_library
from graphvae.recipes import link_prediction


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(link_prediction, "EPOCHS", 4)


def test_demo_ends_in_a_table_a_picture_and_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--json", "result.json"]) == 0
    printed = capsys.readouterr().out
    assert standard_library().fingerprint in printed
    assert "not a benchmark" in printed
    for method in link_prediction.METHODS:
        assert method in printed
    picture = tmp_path / "graphvae-demo" / "link-prediction.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    assert len(LinkSplit.load(tmp_path / "graphvae-demo" / "split-1.safetensors").test_edges.T) == 190
    assert json.loads((tmp_path / "result.json").read_text())["protocol"]["fingerprint"].startswith("stdlib-imports")


def test_json_has_the_promised_fields(tmp_path, capsys):
    out = tmp_path / "deep" / "result.json"
    arguments = ["link-prediction", "--dataset", "stdlib-imports", "--splits", "2", "--ratio", "70/10/20"]
    assert main([*arguments, "--method", "floor", "--method", "vgae", "--seed", "3", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert {"command", "protocol", "versions", "commit", "seed", "rows"} <= result.keys()
    assert result["command"].startswith("graphvae link-prediction --dataset stdlib-imports")
    assert result["versions"]["torch"] == torch.__version__
    assert result["seed"] == 3
    assert [row["method"] for row in result["rows"]] == ["floor", "vgae"]
    names = ["auc", "ap", "hits@20", "hits@50", "hits@100", "mrr", "ece", "nats_per_pair", "seconds", "peak_mib"]
    for row in result["rows"]:
        assert set(names) <= row.keys()
        assert len(row["per_split"]) == 2
        assert 0 < row["auc"]["mean"] <= 1
    assert capsys.readouterr().out.count("±") >= 8


def test_every_method_runs_on_the_same_splits(tmp_path):
    folders = [tmp_path / name for name in ("first", "second")]
    for folder, method in zip(folders, ("floor", "erdos-renyi"), strict=True):
        words = ["link-prediction", "--dataset", "stdlib-imports", "--splits", "1", "--method", method]
        assert main([*words, "--out", str(folder)]) == 0
    first, second = (load_file(folder / "split-0.safetensors") for folder in folders)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "nosuch"], "unknown data set 'nosuch': use cora"),
        (["--dataset", "missing.npz"], "no file missing.npz"),
        (["--dataset", "stdlib-imports", "--splits", "0"], "--splits must be positive, got 0"),
        (["--dataset", "stdlib-imports", "--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, got tpu"),
        (["--dataset", "stdlib-imports", "--out", "FILE/x"], "cannot write to the folder FILE/x"),
        (["--dataset", "stdlib-imports", "--json", "FILE/x.json"], "cannot write to the folder FILE"),
    ],
)
def test_bad_input_is_one_line_and_status_two(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("in the way")
    assert main(["link-prediction", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"graphvae: error: {message}")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def npz_of(graph, path):
    once = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]].numpy()
    x = csr_matrix(graph.x.numpy())
    arrays = {"num_nodes": graph.num_nodes, "edge_index": once, "y": np.zeros(graph.num_nodes, dtype=int)}
    features = {"x_shape": x.shape, "x_indptr": x.indptr, "x_indices": x.indices, "x_data": x.data}
    np.savez(path, **arrays, **features)
    return str(path)


def test_a_file_of_ones_own_with_real_valued_features(tmp_path, capsys):
    path = npz_of(random_graph(60, 0.2, seed=1), tmp_path / "mine.npz")
    out = tmp_path / "result"
    assert main(["link-prediction", "--dataset", path, "--splits", "1", "--out", str(out)]) == 0
    assert "vgae-elbo" in capsys.readouterr().out
    assert json.loads((out / "result.json").read_text())["protocol"]["nodes"] == 60
    assert (out / "link-prediction.png").exists()


@pytest.mark.parametrize(
    ("nodes", "probability", "message"),
    [
        (8, 0.3, "'graph' must have enough edges to hold out 5 % and 10 %, got"),
        (1, 0.0, "'graph' must have enough edges to hold out 5 % and 10 %, got 0 edges"),
        (30, 1.0, "'graph' must have 64 pairs of nodes that are not joined to hold out, got 0"),
    ],
)
def test_a_graph_that_cannot_be_split_is_one_line(nodes, probability, message, tmp_path, capsys):
    path = npz_of(random_graph(nodes, probability, seed=1), tmp_path / "mine.npz")
    assert main(["link-prediction", "--dataset", path, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"graphvae: error: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_named(capsys):
    assert main(["link-prediction", "--dataset", "stdlib-imports", "--device", "cuda"]) == 2
    assert "PyTorch finds no CUDA device; use --device cpu" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["link-prediction"], ["link-prediction", "--dataset", "x", "--ratio", "1/2"]]
)
def test_usage_errors_have_status_two(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: graphvae" in capsys.readouterr().err


def test_it_runs_as_a_module():
    result = subprocess.run([sys.executable, "-m", "graphvae", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("graphvae ")
