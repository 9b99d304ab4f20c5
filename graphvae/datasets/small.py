"""Sets of small graphs, from npz files of plain arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import Data

from graphvae.datasets.folders import data_root, read_arrays

_ARRAYS = ("num_nodes", "edge_index", "edge_ptr", "split")


class GraphSplits(NamedTuple):
    """Graphs for training, validation and testing; a part may be empty."""

    train: list[Data]
    val: list[Data]
    test: list[Data]


def small_graphs(name: str, root: str | os.PathLike[str] | None = None) -> GraphSplits:
    """A set of small graphs without features: planar, tree, community_small, grid, or an npz file.

    Args:
        name: Of a file `NAME.npz` in `root` or `root/graphs`; or the path of an npz file with the arrays num_nodes
            (G,), edge_index (each undirected edge once, numbered within its graph), edge_ptr (G + 1,) and split (G,):
            0 train, 1 validation, 2 test.
        root: Else GRAPHVAE_DATA, else the user's cache folder.

    Raises:
        ValueError: The file is missing or malformed.
    """
    base = data_root(root)
    places = [Path(name)] if name.endswith(".npz") else [base / "graphs" / f"{name}.npz", base / f"{name}.npz"]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ValueError(f"no data set '{name}'; put it at {places[0]}")
    arrays = read_arrays(path, _ARRAYS)
    edges = torch.from_numpy(arrays["edge_index"].astype(np.int64))
    ptr = arrays["edge_ptr"]
    parts = GraphSplits([], [], [])
    for graph, (size, part) in enumerate(zip(arrays["num_nodes"], arrays["split"], strict=True)):
        once = edges[:, ptr[graph] : ptr[graph + 1]]
        parts[int(part)].append(Data(edge_index=torch.cat([once, once.flip(0)], 1), num_nodes=int(size)))
    return parts
