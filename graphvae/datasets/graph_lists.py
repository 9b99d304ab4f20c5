"""Lists of small graphs: from flat arrays, from networkx, and cut into parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch
from torch_geometric.data import Data

from graphvae.validation import check_collation

_SHARES = {"val": 16, "test": 20}  # Per cent; 128, 32 and 40 of 200, as in the published benchmarks.


class GraphSplits(NamedTuple):
    """Graphs for training, validation and testing; a part may be empty."""

    train: list[Data]
    val: list[Data]
    test: list[Data]


def graphs_from(graphs: Iterable[Data | nx.Graph]) -> list[Data]:
    """Checked graphs, from `Data` or from networkx graphs, whose structure alone is taken.

    Args:
        graphs: PyG's `Data`, of which `x`, `edge_index`, `edge_type` and `num_nodes` are kept; or undirected networkx
            graphs, whose nodes are numbered in the order in which the graph lists them, and whose attributes (of
            nodes, edges, and the graph) are ignored.

    Raises:
        TypeError, ValueError: Not an undirected simple graph, or no graph at all; the message names its place.
    """
    listed = [
        _from_networkx(graph, place) if isinstance(graph, nx.Graph) else graph for place, graph in enumerate(graphs)
    ]
    return check_collation(listed, directed=False)


def _from_networkx(graph: nx.Graph, place: int) -> Data:
    if graph.is_directed() or graph.is_multigraph():
        raise ValueError(
            f"'graphs[{place}]' must be an undirected graph without parallel edges, got {type(graph).__name__}; use "
            "networkx.Graph(graph)"
        )
    number = {node: k for k, node in enumerate(graph)}
    once = torch.tensor([(number[i], number[j]) for i, j in graph.edges]).long().reshape(-1, 2).T
    if bool((once[0] == once[1]).any()):
        raise ValueError(
            f"'graphs[{place}]' must have no self loops; use "
            "graph.remove_edges_from(list(networkx.selfloop_edges(graph)))"
        )
    once = once.sort(0).values
    return Data(edge_index=torch.cat([once, once.flip(0)], 1), num_nodes=len(number))


def cut(
    sizes: np.ndarray[Any, Any],
    once: np.ndarray[Any, Any],
    edge_ptr: np.ndarray[Any, Any],
    x: np.ndarray[Any, Any] | None = None,
    edge_type: np.ndarray[Any, Any] | None = None,
) -> list[Data]:
    """Graphs from flat arrays; nothing is checked.

    Args:
        sizes: `(G,)` nodes of each graph.
        once: `(2, E)` each undirected edge once, numbered within its graph, one graph after another.
        edge_ptr: `(G + 1,)` first column of each graph.
        x: `(N, F)` features of the nodes, or None.
        edge_type: `(E,)` types, or None.

    Returns:
        Graphs whose `edge_index` holds the edges as they are given, then all of them turned round.
    """
    edges = torch.from_numpy(np.stack([once, once[::-1]], 1).astype(np.int64))  # (2, 2, E)
    rows = None if x is None else torch.from_numpy(x.astype(np.float32)).split(sizes.clip(0).tolist())
    types = None if edge_type is None else torch.from_numpy(edge_type.astype(np.int64))
    graphs, bounds = [], edge_ptr.tolist()
    for g, size in enumerate(sizes.tolist()):
        span = slice(bounds[g], bounds[g + 1])
        graph = Data(edge_index=edges[:, :, span].flatten(1), num_nodes=size)
        if rows is not None:
            graph.x = rows[g]
        if types is not None:
            graph.edge_type = types[span].repeat(2)
        graphs.append(graph)
    return graphs


def joined(sizes: Iterable[int], edges: list[np.ndarray[Any, Any]]) -> list[Data]:
    """Graphs of given sizes, from one array `(2, E)` of edges for each, every undirected edge once."""
    ptr = np.cumsum([0, *(array.shape[1] for array in edges)])
    once = np.concatenate(edges, 1) if edges else np.empty((2, 0), dtype=np.int64)
    return cut(np.fromiter(sizes, np.int64), once, ptr)


def parts_of(graphs: list[Data], split: np.ndarray[Any, Any]) -> GraphSplits:
    """Graphs by the number of their part `(G,)`: 0 train, 1 validation, 2 test."""
    return GraphSplits(*([graphs[i] for i in np.flatnonzero(split == part)] for part in range(3)))


def random_split(num_graphs: int) -> np.ndarray[Any, Any]:
    """`(G,)` 0, 1 or 2: 64 % for training, 16 % for validation and 20 % for testing at random, always alike."""
    # Of numpy's generators only this one promises the same numbers in every version.
    order = np.random.RandomState(0).permutation(num_graphs)
    num_val, num_test = (num_graphs * share // 100 for share in _SHARES.values())
    split = np.zeros(num_graphs, dtype=np.int64)
    split[order[:num_test]] = 2
    split[order[num_test : num_test + num_val]] = 1
    return split
