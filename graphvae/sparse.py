"""Products with sparse matrices that do not change during training: the propagation of a graph, a bag of words.

PyTorch's own product with a CSR matrix transposes the matrix again in every backward pass, which costs more than the
product. Here the transpose is computed once and remembered for as long as the matrix lives; so is the operator of an
`edge_index`. What is remembered is derived from one tensor alone and is made again when that tensor changes in place,
so that no result depends on it. (A change that PyTorch cannot see, through numpy or `.data`, is not noticed.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.weak import WeakTensorKeyDictionary

# Where PyTorch multiplies CSR matrices; elsewhere `propagate` adds up edge by edge.
_SPARSE_DEVICES = ("cpu", "cuda")
_HALF = (torch.float16, torch.bfloat16)


class _Memo:
    """Tensors made from a tensor, kept until it dies or it or they are changed; a value must not refer to its key."""

    def __init__(self) -> None:
        self._kept: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def __call__(self, source: Tensor, key: Hashable, make: Callable[[], Tensor | None]) -> Tensor | None:
        if source.is_inference():  # It does not count its changes.
            return make()
        state, made = self._kept.get(source, (None, {}))
        if state != _state(source):
            made = {}
            self._kept[source] = (_state(source), made)
        value, unchanged = made.get(key, (None, False))
        if unchanged is False or unchanged != _state(value):
            with torch.inference_mode(False), torch.no_grad():
                value = make()
            made[key] = (value, _state(value))
        return value


def _state(tensor: Tensor | None) -> tuple[Any, ...] | None:
    """What differs after a change in place, or after new contents by assignment to `.data`."""
    if tensor is None:
        return None
    stored = tensor.values() if tensor.layout == torch.sparse_csr else tensor
    return tensor._version, stored.data_ptr(), tensor.shape


_operators, _transposes = _Memo(), _Memo()
_origins: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, dense: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return _multiplied(matrix, dense)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, _multiplied(transposed(ctx.saved_tensors[0]), grad)


def _multiplied(matrix: Tensor, dense: Tensor) -> Tensor:
    factor = at_least_single(dense).contiguous()
    product = factor.new_empty(matrix.size(0), factor.size(1))
    with torch.autocast(dense.device.type, enabled=False):
        # With beta = 0 what is in `product` is ignored; `matrix @ factor` would fill it with zeros and copy it first.
        torch.addmm(product, at_least_single(matrix), factor, beta=0, out=product)
    return product.to(dense.dtype)


def at_least_single(values: Tensor) -> Tensor:
    """Half precision as float32: sums of thousands of terms stall in it."""
    return values.float() if values.dtype in _HALF else values


@torch.compiler.disable
def spmm(matrix: Tensor, dense: Tensor) -> Tensor:
    r"""The product \(M H\) of a sparse matrix with a dense one, differentiable once, with respect to H.

    Half precision is multiplied in float32. Under `torch.compile` it breaks the graph.

    Args:
        matrix: `(R, C)` in `torch.sparse_csr`, floating point, that needs no gradient.
        dense: `(C, D)`.

    Returns:
        `(R, D)`, of the type of `dense`.

    Raises:
        TypeError: `matrix` is not CSR.
        ValueError: `matrix` requires a gradient, or the shapes do not fit.
    """
    if matrix.layout != torch.sparse_csr:
        raise TypeError(f"'matrix' must be torch.sparse_csr, got {matrix.layout}; use .to_sparse_csr()")
    if matrix.requires_grad:
        raise ValueError("'matrix' must not require a gradient, a sparse matrix is given none; use .detach()")
    if matrix.dim() != 2 or dense.dim() != 2 or matrix.size(1) != dense.size(0):
        shapes = f"{tuple(matrix.shape)} and {tuple(dense.shape)}"
        raise ValueError(f"'matrix' (R, C) and 'dense' (C, D) must fit together, got {shapes}")
    return _Product.apply(matrix, dense)


@torch.compiler.disable
def transposed(matrix: Tensor) -> Tensor:
    """The transpose of a CSR matrix as CSR, remembered; a symmetric matrix is its own, the very same object."""

    def make() -> Tensor | None:
        transpose = _transpose(matrix)
        return None if _equal(matrix, transpose) else transpose

    transpose = _transposes(matrix, "transpose", make)
    return matrix if transpose is None else transpose


def _transpose(matrix: Tensor) -> Tensor:
    # A stable sort leaves the rows of each column in order. A third of the time of .t().to_sparse_csr().
    columns, order = matrix.col_indices().sort(stable=True)
    return compressed(columns, _row_of_each(matrix)[order], matrix.values()[order], matrix.shape[::-1])


def _equal(a: Tensor, b: Tensor) -> bool:
    return (
        a.shape == b.shape
        and torch.equal(a.crow_indices(), b.crow_indices())
        and torch.equal(a.col_indices(), b.col_indices())
        and torch.equal(a.values(), b.values())
    )


def _row_of_each(matrix: Tensor) -> Tensor:
    """`(nnz,)` the row of each stored value."""
    rows = torch.arange(matrix.size(0), device=matrix.device, dtype=matrix.col_indices().dtype)
    return rows.repeat_interleave(matrix.crow_indices().diff(), output_size=matrix.values().size(0))


def compressed(rows: Tensor, columns: Tensor, values: Tensor, shape: torch.Size | tuple[int, int]) -> Tensor:
    """A CSR matrix of values in the order of their rows; indices are int32 where they fit, which is a bit faster."""
    fits = max(*shape, rows.numel()) <= torch.iinfo(torch.int32).max
    kind = torch.int32 if fits else torch.int64
    ends = torch.nn.functional.pad(torch.bincount(rows, minlength=shape[0]).cumsum(0), (1, 0))
    return _csr(ends.to(kind), columns.to(kind), values, shape)


def _csr(ends: Tensor, columns: Tensor, values: Tensor, shape: torch.Size | tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(ends, columns, values, tuple(shape), check_invariants=False)


@torch.compiler.disable
def normalized_adjacency(edge_index: Tensor, num_nodes: int, dtype: torch.dtype | None = None) -> Tensor:
    r"""The propagation \(\hat A = D^{-1/2} (A + I) D^{-1/2}\) of graph convolutions as a CSR matrix.

    Row i sums over the edges j → i, and D counts the edges into a node and its self loop, as in PyG's `gcn_norm`; self
    loops that are there already are not doubled. It is remembered for this `edge_index` object. It is made for PyG's
    layers too: `GCNConv(..., normalize=False)(x, normalized_adjacency(edge_index, num_nodes))`.

    Args:
        edge_index: `(2, E)` integers; sources, then targets.
        num_nodes: Number N of nodes.
        dtype: Of the values; PyTorch's default type if None.

    Returns:
        `(N, N)` in `torch.sparse_csr`, its columns sorted.

    Raises:
        TypeError: `edge_index` is itself a sparse matrix, or not of integers.
        ValueError: It is not `(2, E)`, or holds a node outside of 0 to N - 1.
    """
    _check_kind(edge_index)
    dtype = dtype or torch.get_default_dtype()
    operator = _operators(edge_index, (num_nodes, dtype), lambda: _made(edge_index, num_nodes, dtype))
    assert operator is not None
    return operator


def inherit(part: Tensor, whole: Tensor, num_nodes: int, nodes: Tensor) -> None:
    """Says that a graph consists of components of another, so that its operator need not be made but can be cut out.

    Args:
        part: `(2, e)` `edge_index` of the graph.
        whole: `(2, E)` that of the other graph, unchanged from now on.
        num_nodes: Of the other graph.
        nodes: `(n,)` the node of the other graph that each node is; consecutive in each component.
    """
    if not part.is_inference() and not whole.is_inference():  # It does not count its changes.
        _origins[part] = ((_state(part), _state(whole)), whole, num_nodes, nodes)


def _made(edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> Tensor:
    origin = None if edge_index.is_inference() else _origins.get(edge_index)
    if origin is None or origin[0] != (_state(edge_index), _state(origin[1])) or origin[3].numel() != num_nodes:
        return _normalized(edge_index, num_nodes, dtype)
    _, whole, size, nodes = origin
    source = normalized_adjacency(whole, size, dtype)
    operator = _cut_out(source, nodes)
    if transposed(source) is source:
        _transposes(operator, "transpose", lambda: None)
    return operator


def _cut_out(matrix: Tensor, nodes: Tensor) -> Tensor:
    """The rows and columns `nodes` of a CSR matrix in which they are joined to no others."""
    ends, device = matrix.crow_indices(), matrix.device
    starts = ends.index_select(0, nodes)
    lengths = ends.index_select(0, nodes + 1) - starts
    compressed = torch.nn.functional.pad(lengths.cumsum(0, dtype=ends.dtype), (1, 0))
    number, size = int(compressed[-1]), nodes.numel()
    places = torch.arange(size, device=device, dtype=ends.dtype)
    moves = torch.stack([starts - compressed[:-1], nodes.to(ends.dtype) - places])
    moves = moves.repeat_interleave(lengths, 1, output_size=number)
    entries = moves[0] + torch.arange(number, device=device, dtype=ends.dtype)
    columns = matrix.col_indices().index_select(0, entries).sub_(moves[1])
    return _csr(compressed, columns, matrix.values().index_select(0, entries), (size, size))


def _normalized(edge_index: Tensor, num_nodes: int, dtype: torch.dtype) -> Tensor:
    _check(edge_index, num_nodes)
    rows, columns = _with_self_loops(edge_index, num_nodes)
    keys = rows.mul_(num_nodes).add_(columns).sort().values
    columns, rows = keys % num_nodes, keys.div_(num_nodes, rounding_mode="floor")
    return compressed(rows, columns, _weights(rows, columns, num_nodes, dtype), (num_nodes, num_nodes))


def _check_kind(edge_index: Tensor) -> None:
    if edge_index.layout != torch.strided or edge_index.is_floating_point():
        kind = edge_index.dtype if edge_index.layout == torch.strided else edge_index.layout
        raise TypeError(
            f"'edge_index' must be (2, E) integers, got {kind}; these layers keep a sparse operator of it themselves, "
            "a sparse adjacency matrix is for PyG's layers"
        )


def _check(edge_index: Tensor, num_nodes: int) -> None:
    if edge_index.dim() != 2 or edge_index.size(0) != 2:
        raise ValueError(f"'edge_index' must have shape (2, E), got {tuple(edge_index.shape)}")
    # Not left to the product: it would read memory that is not its own.
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < num_nodes:
        found = f"{int(edge_index.min())} to {int(edge_index.max())}"
        raise ValueError(f"'edge_index' must hold nodes 0 to {num_nodes - 1}, got {found}")


def _with_self_loops(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """Rows (targets) and columns (sources) of A + I."""
    source, target = edge_index.long()
    proper, loops = source != target, torch.arange(num_nodes, device=edge_index.device)
    return torch.cat([target[proper], loops]), torch.cat([source[proper], loops])


def _weights(rows: Tensor, columns: Tensor, num_nodes: int, dtype: torch.dtype) -> Tensor:
    scale = torch.bincount(rows, minlength=num_nodes).to(dtype).rsqrt()
    return scale[rows] * scale[columns]


def propagate(x: Tensor, edge_index: Tensor) -> Tensor:
    r"""One linear propagation \(\hat A x\) of `(N, D)` dense rows, see `normalized_adjacency`.

    Without edges it is `x` itself.
    """
    _check_kind(edge_index)
    if edge_index.dim() == 2 and edge_index.size(1) == 0 and x.layout == torch.strided:
        return x
    return _propagated(x, edge_index)


@torch.compiler.disable
def _propagated(x: Tensor, edge_index: Tensor) -> Tensor:
    dtype = torch.float32 if x.dtype in _HALF else x.dtype
    if x.device.type in _SPARSE_DEVICES:
        return spmm(normalized_adjacency(edge_index, x.size(0), dtype), x)
    rows, columns = _with_self_loops(edge_index, x.size(0))
    messages = _weights(rows, columns, x.size(0), dtype)[:, None] * x[columns]
    return torch.zeros_like(x, dtype=dtype).index_add(0, rows, messages).to(x.dtype)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` that takes CSR `x` too: with `(N, F)` x and `(D, F)` weight, `(N, D)`."""
    if x.layout == torch.strided:
        return torch.nn.functional.linear(x, weight, bias)
    product = spmm(x, weight.t())
    return product if bias is None else product + bias


def permuted_rows(matrix: Tensor, order: Tensor) -> Tensor:
    """`matrix[order]` of a CSR or dense matrix, `order` a permutation of its rows."""
    if matrix.layout == torch.strided:
        return matrix[order]
    inverse = order.argsort()
    rows, sources = inverse[_row_of_each(matrix)].sort(stable=True)
    return compressed(rows, matrix.col_indices()[sources], matrix.values()[sources], matrix.shape)


def entry(matrix: Tensor, number: int) -> tuple[int, int]:
    """Row and column of the stored value `number` of a CSR matrix."""
    row = torch.searchsorted(matrix.crow_indices(), number, right=True) - 1
    return int(row), int(matrix.col_indices()[number])
