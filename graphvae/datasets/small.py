"""Sets of small graphs by name: published benchmarks, networkx's atlas, random graphs of every kind, and files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import networkx as nx
import numpy as np
from torch_geometric.data import Data

from graphvae.datasets import communities, generators
from graphvae.datasets.draws import Seed
from graphvae.datasets.folders import data_root
from graphvae.datasets.graph_files import Stored, read_file
from graphvae.datasets.graph_lists import GraphSplits, graphs_from, parts_of, random_split

GraphGenerator: TypeAlias = Callable[[int, Seed], list[Data]]
PARTS = GraphSplits._fields
FILES = ("planar", "tree", "community_small", "grid")
PROCEDURAL: dict[str, GraphGenerator] = {
    "planar_procedural": generators.planar,
    "tree_procedural": generators.tree,
    "lobster": generators.lobster,
    "sbm": communities.sbm,
    "community": communities.community,
    "erdos_renyi": generators.erdos_renyi,
    "ego": generators.ego,
}
_ATLAS_SIZES = range(2, 8)
_SPLIT = (128, 32, 40)  # Of graphs that are drawn, as in the published benchmarks.


def small_graphs(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> GraphSplits:
    """A set of small graphs in its parts for training, validation and testing.

    Args:
        name: One of these, or the path of a file or folder.

            * planar, tree, community_small, grid: published benchmarks, from `NAME.npz` in `root/graphs` or `root`, as
              any other name is. Of community_small and grid most test graphs are isomorphic to one for training.
            * atlas: the 995 connected graphs of 2 to 7 nodes in networkx's atlas, nothing to download; atlas-2 to
              atlas-7 for those of at most as many nodes. No two are isomorphic, so that nothing leaks between parts.
            * planar-procedural, tree-procedural, lobster, sbm, community, erdos-renyi, ego: 128, 32 and 40 graphs
              drawn with a seed that belongs to the name, from `generators` and `communities`; nothing to download.
              They are for other numbers of graphs and other parameters.
            * An npz file with the arrays num_nodes (G,), edge_index (each undirected edge once, numbered within its
              graph), edge_ptr (G + 1,), and perhaps split (G,): 0 train, 1 validation, 2 test; x (N, F); edge_type
              (E,). `graph_files.write_graphs` writes it.
            * A g6 file (graph6, a graph on each line), or a folder of them.
            * A folder of edge lists, one file (.edges, .edgelist, .txt) for each graph: two names of nodes on a line,
              or one of a node without neighbours.

            What names no parts is split 64 : 16 : 20 at random, always alike. With `:train`, `:val` or `:test` at the
            end the other parts are left empty.
        root: Else GRAPHVAE_DATA, else the user's cache folder.

    Raises:
        ValueError: An unknown name, or a file that is missing or malformed.
    """
    base, part = without_part(os.fspath(name))
    graphs, split = _stored(base, root)
    split = random_split(len(graphs)) if split is None else split
    if part is not None:
        split = np.where(split == PARTS.index(part), split, -1)
    return parts_of(graphs, split)


def read_graphs(name: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> list[Data]:
    """All graphs of a set in the order of its file, whatever part they belong to; or one part, as `mine.npz:test`.

    Arguments and errors as for `small_graphs`. For samples, or sets that are not to be split.
    """
    base, part = without_part(os.fspath(name))
    if part is not None:
        return small_graphs(name, root)[PARTS.index(part)]
    return _stored(base, root)[0]


def oracle(name: str | os.PathLike[str]) -> GraphGenerator | None:
    """The distribution a set was drawn from, `(num_graphs, seed) -> graphs`; None where there is none, or not known.

    Nobody drew the atlas and the grids; the graphs of ego share one graph, so are not independent.
    """
    key = _key(without_part(os.fspath(name))[0])
    drawn = PROCEDURAL | {
        "planar": generators.planar,
        "tree": generators.tree,
        "community_small": communities.community_small,
    }
    return None if key == "ego" else drawn.get(key)


def atlas(max_nodes: int = 7, connected: bool = True) -> list[Data]:
    """All graphs of 2 to `max_nodes` nodes, one of each isomorphism class, from networkx's atlas.

    Args:
        max_nodes: At most 7.
        connected: Only those that are.

    References:
        Read & Wilson, "An atlas of graphs", 1998.
    """
    if max_nodes not in _ATLAS_SIZES:
        raise ValueError(f"'max_nodes' must be 2 to 7, the sizes of the graphs in the atlas, got {max_nodes}")
    graphs = (graph for graph in nx.graph_atlas_g() if 2 <= len(graph) <= max_nodes)
    return graphs_from(graph for graph in graphs if not connected or nx.is_connected(graph))


def without_part(name: str) -> tuple[str, str | None]:
    """A name or path, and the part that `NAME:train`, `NAME:val` or `NAME:test` asks for.

    Raises:
        ValueError: A file, and something else after the colon.
    """
    base, colon, part = name.rpartition(":")
    if colon and part in PARTS:
        return base, part
    if base.endswith((".npz", ".g6")):
        raise ValueError(f"the part of '{base}' must be {', '.join(PARTS)}, got '{part}'")
    return name, None


def _key(name: str) -> str:
    return name.lower().replace("-", "_")


def _stored(name: str, root: str | os.PathLike[str] | None) -> Stored:
    key = _key(name)
    if key in PROCEDURAL:
        # Not a small integer: a user's seed must not draw the training data again.
        rng = np.random.default_rng(list(key.encode()))
        return PROCEDURAL[key](sum(_SPLIT), rng), np.arange(3).repeat(_SPLIT)
    if key == "atlas" or key in {f"atlas_{size}" for size in _ATLAS_SIZES}:
        return atlas(int(key.removeprefix("atlas").lstrip("_") or 7)), None
    if name.endswith((".npz", ".g6")):
        places = [Path(name)]
    else:  # A folder last: one that happens to be called planar is not meant.
        file = f"{key if key in FILES else name}.npz"
        places = [data_root(root) / "graphs" / file, data_root(root) / file, Path(name)]
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise ValueError(_missing(name, key, places[0]))
    return read_file(path)


def _missing(name: str, key: str, place: Path) -> str:
    if place.suffix == ".g6":
        return f"no data set '{name}'; put a graph6 file, one graph on each line, at {place}"
    message = (
        f"no data set '{name}'; put an npz file of plain arrays at {place}, or name the folder that has it in the "
        "environment variable GRAPHVAE_DATA, or as 'root' (--root)"
    )
    if f"{key}_procedural" in PROCEDURAL:
        return f"{message}, or use {key}-procedural, which needs none"
    return message
