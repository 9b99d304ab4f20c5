"""Files of many graphs: npz of plain arrays, graph6, and folders of edge lists; what is written is read back.

What reads returns the graphs in the order of the file, and the number of the part of each, or None.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch_geometric.data import Data

from graphvae.collation import alike
from graphvae.datasets.folders import check_edge_array, read_arrays
from graphvae.datasets.graph6 import decoded, encoded
from graphvae.datasets.graph_lists import GraphSplits, cut, graphs_from, joined
from graphvae.graphs import Graphs, as_list

Array: TypeAlias = np.ndarray[Any, Any]
Stored: TypeAlias = tuple[list[Data], Array | None]
_ARRAYS, _OPTIONAL = ("num_nodes", "edge_index", "edge_ptr"), ("split", "x", "edge_type")
_EDGE_LISTS = (".edges", ".edgelist", ".txt")


def write_graphs(path: str | os.PathLike[str], graphs: Graphs | GraphSplits) -> None:
    """Writes graphs to an npz file of plain arrays, which `read_graphs` and `small_graphs` read.

    The arrays are num_nodes (G,), edge_index (2, E) with each undirected edge once and numbered within its graph,
    edge_ptr (G + 1,), and where the graphs have them x (N, F) float32 and edge_type (E,). Read back, `edge_index` holds
    the columns with i < j in the order they were given, then all of them turned round.

    Args:
        path: Ends in .npz; a file there is replaced, and a folder that is missing is made.
        graphs: Undirected; of parts (`GraphSplits`) it is kept who belongs to which, as split (G,): 0, 1 or 2.

    Raises:
        TypeError, ValueError: Another ending, or graphs that cannot be one data set.
    """
    path = _ending_in(".npz", path)
    arrays: dict[str, Array] = {}
    if isinstance(graphs, GraphSplits):
        arrays["split"] = np.arange(3, dtype=np.int8).repeat([len(part) for part in graphs])
    listed = _listed(graphs)
    edges = [graph.edge_index.cpu().numpy() for graph in listed]
    once = [array[0] < array[1] for array in edges]
    arrays["num_nodes"] = np.array([graph.num_nodes for graph in listed])
    arrays["edge_index"] = np.concatenate([array[:, kept] for array, kept in zip(edges, once, strict=True)], 1)
    arrays["edge_ptr"] = np.cumsum([0, *(kept.sum() for kept in once)])
    if listed[0].x is not None:
        arrays["x"] = torch.cat([graph.x for graph in listed]).float().cpu().numpy()
    if "edge_type" in listed[0]:
        types = [graph.edge_type for graph in listed]
        arrays["edge_type"] = np.concatenate([t.cpu().numpy()[kept] for t, kept in zip(types, once, strict=True)])
    _make_folder(path)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def write_graph6(path: str | os.PathLike[str], graphs: Graphs) -> None:
    """Writes the structure of graphs, not their features, as graph6: one graph a line, which many programs read.

    Args:
        path: Ends in .g6; a file there is replaced, and a folder that is missing is made.
        graphs: Undirected.

    Raises:
        TypeError, ValueError: Another ending, or no undirected graphs.
    """
    path = _ending_in(".g6", path)
    lines = (encoded(int(graph.num_nodes or 0), graph.edge_index.cpu().numpy()) for graph in _listed(graphs))
    content = b"".join(line + b"\n" for line in lines)
    _make_folder(path)
    path.write_bytes(content)


def _ending_in(suffix: str, path: str | os.PathLike[str]) -> Path:
    if Path(path).suffix != suffix:
        raise ValueError(f"'path' must end in {suffix}, got '{path}'")
    return Path(path)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"'path' must be in a folder, got '{path}' ({error.strerror})") from error


def _listed(graphs: Graphs | GraphSplits) -> list[Data]:
    return graphs_from(chain(*graphs) if isinstance(graphs, GraphSplits) else as_list(graphs))


def read_file(path: Path) -> Stored:
    """Graphs of an npz or g6 file, or of a folder of g6 files or else of edge lists.

    Raises:
        ValueError: It is malformed, or no such file or folder.
    """
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.is_dir():
        return _read_folder(path), None
    if path.suffix != ".g6":
        raise ValueError(f"{path} must be an npz or g6 file, or a folder of g6 files or of edge lists")
    return _checked(path, list(_graph6_of(path))), None


def _checked(path: Path, graphs: list[Data]) -> list[Data]:
    try:
        return graphs_from(graphs) if alike(graphs) is None else graphs
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_npz(path: Path) -> Stored:
    arrays = read_arrays(path, _ARRAYS, _OPTIONAL)
    try:
        _check_arrays(arrays)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    sizes, once, ptr = (arrays[name] for name in _ARRAYS)
    graphs = cut(sizes, once, ptr, arrays.get("x"), arrays.get("edge_type"))
    return _checked(path, graphs), arrays.get("split")


def _check_arrays(arrays: Mapping[str, Array]) -> None:
    sizes, once, ptr = (arrays[name] for name in _ARRAYS)
    check_edge_array(once)
    if sizes.ndim != 1 or not _whole(sizes):
        raise ValueError(f"'num_nodes' must be (G,) integers, got shape {sizes.shape} of {sizes.dtype}")
    split, x, types = (arrays.get(name) for name in _OPTIONAL)
    if split is not None and (split.shape != sizes.shape or not np.isin(split, (0, 1, 2)).all()):
        raise ValueError(f"'split' must hold 0, 1 or 2 for each of {sizes.size} graphs")
    if ptr.shape != (sizes.size + 1,) or not _whole(ptr):
        raise ValueError(f"'edge_ptr' must be {sizes.size + 1} integers, got shape {ptr.shape} of {ptr.dtype}")
    num_edges = once.shape[1]
    if (ptr[0], ptr[-1]) != (0, num_edges) or (np.diff(ptr.astype(np.int64)) < 0).any():
        raise ValueError(f"'edge_ptr' must rise from 0 to {num_edges} edges, got {ptr[0]} to {ptr[-1]}")
    num_nodes = int(sizes.clip(0).sum())
    if x is not None and (x.ndim != 2 or len(x) != num_nodes or not np.issubdtype(x.dtype, np.floating)):
        raise ValueError(f"'x' must be ({num_nodes}, F) floating point, got shape {x.shape} of {x.dtype}")
    if types is not None and (types.shape != (num_edges,) or not _whole(types)):
        raise ValueError(f"'edge_type' must be {num_edges} integers, got shape {types.shape} of {types.dtype}")
    if types is not None and (types < 0).any():
        raise ValueError(f"'edge_type' must not be negative, got {types.min()}")


def _whole(array: Array) -> bool:
    return np.issubdtype(array.dtype, np.integer) or array.size == 0


def _read_folder(path: Path) -> list[Data]:
    files = sorted(path.iterdir())
    packed = [file for file in files if file.suffix == ".g6"]
    if packed:
        return _checked(path, [graph for file in packed for graph in _graph6_of(file)])
    lists = [file for file in files if file.suffix in _EDGE_LISTS]
    if not lists:
        raise ValueError(f"{path} must hold .g6 files, or an edge list ({', '.join(_EDGE_LISTS)}) for each graph")
    return [_edge_list(file) for file in lists]


def _graph6_of(path: Path) -> Iterator[Data]:
    lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        line = line.strip().removeprefix(b">>graph6<<")  # networkx puts it before every graph.
        if not line:
            continue
        try:
            size, once = decoded(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        yield joined([size], [once])[0]


def _edge_list(path: Path) -> Data:
    """One graph: on each line the names of two joined nodes, or of one node without neighbours; `#` begins a comment.

    Names are separated by blanks or a comma; what follows two names is ignored. Nodes are numbered in the order of
    their names if all are whole numbers, else in the order of the file.
    """
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text, one edge on each line, got other bytes") from error
    rows = [row for row in (line.partition("#")[0].replace(",", " ").split()[:2] for line in lines) if row]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if all(name.isascii() and name.isdigit() for name in names):
        names.sort(key=int)
    number = {name: k for k, name in enumerate(names)}
    pairs = [(number[row[0]], number[row[1]]) for row in rows if len(row) == 2]
    once = np.sort(np.array(pairs, dtype=np.int64).reshape(-1, 2), 1).T
    if len(np.unique(once, axis=1).T) < len(pairs):
        raise ValueError(f"{path} must name each undirected edge once, got one twice")
    return _checked(path, joined([len(names)], [once]))[0]
