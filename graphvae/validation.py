"""What a user's graph must be, each rule with the message that names the place and the fix."""

from __future__ import annotations

from collections.abc import Sequence

import networkx
import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint
from torch_geometric.data import Batch, Data

from graphvae.sparse import entry

_SUPPORTS = {
    constraints.boolean: "0 or 1 (grey values: BernoulliFeatures(..., intensities=True))",
    constraints.unit_interval: "in [0, 1]",
    constraints.nonnegative_integer: "counts 0, 1, 2, ...",
}


def check_graph(graph: Data, directed: bool, alone: bool = True) -> tuple[Tensor, Tensor | None]:
    """Checks features and edges of one graph or batch and returns its `edge_index` as int64, and its `edge_type`.

    Args:
        graph: A graph, or a PyG batch.
        directed: Allow edges without their reverse.
        alone: It will not be joined to others; features may then be sparse, if it is one graph.

    Raises:
        TypeError, ValueError: See `graphs.as_batch`.
    """
    ptr = getattr(graph, "ptr", None)
    check_features(graph.x, sparse=alone and (ptr is None or ptr.numel() <= 2))
    if not isinstance(graph.edge_index, Tensor):
        raise TypeError(f"'edge_index' must be a torch.Tensor, got {type(graph.edge_index).__name__}")
    num_nodes = int(graph.num_nodes or 0)
    if num_nodes < 1:
        raise ValueError(f"'num_nodes' must be at least 1, got {num_nodes}; drop empty graphs")
    if graph.x is not None and graph.x.size(0) != num_nodes:
        raise ValueError(f"'x' must have one row per node, got {graph.x.size(0)} rows for {num_nodes} nodes")
    if graph.x is not None and graph.x.device != graph.edge_index.device:
        devices = f"'x' on {graph.x.device} and 'edge_index' on {graph.edge_index.device}"
        raise ValueError(f"'graphs' must be on one device, got {devices}; use .to(device)")
    _check_rows(getattr(graph, "ptr", None), getattr(graph, "batch", None), num_nodes)
    edge_index = check_edges(graph.edge_index, num_nodes, directed)
    return edge_index, check_edge_types(getattr(graph, "edge_type", None), edge_index, num_nodes, directed)


def check_edge_types(
    edge_type: Tensor | None, edge_index: Tensor, num_nodes: int, directed: bool = False
) -> Tensor | None:
    """Checks the types of simple edges: whole numbers from 0, one a column, both directions alike unless `directed`."""
    if edge_type is None:
        return None
    if not isinstance(edge_type, Tensor) or edge_type.dtype != torch.int64:
        kind = edge_type.dtype if isinstance(edge_type, Tensor) else type(edge_type).__name__
        raise TypeError(f"'edge_type' must be an int64 tensor of types 0, 1, ..., got {kind}; use edge_type.long()")
    if edge_type.shape != edge_index.shape[1:] or bool((edge_type < 0).any()):
        found = f"shape {tuple(edge_type.shape)}" if edge_type.shape != edge_index.shape[1:] else int(edge_type.min())
        raise ValueError(f"'edge_type' must be ({edge_index.size(1)},), one type >= 0 a column, got {found}")
    if not directed:
        source, target = edge_index
        forth, back = (source * num_nodes + target).argsort(), (target * num_nodes + source).argsort()
        unlike = (edge_type[forth] != edge_type[back]).nonzero()
        if unlike.numel():
            ends = tuple(edge_index[:, forth[unlike[0, 0]]].tolist())
            raise ValueError(
                f"'edge_type' must be alike in both directions of an undirected edge, it differs for {ends}"
            )
    return edge_type


def _check_rows(ptr: Tensor | None, batch: Tensor | None, num_nodes: int) -> None:
    """Checks that the `ptr` and `batch` of a PyG batch say the same of all of its nodes."""
    remedy = "rebuild the batch with Batch.from_data_list"
    if ptr is None and batch is not None:
        raise ValueError(f"'graphs' must have 'ptr' beside 'batch', got none; {remedy}")
    if ptr is None:
        return
    sizes = ptr.diff()
    if int(ptr[0]) != 0 or int(ptr[-1]) != num_nodes or bool((sizes < 0).any()):
        raise ValueError(f"'ptr' must rise from 0 to {num_nodes} nodes, got {int(ptr[0])} to {int(ptr[-1])}; {remedy}")
    if bool((sizes == 0).any()):
        raise ValueError(f"'graphs' must have at least one node each, graph {int((sizes == 0).nonzero()[0])} has none")
    rows = torch.arange(sizes.numel(), device=ptr.device).repeat_interleave(sizes)
    if batch is not None and not torch.equal(batch, rows):
        raise ValueError(f"'batch' must give each node the graph that 'ptr' gives it, it does not; {remedy}")


def check_features(x: Tensor | None, sparse: bool = False) -> None:
    """Checks that `x` is None or `(N, F)`, floating point and finite; CSR matrices are let through if `sparse`."""
    if x is None:
        return
    if not isinstance(x, Tensor):
        raise TypeError(f"'x' must be a torch.Tensor, got {type(x).__name__}; use torch.as_tensor(x)")
    if x.layout != torch.strided and not (sparse and x.layout == torch.sparse_csr):
        rule = "dense or torch.sparse_csr" if sparse else "dense, except in one graph alone"
        remedy = "x.to_dense() or x.to_sparse_csr()" if sparse else "x.to_dense()"
        raise TypeError(f"'x' must be {rule}, got {x.layout}; use {remedy}")
    if not x.is_floating_point():
        raise TypeError(f"'x' must be floating point, got {x.dtype}; use x.float()")
    if x.dim() != 2:
        raise ValueError(f"'x' must be (num_nodes, num_features), got shape {tuple(x.shape)}")
    if x.layout == torch.sparse_csr:
        _check_csr(x)
    finite = (x.values() if x.layout == torch.sparse_csr else x).isfinite()
    if not bool(finite.all()):
        bad = (~finite).nonzero()
        node, feature = entry(x, int(bad[0])) if x.layout == torch.sparse_csr else bad[0].tolist()
        raise ValueError(f"'x' must be finite, got {bad.size(0)} NaN or infinite values, first at x[{node}, {feature}]")


def _check_csr(x: Tensor) -> None:
    """Checks what PyTorch leaves unchecked when a CSR matrix is made, and a product would read memory by."""
    if x.requires_grad:
        raise ValueError("'x' must not require a gradient if it is sparse; use x.detach()")
    try:
        torch.sparse_csr_tensor(x.crow_indices(), x.col_indices(), x.values(), x.shape, check_invariants=True)
    except RuntimeError as error:
        raise ValueError(
            f"'x' must be a valid CSR matrix with sorted columns; {' '.join(str(error).split())}"
        ) from None


def check_positive(**numbers: int | None) -> None:
    """Checks counts given by name, None for one that was left out.

    Raises:
        TypeError: One is no integer.
        ValueError: One is not positive.
    """
    for name, number in numbers.items():
        if number is not None and _integer(name, number) < 1:
            raise ValueError(f"'{name}' must be positive, got {number}")


def check_not_negative(**numbers: int) -> None:
    """Checks counts given by name, of which zero is one.

    Raises:
        TypeError: One is no integer.
        ValueError: One is negative.
    """
    for name, number in numbers.items():
        if _integer(name, number) < 0:
            raise ValueError(f"'{name}' must not be negative, got {number}")


def _integer(name: str, number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
        raise TypeError(f"'{name}' must be an integer, got {number!r}")
    return int(number)


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
    reverse = target * num_nodes + source
    if directed or torch.equal(reverse.sort().values, keys):
        return
    missing = edge_index[:, ~torch.isin(reverse, keys)]
    raise ValueError(
        f"'edge_index' must hold both directions of an undirected edge, got {missing.size(1)} without their "
        f"reverse, first {tuple(missing[:, 0].tolist())}; use torch_geometric.utils.to_undirected"
    )


def check_collation(graphs: Sequence[Data], directed: bool = True) -> list[Data]:
    """Checks a list of graphs and returns them as PyG can collate them: no more than `as_batch` keeps.

    Raises:
        TypeError, ValueError: See `graphs.as_batch`; the message names the graph.
    """
    if not graphs:
        raise ValueError("'graphs' must hold at least one graph, got an empty list")
    checked = []
    for position, graph in enumerate(graphs):
        if not isinstance(graph, Data):
            hint = "; see torch_geometric.utils.from_networkx" if isinstance(graph, networkx.Graph) else ""
            raise TypeError(f"'graphs[{position}]' must be a PyG Data, got {type(graph).__name__}{hint}")
        if isinstance(graph, Batch):
            raise TypeError(f"'graphs[{position}]' must be one graph, got a PyG Batch; use its to_data_list()")
        try:
            edge_index, edge_type = check_graph(graph, directed, alone=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"'graphs[{position}]': {error}") from None
        _check_alike(graphs[0].x, graph.x, position)
        checked.append(Data(x=graph.x, edge_index=edge_index, num_nodes=graph.num_nodes))
        if edge_type is not None:
            checked[-1].edge_type = edge_type
    return _typed_alike(checked)


def _typed_alike(graphs: list[Data]) -> list[Data]:
    """Checks that all graphs with edges have types or none; those without edges get as many types."""
    typed = [graph for graph in graphs if "edge_type" in graph]
    if not typed:
        return graphs
    for position, graph in enumerate(graphs):
        if "edge_type" not in graph and graph.edge_index.numel():
            raise ValueError(f"'graphs' must all have 'edge_type' or none, graph {position} has none and others have")
        if "edge_type" not in graph:
            graph.edge_type = typed[0].edge_type.new_empty(0)
    return graphs


def _check_alike(first: Tensor | None, x: Tensor | None, position: int) -> None:
    """Checks that the features of graph `position` can be joined to those of graph 0."""
    if (x is None) != (first is None):
        lacks, has = (position, 0) if x is None else (0, position)
        raise ValueError(f"'graphs' must all have features 'x' or none, graph {lacks} has none and graph {has} has")
    if x is not None and first is not None and x.size(1) != first.size(1):
        widths = f"{first.size(1)} in graph 0 and {x.size(1)} in graph {position}"
        raise ValueError(f"'graphs' must have features 'x' of one width, got {widths}")


def check_types(edge_type: Tensor | None, num_types: int) -> None:
    """Checks the types of edges `(E,)` for a model of `num_types`, if it is one."""
    if num_types and edge_type is None:
        raise ValueError(f"'graphs' must have 'edge_type', int64 in 0 to {num_types - 1}, for a model of typed edges")
    if num_types and edge_type is not None and edge_type.numel() and int(edge_type.max()) >= num_types:
        raise ValueError(
            f"'edge_type' must be in 0 to {num_types - 1}, as the model has it, got {int(edge_type.max())}"
        )


def check_support(x: Tensor, columns: int, support: Constraint, user: str) -> None:
    """Checks that features, dense or CSR, have as many columns as a model and values that its `user` of them takes."""
    if x.size(1) != columns:
        raise ValueError(f"'x' must have the model's {columns} features, got {x.size(1)}")
    outside = _first_outside(support, x)
    if outside is not None:
        rule = _SUPPORTS.get(support, str(support).removesuffix("()"))
        raise ValueError(f"'x' must be {rule} for {user}, got {outside}")


def _first_outside(support: Constraint, x: Tensor) -> str | None:
    """The first value of dense or CSR features that is not in the support, with its place."""
    sparse = x.layout == torch.sparse_csr
    if sparse and support.event_dim == 0 and bool(support.check(x.values().new_zeros(()))):
        outside = (~support.check(x.values())).nonzero()
        return f"x{list(entry(x, int(outside[0])))} = {x.values()[outside[0]].item()}" if outside.numel() else None
    dense = x.to_dense()
    outside = (~support.check(dense)).nonzero()
    return f"x{outside[0].tolist()} = {dense[tuple(outside[0])].tolist()}" if outside.numel() else None
