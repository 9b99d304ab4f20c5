"""Graphs as the library holds them: a checked PyG `Batch` that carries its `Layout`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, Dataset

from graphvae.collation import collated
from graphvae.layout import Layout
from graphvae.sparse import inherit, permuted_rows
from graphvae.validation import check_features, check_graph

Graphs: TypeAlias = Data | Batch | Sequence[Data]
_BLANK = Batch()  # To copy, in 4 µs: every call of `Batch()` inspects signatures and makes a class, 80 µs.


def as_batch(graphs: Graphs, directed: bool = False) -> Batch:
    """Checks a user's graphs and returns them as one PyG `Batch` that carries its `Layout` as `.layout`.

    A batch that this function made passes through unchecked. The input is left as it was. Only features, edges and
    their types are kept: other edge attributes and weights are not modelled.

    Args:
        graphs: One graph, a PyG `Batch`, a list of graphs or a PyG `Dataset`. `x` is `(N, F)` floating point, dense or,
            for one graph, `torch.sparse_csr`; `edge_index` is `(2, E)` int64 with both directions of every undirected
            edge present; `edge_type`, where there are types, `(E,)` int64 from 0, alike in both directions.
        directed: Allow edges without their reverse.

    Raises:
        TypeError: `graphs` or one of its tensors is of the wrong type.
        ValueError: An index out of range, a non-finite feature, a self loop, a duplicate edge, an edge without its
            reverse, an empty graph or list; the message names the place and the fix.
    """
    if isinstance(graphs, Batch) and has_layout(graphs) and (directed or not field(graphs, "directed")):
        return graphs
    if isinstance(graphs, (list, tuple, Dataset)):
        graphs = collated(graphs, directed)
    if not isinstance(graphs, Data):
        hint = "; vectors become graphs with graphvae.edgeless(x)" if isinstance(graphs, Tensor) else ""
        hint = "; a loader's graphs are list(loader.dataset)" if hasattr(graphs, "dataset") else hint
        raise TypeError(f"'graphs' must be a PyG Data, Batch or a list of Data, got {type(graphs).__name__}{hint}")
    edge_index, edge_type = check_graph(graphs, directed)
    num_nodes = int(graphs.num_nodes or 0)
    ptr = getattr(graphs, "ptr", None)
    layout = Layout.single(num_nodes, edge_index.device) if ptr is None else Layout(ptr, num_nodes)
    layout.one_row_each = layout.num_graphs == num_nodes  # None is empty.
    if layout.num_graphs > 1 and bool((layout.batch[edge_index[0]] != layout.batch[edge_index[1]]).any()):
        raise ValueError("'edge_index' must join nodes of one graph, an edge joins two graphs of the batch")
    return batch_of(graphs.x, edge_index, layout, directed, edge_type=edge_type)


def as_list(graphs: Graphs) -> list[Data]:
    """The graphs one by one, of which nothing is checked."""
    if isinstance(graphs, Batch):
        return graphs.to_data_list()
    return [graphs] if isinstance(graphs, Data) else list(graphs)


def field(graphs: Data, name: str) -> Any:
    """What a graph or batch holds under a name, or None: PyG's attributes take ten times as long."""
    return graphs._store._mapping.get(name)


def has_layout(graphs: Data) -> bool:
    """Whether `graphs` is a batch this library checked, and has not been resized since."""
    fields = graphs._store._mapping
    layout, x, num_nodes = fields.get("layout"), fields.get("x"), fields.get("num_nodes")
    rows = num_nodes if x is None else x.size(0)
    return isinstance(layout, Layout) and layout.num_rows == rows == num_nodes


def batch_of(
    x: Tensor | None,
    edge_index: Tensor,
    layout: Layout,
    directed: bool = False,
    edge_ptr: Tensor | None = None,
    edge_type: Tensor | None = None,
) -> Batch:
    """Makes a PyG `Batch` of tensors in batch numbering, without a list of `Data`; nothing is checked.

    Args:
        x: `(N, F)` node features, or None.
        edge_index: `(2, E)` in batch numbering, in any order.
        layout: Of the nodes.
        directed: Whether edges may lack their reverse.
        edge_ptr: `(B + 1,)` first column of each graph, if columns are sorted by graph; they are sorted if None.
        edge_type: `(E,)` type of each column of `edge_index`, or None.

    Returns:
        A batch with `x`, `edge_index`, `edge_type`, `batch`, `ptr`, `layout`, `directed`, for which `to_data_list()`
        works.
    """
    if edge_ptr is None:
        if layout.num_graphs > 1:
            columns = layout.batch[edge_index[0]].argsort(stable=True)
            edge_index = edge_index[:, columns]
            edge_type = None if edge_type is None else edge_type[columns]
        edge_ptr = _edge_ptr(edge_index, layout)
    slices, shifts = {"edge_index": edge_ptr}, {"edge_index": layout.ptr[:-1]}
    if x is not None:
        slices["x"], shifts["x"] = layout.ptr, torch.zeros_like(layout.ptr[:-1])
    batch = _assembled(x, edge_index, layout, directed, slices, shifts)
    if edge_type is not None:
        slices["edge_type"], shifts["edge_type"] = edge_ptr, torch.zeros_like(layout.ptr[:-1])
        batch._store._mapping["edge_type"] = edge_type
    return batch


def _assembled(
    x: Tensor | None,
    edge_index: Tensor,
    layout: Layout,
    directed: bool,
    slices: dict[str, Tensor],
    shifts: dict[str, Tensor],
) -> Batch:
    """A PyG `Batch` with what PyG needs to take it apart again: where graphs are cut, and what was added to indices.

    It is filled past PyG's constructor and attribute access, which take longer than gathering a small mini-batch.
    """
    batch = copy.copy(_BLANK)
    fields = {"edge_index": edge_index, "batch": layout.batch, "ptr": layout.ptr, "num_nodes": layout.num_rows}
    fields |= {} if x is None else {"x": x}
    batch._store._mapping.update(fields, layout=layout, directed=directed)
    kept = {"_num_graphs": layout.num_graphs, "_slice_dict": slices, "_inc_dict": shifts}
    vars(batch._store).update(kept, _num_nodes=layout.host_sizes)
    return batch


def edgeless(x: Tensor, check: bool = True) -> Batch:
    """Vectors as graphs: `(B, F)` rows become `B` graphs of one node and no edge.

    There are no pairs of nodes, so log p(A|Z) is 0 and every bound on graphs is the bound on vectors.

    Args:
        x: Floating point, at least one row.
        check: Look for NaN and infinity; not needed for rows of a tensor that was checked.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"'x' must be a torch.Tensor, got {type(x).__name__}; use torch.as_tensor(x)")
    if x.dim() != 2 or x.size(0) == 0 or not x.is_floating_point():
        hint = "" if x.is_floating_point() else "; use x.float()"
        found = f"{tuple(x.shape)} of {x.dtype}{hint}"
        raise ValueError(f"'x' must be a (B, F) floating-point tensor with B > 0, got {found}")
    if check:
        check_features(x)
    layout = Layout.singles(x.size(0), x.device)
    layout.batch = layout.ptr[:-1]
    none = torch.zeros_like(layout.ptr)
    slices, shifts = {"x": layout.ptr, "edge_index": none}, {"x": none, "edge_index": none}
    return _assembled(x, layout.ptr.new_empty(2, 0), layout, False, slices, shifts)


def with_features(graphs: Batch, x: Tensor) -> Batch:
    """A checked batch with other features `x`, of the shape and kind of its own; the rest is shared.

    What a model has checked of the batch counts for the new one: an encoder may be shown corrupted features that the
    likelihood, which is asked for the clean ones, gives no probability.
    """
    batch = copy.copy(graphs)
    batch._store._mapping["x"] = x
    return batch


class Selector:
    """Mini-batches of one checked batch, gathered from its tensors; what does not depend on the choice is kept.

    Which rows to gather is worked out on the host in numpy, whose calls cost a fraction of torch's for a few
    thousand numbers; so no device is waited for either.

    Args:
        graphs: From `as_batch`; not to be changed while the selector is in use.
    """

    def __init__(self, graphs: Batch) -> None:
        self.graphs = graphs
        self._checked_for = graphs.get("checked_for")  # What a model has checked of the whole holds of its parts.
        ptr = torch.stack([graphs.layout.ptr, _edge_ptr(graphs.edge_index, graphs.layout)]).cpu().numpy()
        # Nodes in the first row, columns of edge_index in the second.
        self._first, self._counts = ptr[:, :-1], np.diff(ptr)

    def __call__(self, ids: Sequence[int] | Tensor) -> Batch:
        """The graphs numbered `ids` `(b,)`, in this order, repeated where `ids` repeats."""
        graphs, device = self.graphs, self.graphs.edge_index.device
        chosen = ids.cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
        counts = self._counts[:, chosen]
        ptr = np.zeros((2, chosen.size + 1), dtype=np.int64)
        counts.cumsum(1, out=ptr[:, 1:])
        moves = self._first[:, chosen] - ptr[:, :-1]
        rows, columns = (moves[k].repeat(counts[k]) + np.arange(ptr[k, -1]) for k in (0, 1))
        nodes = _on(device, rows)
        x = None if graphs.x is None else graphs.x.index_select(0, nodes)
        chosen_columns = _on(device, columns)
        edge_index = graphs.edge_index.index_select(1, chosen_columns)
        edge_index -= _on(device, moves[0].repeat(counts[1]))
        edge_type = field(graphs, "edge_type")
        edge_type = None if edge_type is None else edge_type.index_select(0, chosen_columns)
        inherit(edge_index, graphs.edge_index, graphs.layout.num_rows, nodes)
        layout = Layout(_on(device, ptr[0]), rows.size)
        layout.one_row_each = rows.size == chosen.size  # None is empty.
        layout.host_sizes = counts[0].tolist()
        layout.batch = _on(device, np.arange(chosen.size).repeat(counts[0]))
        batch = batch_of(x, edge_index, layout, graphs.directed, _on(device, ptr[1]), edge_type)
        if self._checked_for is not None:
            batch.checked_for = self._checked_for
        return batch


def without_features(graphs: Batch, keep_types: bool = False) -> Batch:
    """A checked batch of the edges alone, or with their types."""
    edge_ptr = layout_of_edges(graphs).ptr
    edge_type = field(graphs, "edge_type") if keep_types else None
    return batch_of(None, graphs.edge_index, graphs.layout, graphs.directed, edge_ptr, edge_type)


def contents(graphs: Batch) -> list[Tensor]:
    """The tensors that tell one checked batch from another: features, edges, types, and which rows are whose."""
    edge_type = field(graphs, "edge_type")
    return [graphs.x, graphs.edge_index, graphs.layout.ptr, *([] if edge_type is None else [edge_type])]


def _on(device: torch.device, numbers: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(numbers).to(device, non_blocking=True)


def _edge_ptr(edge_index: Tensor, layout: Layout) -> Tensor:
    """`(B + 1,)` first column of each graph, for columns sorted by graph."""
    if layout.num_graphs == 1:
        return torch.tensor([0, edge_index.size(1)], device=edge_index.device)
    counts = torch.bincount(layout.batch[edge_index[0]], minlength=layout.num_graphs)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def permute(graphs: Batch, order: Tensor) -> Batch:
    """Relabels nodes: new node `k` is old node `order[k]`; `order` `(N,)` keeps every node in its graph."""
    nodes = torch.arange(graphs.layout.num_rows, device=order.device)
    graph_of = graphs.layout.batch
    if not torch.equal(order.sort().values, nodes) or not torch.equal(graph_of[order], graph_of):
        raise ValueError("'order' must be a permutation that keeps every node in its own graph")
    return relabelled(graphs, order[None])


def relabelled(graphs: Batch, orders: Tensor) -> Batch:
    """K relabelled copies of a checked batch as one batch of K·B graphs, copy after copy; nothing is checked.

    Args:
        graphs: With N nodes.
        orders: `(K, N)`; in copy k new node i is old node `orders[k, i]`, of the same graph.
    """
    shifts = graphs.layout.num_rows * torch.arange(len(orders), device=orders.device)
    names = (ranks(orders) + shifts[:, None])[:, graphs.edge_index]
    x = None if graphs.x is None else _rows_of_copies(graphs.x, orders)
    return _repeated(graphs, x, names.transpose(0, 1).flatten(1), len(orders))


def copies(graphs: Batch, times: int) -> Batch:
    """A checked batch `times` over as one batch of times·B graphs, copy after copy; features become dense."""
    if times == 1:
        return graphs
    num_nodes, num_edges = graphs.layout.num_rows, graphs.edge_index.size(1)
    nodes = torch.arange(num_nodes, device=graphs.edge_index.device)
    shifts = num_nodes * torch.arange(times, device=nodes.device).repeat_interleave(num_edges)
    edge_index = graphs.edge_index.repeat(1, times) + shifts
    inherit(edge_index, graphs.edge_index, num_nodes, nodes.repeat(times))
    x = None if graphs.x is None else graphs.x.to_dense().repeat(times, 1)
    return _repeated(graphs, x, edge_index, times)


def _repeated(graphs: Batch, x: Tensor | None, edge_index: Tensor, times: int) -> Batch:
    edge_ptr = layout_of_edges(graphs).repeated(times).ptr
    edge_type = field(graphs, "edge_type")
    edge_type = None if edge_type is None else edge_type.repeat(times)
    repeated = batch_of(x, edge_index, graphs.layout.repeated(times), graphs.directed, edge_ptr, edge_type)
    if graphs.get("checked_for") is not None:
        repeated.checked_for = graphs.checked_for
    return repeated


def ranks(orders: Tensor) -> Tensor:
    """The inverse permutations of `orders` `(K, N)`: the new number of each old node."""
    return torch.empty_like(orders).scatter_(
        1, orders, torch.arange(orders.size(1), device=orders.device).expand_as(orders)
    )


def _rows_of_copies(x: Tensor, orders: Tensor) -> Tensor:
    if len(orders) == 1:
        return permuted_rows(x, orders[0])
    return x.to_dense().index_select(0, orders.flatten())


def layout_of_edges(graphs: Batch) -> Layout:
    """Which graph each column of the `edge_index` of a checked batch belongs to: they are sorted by graph."""
    return Layout(_edge_ptr(graphs.edge_index, graphs.layout), graphs.edge_index.size(1))


def density(graphs: Graphs) -> float:
    """Share of the ordered pairs of different nodes within a graph that are joined: where an edge bias starts."""
    batch = as_batch(graphs, directed=True)
    pairs = int(batch.layout.num_pairs.sum())
    if pairs == 0:
        raise ValueError("'graphs' must have a graph of at least two nodes for a density to exist")
    return batch.edge_index.size(1) / (2 * pairs)
