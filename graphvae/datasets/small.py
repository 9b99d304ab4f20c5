"""Sets of small graphs, from npz files of plain arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch_geometric.data import Data

from graphvae.datasets.folders import both_directions, data_root, read_arrays
from graphvae.validation import check_collation

_ARRAYS = ("num_nodes", "edge_index", "edge_ptr", "split")


class GraphSplits(NamedTuple):
    """Graphs for training, validation and testing; a part may be empty."""

    train: list[Data]
    val: list[Data]
    test: list[Data]


def small_graphs(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> GraphSplits:
    """A set of small graphs without features: planar, tree, community_small, grid, or an npz file.

    Args:
        name: Of a file `NAME.npz` in `root` or `root/graphs`; or the path of an npz file with the arrays num_nodes
            (G,), edge_index (each undirected edge once, numbered within its graph), edge_ptr (G + 1,) and split (G,):
            0 train, 1 validation, 2 test.
        root: Else GRAPHVAE_DATA, else the user's cache folder.

    Raises:
        ValueError: The file is missing or malformed.
    """
    name, base = os.fspath(name), data_root(root)
    places = [Path(name)] if name.endswith(".npz") else [base / "graphs" / f"{name}.npz", base / f"{name}.npz"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(f"no data set '{name}'; put an npz file of plain arrays at {places[0]}")
    arrays = read_arrays(path, _ARRAYS)
    try:
        return _split_graphs(arrays)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _split_graphs(arrays: Mapping[str, np.ndarray[Any, Any]]) -> GraphSplits:
    sizes, once, ptr, split = (arrays[name] for name in _ARRAYS)
    edges = both_directions(once).view(2, 2, once.shape[-1])
    if split.shape != sizes.shape or not np.isin(split, (0, 1, 2)).all():
        raise ValueError(f"'split' must hold 0, 1 or 2 for each of {sizes.size} graphs")
    if ptr.shape != (sizes.size + 1,) or not np.issubdtype(ptr.dtype, np.integer):
        raise ValueError(f"'edge_ptr' must be {sizes.size + 1} integers, got shape {ptr.shape} of {ptr.dtype}")
    if (ptr[0], ptr[-1]) != (0, edges.size(2)) or (np.diff(ptr.astype(np.int64)) < 0).any():
        raise ValueError(f"'edge_ptr' must rise from 0 to {edges.size(2)} edges, got {ptr[0]} to {ptr[-1]}")
    graphs = [
        Data(edge_index=edges[:, :, start:end].flatten(1), num_nodes=int(size))
        for start, end, size in zip(ptr[:-1], ptr[1:], sizes, strict=True)
    ]
    check_collation(graphs, directed=False)
    return GraphSplits(*([graphs[i] for i in np.flatnonzero(split == part)] for part in range(3)))
