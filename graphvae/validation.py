"""What a user's graph must be, each rule with the message that names the place and the fix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data


def check_graph(graph: Data, directed: bool) -> Tensor:
    """Checks features and edges of one graph or batch and returns its `edge_index` as int64.

    Raises:
        TypeError, ValueError: See `graphs.as_batch`.
    """
    check_features(graph.x)
    num_nodes = int(graph.num_nodes or 0)
    if num_nodes == 0:
        raise ValueError("'graphs' must have at least one node each, got a graph with none")
    if graph.x is not None and graph.x.size(0) != num_nodes:
        raise ValueError(f"'x' must have one row per node, got {graph.x.size(0)} rows for {num_nodes} nodes")
    return check_edges(graph.edge_index, num_nodes, directed)


def check_features(x: Tensor | None) -> None:
    """Checks that `x` is None or `(N, F)`, floating point and finite."""
    if x is None:
        return
    if not isinstance(x, Tensor):
        raise TypeError(f"'x' must be a torch.Tensor, got {type(x).__name__}; use torch.as_tensor(x)")
    if not x.is_floating_point():
        raise TypeError(f"'x' must be floating point, got {x.dtype}; use x.float()")
    if x.dim() != 2:
        raise ValueError(f"'x' must be (num_nodes, num_features), got shape {tuple(x.shape)}")
    finite = x.isfinite()
    if not bool(finite.all()):
        bad = (~finite).nonzero()
        node, feature = bad[0].tolist()
        raise ValueError(f"'x' must be finite, got {bad.size(0)} NaN or infinite values, first at x[{node}, {feature}]")


def check_edges(edge_index: Tensor | None, num_nodes: int, directed: bool = False) -> Tensor:
    """Checks shape, type and range of an `edge_index`, and that its edges are simple; returns it as int64."""
    if not isinstance(edge_index, Tensor):
        raise TypeError(f"'edge_index' must be a torch.Tensor, got {type(edge_index).__name__}")
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        transposed = edge_index.dim() == 2 and edge_index.size(1) == 2
        hint = "; transpose it with .t()" if transposed else ""
        raise ValueError(f"'edge_index' must have shape (2, E), got {tuple(edge_index.shape)}{hint}")
    if edge_index.numel() == 0:
        return edge_index.long()
    if edge_index.is_floating_point() or edge_index.is_complex() or edge_index.dtype == torch.bool:
        raise TypeError(f"'edge_index' must hold int64 node numbers, got {edge_index.dtype}; use edge_index.long()")
    edge_index = edge_index.long()
    outside = (edge_index < 0) | (edge_index >= num_nodes)
    if bool(outside.any()):
        column = int(outside.any(0).nonzero()[0])
        ends = tuple(edge_index[:, column].tolist())
        raise ValueError(f"'edge_index' must hold nodes 0 to {num_nodes - 1}, got {ends} in column {column}")
    _check_simple(edge_index, num_nodes, directed)
    return edge_index


def _check_simple(edge_index: Tensor, num_nodes: int, directed: bool) -> None:
    source, target = edge_index
    loops = (source == target).nonzero()
    if loops.numel():
        raise ValueError(
            f"'edge_index' must have no self loops, got {loops.numel()}, first at node {int(source[loops[0]])}; "
            "use torch_geometric.utils.remove_self_loops"
        )
    keys = (source * num_nodes + target).sort().values
    repeated = (keys.diff() == 0).nonzero()
    if repeated.numel():
        key = int(keys[repeated[0]])
        raise ValueError(
            f"'edge_index' must have no duplicates, got {repeated.numel()}, first {divmod(key, num_nodes)}; "
            "use torch_geometric.utils.coalesce"
        )
    if directed:
        return
    missing = ~torch.isin(target * num_nodes + source, keys)
    if bool(missing.any()):
        column = int(missing.nonzero()[0])
        raise ValueError(
            f"'edge_index' must hold both directions of an undirected edge, got {int(missing.sum())} without their "
            f"reverse, first {tuple(edge_index[:, column].tolist())}; use torch_geometric.utils.to_undirected"
        )


def check_collation(graphs: Sequence[Data]) -> None:
    """Checks that a list of graphs can form one batch."""
    if not graphs:
        raise ValueError("'graphs' must hold at least one graph, got an empty list")
    for position, graph in enumerate(graphs):
        if not isinstance(graph, Data):
            raise TypeError(f"'graphs[{position}]' must be a PyG Data, got {type(graph).__name__}")
        if (graph.num_nodes or 0) == 0:
            raise ValueError(f"'graphs[{position}]' must have at least one node, got none; drop it")
        if (graph.x is None) != (graphs[0].x is None):
            lacks, has = (position, 0) if graph.x is None else (0, position)
            raise ValueError(f"'graphs' must all have features 'x' or none, graph {lacks} has none and graph {has} has")
        if graph.x is not None and graph.x.shape[1:] != graphs[0].x.shape[1:]:
            widths = f"{tuple(graphs[0].x.shape)} in graph 0 and {tuple(graph.x.shape)} in graph {position}"
            raise ValueError(f"'graphs' must have features 'x' of one width, got {widths}")
        edges = graph.edge_index
        local_maximum = int(edges.max()) if isinstance(edges, Tensor) and edges.numel() else -1
        if local_maximum >= int(graph.num_nodes or 0):
            raise ValueError(
                f"'graphs[{position}].edge_index' must hold nodes 0 to {int(graph.num_nodes or 0) - 1}, "
                f"got {local_maximum}"
            )
