"""Vectors of your own: csv, npy and npz files."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from graphvae.datasets.folders import read_arrays

LABELS = ("label", "class", "target")
Array = np.ndarray[Any, Any]
_LARGEST = float(np.finfo(np.float32).max)


class Table(NamedTuple):
    """What a file holds: vectors or images, and what it says of labels and of a part for testing."""

    x: Array
    labels: Array | None = None
    test: Array | None = None
    test_labels: Array | None = None


def read_table(path: Path) -> Table:
    """Reads a csv, npy or npz file; see `vectors` for what it may hold.

    Raises:
        ValueError: It is missing, malformed, or pickled.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}; give the path of a csv, npy or npz file")
    readers = {".csv": _read_csv, ".npy": _read_npy, ".npz": _read_npz}
    return readers[path.suffix.lower()](path)


def _read_csv(path: Path) -> Table:
    try:
        # A blank line stays in the count of the rows, so that a message names the line an editor shows.
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(number, cells) for number, cells in enumerate(csv.reader(file), 1) if cells]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be text with values apart by commas ({error})") from error
    if not lines:
        raise ValueError(f"{path} is empty; it must hold a vector in each row, its values apart by commas")
    header = [] if any(_is_number(cell) for cell in lines[0][1]) else lines.pop(0)[1]
    labelled = bool(header) and header[-1].strip().lower() in LABELS
    width = len(header or lines[0][1])
    if width - labelled < 2:
        raise ValueError(f"{path} must have at least two columns of numbers, apart by commas, got {width - labelled}")
    for number, cells in lines:
        if len(cells) != width:
            raise ValueError(f"{path}, row {number}: must have {width} values as the first row has, got {len(cells)}")
    if not lines:
        raise ValueError(f"{path} must hold a vector in each row below the names, it has no more rows")
    blank = [number for number, cells in lines if labelled and not cells[-1].strip()]
    if blank:
        raise ValueError(f"{path}, row {blank[0]}, column {width}: must have a label, the cell is empty")
    columns = width - labelled
    values = [[_number(path, number, column, cells) for column in range(columns)] for number, cells in lines]
    return Table(np.array(values, np.float32), np.array([cells[-1] for _, cells in lines]) if labelled else None)


def _number(path: Path, row: int, column: int, cells: list[str]) -> float:
    value = float(cells[column]) if _is_number(cells[column]) else math.nan
    if not abs(value) <= _LARGEST:
        raise ValueError(f"{path}, row {row}, column {column + 1}: must be a finite number, got '{cells[column]}'")
    return value


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_npy(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            return Table(np.lib.format.read_array(file, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        if "Object arrays" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are never loaded; save a plain array") from error
        raise ValueError(f"{path} is damaged or not an npy file ({error})") from error


def _read_npz(path: Path) -> Table:
    names = ("x", "y", "train", "test", "train_labels", "test_labels")
    arrays = read_arrays(path, (), optional=names)
    with np.load(path, allow_pickle=False) as stored:
        found = sorted(stored.files)
    if set(found) in ({"x"}, {"x", "y"}):
        return Table(arrays["x"], arrays.get("y"))
    if {"train", "test"} <= set(found) <= set(names[2:]):
        return Table(*(arrays.get(name) for name in ("train", "train_labels", "test", "test_labels")))  # type: ignore[arg-type]
    raise ValueError(
        f"{path} must hold 'x' and perhaps 'y', or 'train', 'test' and perhaps 'train_labels', 'test_labels', got "
        f"{', '.join(found) or 'nothing'}"
    )
