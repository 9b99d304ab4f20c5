"""Large attributed graphs: Planetoid and Coauthor through PyG's loaders, and npz files of plain arrays."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch_geometric.data import Data, Dataset
from torch_geometric.datasets import Coauthor, Planetoid

from graphvae.datasets.folders import both_directions, data_root, read_arrays
from graphvae.validation import check_graph

PLANETOID = {"cora": "Cora", "citeseer": "CiteSeer", "pubmed": "PubMed"}
_ARRAYS = ("num_nodes", "edge_index", "x_shape", "x_indptr", "x_indices", "x_data", "y")


def citation(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> Data:
    """A citation or co-authorship graph: undirected, without self loops, with `x`, `y` and `name`.

    Args:
        name: cora, citeseer, pubmed or coauthor-cs; or the path of an npz file with the arrays num_nodes, edge_index
            (each undirected edge once), x_shape, x_indptr, x_indices, x_data (empty for all ones), y.
        root: Folder that holds `Cora/raw` and so on, or `planetoid/` and `citation/` with them; else GRAPHVAE_DATA,
            else the user's cache. What is missing is downloaded there. Nothing else is written to it.

    Raises:
        ValueError: An unknown name, or data that is neither there nor can be downloaded.
    """
    name = os.fspath(name)
    key = name.lower().replace("_", "-")
    if key.endswith(".npz"):
        key, graph = Path(name).stem, read_npz(Path(name))
    elif key in PLANETOID:
        graph = _planetoid(PLANETOID[key], data_root(root))
    elif key == "coauthor-cs":
        graph = _coauthor_cs(data_root(root))
    else:
        known = ", ".join([*PLANETOID, "coauthor-cs"])
        raise ValueError(f"unknown data set '{name}': use {known}, or the path of an npz file")
    graph.name = key
    return graph


def read_npz(path: Path) -> Data:
    """Reads one attributed graph from an npz file of plain arrays (see `citation`).

    Raises:
        ValueError: The file is missing or malformed.
    """
    if not path.is_file():
        raise ValueError(f"no file {path}; give the path of an npz file")
    arrays = read_arrays(path, _ARRAYS)
    try:
        return _attributed(arrays)
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"{path}: {error}") from error


def _attributed(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Data:
    columns, data = arrays["x_indices"], arrays["x_data"]
    values = np.ones(len(columns), dtype=np.float32) if data.size == 0 else data.astype(np.float32)
    x = scipy.sparse.csr_matrix((values, columns, arrays["x_indptr"]), shape=tuple(arrays["x_shape"]))
    x.check_format(full_check=True)  # Without it a column out of range writes outside of the dense array.
    num_nodes, y = int(arrays["num_nodes"]), torch.from_numpy(arrays["y"].astype(np.int64))
    if y.shape != (num_nodes,):
        raise ValueError(f"'y' must be one label per node, got shape {tuple(y.shape)} for {num_nodes} nodes")
    edge_index = both_directions(arrays["edge_index"])
    graph = Data(x=torch.from_numpy(x.toarray()), edge_index=edge_index, y=y, num_nodes=num_nodes)
    check_graph(graph, directed=False)
    return graph


def _planetoid(name: str, root: Path) -> Data:
    folders = [root / name / "raw", root / "planetoid" / name / "raw"]
    files = [f"ind.{name.lower()}.{part}" for part in ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")]
    found = next((folder for folder in folders if all((folder / file).is_file() for file in files)), None)
    # PyG writes, and reads back as a pickle, a processed file beside the raw ones, and leaves folders where a download
    # failed: in a scratch folder, so that the user's holds raw files and nothing else.
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / name / "raw"
        if found is not None:
            shutil.copytree(found, raw, copy_function=shutil.copyfile)
        absent = f"put the Planetoid files {files[0]} ... {files[-1]} into {folders[0]}"
        hint = absent if found is None else f"the files in {found} are damaged"
        with redirect_stderr(StringIO()):
            graph = _load(lambda: Planetoid(scratch, name), name, hint)[0]
        if found is None:
            shutil.copytree(raw, folders[0], dirs_exist_ok=True)
    return Data(x=graph.x, edge_index=graph.edge_index, y=graph.y)


def _coauthor_cs(root: Path) -> Data:
    for path in (root / "citation" / "coauthor_cs.npz", root / "coauthor_cs.npz"):
        if path.is_file():
            return read_npz(path)
    hint = f"put coauthor_cs.npz into {root / 'citation'}"
    graph = _load(lambda: Coauthor(str(root / "coauthor"), "CS"), "coauthor-cs", hint)[0]
    return Data(x=graph.x, edge_index=graph.edge_index, y=graph.y)


def _load(load: Callable[[], Dataset], name: str, hint: str) -> Dataset:
    try:
        with redirect_stdout(sys.stderr):
            return load()
    except Exception as error:  # A download, a pickle or a parser may fail in any way.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"'{name}' cannot be loaded ({reason}); {hint}") from error
