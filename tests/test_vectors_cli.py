"""`graphvae vectors` and its figures."""

import json

import numpy as np
import pytest

from graphvae.cli import main
from graphvae.cli.figures import FIGURES
from graphvae.recipes import components, denoising, latent_space
from graphvae.recipes.denoising import Plan
from graphvae.recipes.vectors import METHODS


@pytest.fixture
def images(tmp_path):
    """Forty images of 4 x 5 pixels, in two classes, with parts for training and testing."""
    draw = np.random.default_rng(0)
    train, test = (draw.random((n, 20), dtype=np.float32) for n in (30, 10))
    path = tmp_path / "images.npz"
    stack = {"train": train.reshape(-1, 4, 5), "test": test.reshape(-1, 4, 5)}
    np.savez(path, **stack, train_labels=np.arange(30) % 2, test_labels=np.arange(10) % 2)
    return path


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(components, "EPOCHS", 20)
    monkeypatch.setattr(latent_space, "EPOCHS", (1, 2))
    for name in ("SPIRAL_PLAN", "DIGITS_PLAN"):
        monkeypatch.setattr(denoising, name, Plan(4, 1024, 1e-3))


def test_a_comparison_is_a_table_a_picture_and_json(images, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["vectors", "--dataset", str(images), "--latent", "3", "--steps", "20", "--seed", "1", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    assert [row["method"] for row in result["rows"]] == list(METHODS)
    assert result["seed"] == 1
    assert result["protocol"]["steps"] == 20
    for row in result["rows"]:
        assert row["latent"] == 3
        assert f"{row['squared_error']:.4g}" in printed
    assert (out / "vectors.png").read_bytes().startswith(b"\x89PNG")


def test_vectors_that_are_no_images_get_a_picture_of_errors(tmp_path, capsys):
    path = tmp_path / "table.csv"
    np.savetxt(path, np.random.default_rng(0).normal(size=(30, 5)), delimiter=",")
    words = ["vectors", "--dataset", str(path), "--method", "pca", "--out", str(tmp_path / "out")]
    assert main([*words, "--json", str(tmp_path / "pca.json")]) == 0
    assert json.loads((tmp_path / "pca.json").read_text())["rows"][0]["method"] == "pca"
    assert (tmp_path / "out" / "vectors.png").stat().st_size > 10_000
    assert main(["vectors", "--dataset", str(path), "--steps", "10"]) == 0
    assert "Left out, for values outside [0, 1]: logistic-pca." in capsys.readouterr().out
    assert main(["vectors", "--dataset", str(path), "--method", "logistic-pca"]) == 2
    assert main(["vectors", "figure", "components", "--dataset", str(path), "--out", str(tmp_path)]) == 2
    assert "table must be images to be drawn" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in FIGURES if name != "reconstructions"])
def test_every_figure_is_one_command(name, images, tmp_path, capsys):
    data = [] if FIGURES[name].dataset is None else ["--dataset", str(images)]
    assert main(["vectors", "figure", name, *data, "--out", str(tmp_path)]) == 0
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / f"{name}.json").read_text())["rows"]
    assert rows
    assert f"{name}.png" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["figure"], "expected 'figure NAME' with NAME one of components, "),
        (["figure", "digits"], "got figure digits"),
        (["picture", "components"], "got picture components"),
        (["figure", "components", "--method", "pca"], "are not for figures"),
        (["figure", "denoising-field", "--dataset", "digits"], "makes its own data"),
        (["--latent", "0"], "--latent must be positive, got 0"),
        (["--steps", "0"], "--steps must be positive, got 0"),
        (["--dataset", "nothing"], "nothing"),
        (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N, got tpu"),
    ],
)
def test_bad_input_is_one_line_and_status_two(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["vectors", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
