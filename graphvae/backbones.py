"""The few networks `(x, edge_index) -> (N, hidden)` that PyG does not have, or not as fast; the rest is PyG's.

Which to take for one large graph: `GraphConvolution` is PyG's `GCNConv` several times as fast, on the same weights.
PyG's own layers are faster too when they are given a sparse matrix in place of `edge_index`, `encoder(x, adjacency)`:

    adjacency = torch_geometric.utils.to_torch_csr_tensor(edge_index.flip(0))        # row i: the sources of node i
    operator = sparse.normalized_adjacency(edge_index, num_nodes)                    # for GCNConv(..., normalize=False)

Sparse features `x`, in `torch.sparse_csr`, are taken by `GraphConvolution` and `SparseLinear` as the first layer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.nn import Linear
from torch_geometric.nn.aggr import Aggregation

from graphvae.fixed_order import pair_number
from graphvae.isolated import convolved
from graphvae.layout import Layout
from graphvae.norms import check_one_node_graphs
from graphvae.signatures import takes
from graphvae.sparse import linear, propagate
from graphvae.validation import check_positive


def run_backbone(
    backbone: nn.Module, x: Tensor, edge_index: Tensor, layout: Layout | None, edge_type: Tensor | None = None
) -> Tensor:
    """Calls `backbone(x, edge_index)`, with the `batch` vector if it takes one: norms and attention must know it.

    So with `edge_type`, where edges have types.

    A backbone whose `forward` has no `edge_index` is a network on vectors, and is called with `x` alone.

    Without edges, convolutions cost what their linear layers cost (`isolated.convolved`).

    Raises:
        TypeError: `x` is sparse and the backbone cannot take that.
        ValueError: Every graph is one node, and the backbone has a layer that makes no sense there.
    """
    with_edges = takes(backbone, "edge_index")
    with_batch = with_edges and takes(backbone, "batch")
    one_node_each = layout is not None and layout.one_row_each
    if one_node_each:
        check_one_node_graphs(backbone)
    grouped = with_batch and layout is not None and (one_node_each or layout.num_graphs > 1)
    given = {"batch": layout.batch} if layout is not None and grouped else {}
    if edge_type is not None and with_edges and takes(backbone, "edge_type"):
        given["edge_type"] = edge_type
    try:
        return convolved(backbone, x, edge_index, **given) if with_edges else backbone(x)
    except (RuntimeError, TypeError) as error:
        if x.layout == torch.strided or isinstance(error, torch.OutOfMemoryError):
            raise
        raise TypeError(
            f"'x' is sparse, which {type(backbone).__name__} may be unable to take; use x.to_dense(), or a "
            f"GraphConvolution or SparseLinear as the first layer ({' '.join(str(error).split())[:200]})"
        ) from error


class Nodewise(nn.Module):
    """A network on vectors as a backbone: it is applied to each node's features and sees no edges.

    Args:
        network: `(N, F) -> (N, hidden)`, row by row.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, F)` features to `(N, hidden)`."""
        return self.network(x)


class Stack(nn.Module):
    """Layers one after another: whose `forward` takes `edge_index`, `batch` or `edge_type` gets it, others rows only.

    Args:
        layers: Message-passing layers, activations, normalisations, dropout in the order they apply.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._passes_messages = [takes(layer, "edge_index") for layer in layers]
        self._taken = [[name for name in ("batch", "edge_type") if takes(layer, name)] for layer in layers]

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, edge_type: Tensor | None = None
    ) -> Tensor:
        """`(N, F)` features to `(N, hidden)`; `batch` `(N,)` is the graph of each node, `edge_type` `(E,)` of edges."""
        known = {"batch": batch, "edge_type": edge_type}
        for layer, passes_messages, taken in zip(self.layers, self._passes_messages, self._taken, strict=True):
            given = {name: known[name] for name in taken}
            x = convolved(layer, x, edge_index, **given) if passes_messages else layer(x, **given)
        return x


class GraphConvolution(nn.Module):
    r"""The graph convolution \(\hat A X W + b\) with \(\hat A = D^{-1/2} (A + I) D^{-1/2}\), through a sparse operator.

    Parameters, their names, initial values and results are those of PyG's `GCNConv(in_channels, out_channels)`, so that
    state dictionaries can be exchanged. It differs in time and memory: the operator of an `edge_index` is made once and
    remembered (`sparse.normalized_adjacency`), and serves the backward pass too. It has no edge weights.

    Args:
        in_channels: Features of the input, which may be sparse (`torch.sparse_csr`).
        out_channels: Features of the output.
        bias: Whether to add one.

    References:
        Kipf & Welling, "Semi-supervised classification with graph convolutional networks", 2017, arXiv:1609.02907.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.lin = Linear(in_channels, out_channels, bias=False, weight_initializer="glorot")
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights as PyG does, which draws twice in all: one seed gives one network."""
        self.lin.reset_parameters()
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, in_channels)` to `(N, out_channels)`."""
        # Fewer columns go through A. Sparse features stay sparse, A X would not be.
        if self.in_channels < self.out_channels and x.layout == torch.strided:
            return linear(propagate(x, edge_index), self.lin.weight, self.bias)
        rows = propagate(linear(x, self.lin.weight), edge_index)
        return rows if self.bias is None else rows.add_(self.bias)


class Propagation(nn.Module):
    r"""The bare propagation \(\hat A x\): linear heads after it are graph convolutions, as Â(xW) = (Âx)W."""

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, F)` to `(N, F)`."""
        return propagate(x, edge_index)


class SparseLinear(nn.Module):
    """`torch.nn.Linear` for rows that may be sparse (`torch.sparse_csr`): the first layer of a vector network.

    Parameters, names and initial values are those of `nn.Linear`. That takes sparse rows too, but transposes them again
    in every backward pass and knows no half precision.

    Args:
        in_features: Features of the input.
        out_features: Features of the output.
        bias: Whether to add one.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights as `nn.Linear` does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, in_features)` to `(N, out_features)`."""
        return linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """As `nn.Linear` prints itself."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class HopMix(nn.Module):
    r"""A learned convex mix of linear propagations, \(\sum_k a_k \hat A^k x\) with a = softmax of free weights.

    \(\hat A\) is the adjacency with self loops, normalised symmetrically. There is no other parameter: put a linear
    layer before or after it in a `Stack`.

    Args:
        hops: The largest power; 0 is the identity.

    References:
        He et al., "LightGCN", 2020, arXiv:2002.02126 (fixed weights); learned weights as in later link predictors.
    """

    def __init__(self, hops: int) -> None:
        super().__init__()
        if hops < 0:
            raise ValueError(f"'hops' must not be negative, got {hops}")
        self.hops = hops
        self.weight = nn.Parameter(torch.zeros(hops + 1))

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, F)` to `(N, F)`."""
        weight = self.weight.softmax(0)
        total = weight[0] * x
        for hop in range(1, self.hops + 1):
            x = propagate(x, edge_index)
            total = total + weight[hop] * x
        return total


class AtPlaces(nn.Module):
    """A network on the whole graph as it is numbered: its features and edges at places, one row of numbers.

    Every node gets the row of its graph, so that any pooling but a sum gives it back: `NormalEncoder(AtPlaces(...),
    pool=MeanAggregation())`. Deliberately not equivariant, the counterpart of `decoders.DenseGraph`: for graphs whose
    numbering means something, such as that of a canonical SMILES.

    Args:
        network: `(B, k C + T k(k - 1)/2) -> (B, hidden)`.
        max_nodes: Places k.
        features: C, columns of x.
        edge_types: T, types of edges, 1 if they have none.
    """

    def __init__(self, network: nn.Module, max_nodes: int, features: int, edge_types: int = 1) -> None:
        super().__init__()
        check_positive(max_nodes=max_nodes, features=features, edge_types=edge_types)
        self.network = network
        self.max_nodes, self.features, self.edge_types = max_nodes, features, edge_types

    @staticmethod
    def width(max_nodes: int, features: int, edge_types: int = 1) -> int:
        """Numbers in a row: what the network takes."""
        return max_nodes * features + edge_types * max_nodes * (max_nodes - 1) // 2

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None, edge_type: Tensor | None = None
    ) -> Tensor:
        """`(N, C)` features to `(N, hidden)`, the same for all nodes of a graph.

        Raises:
            ValueError: A graph has more nodes than there are places.
        """
        batch = x.new_zeros(x.size(0), dtype=torch.long) if batch is None else batch
        starts = torch.cat([batch.new_ones(1, dtype=torch.bool), batch.diff() != 0]).nonzero().squeeze(1)
        places = torch.arange(x.size(0), device=x.device) - starts[batch]
        if x.size(1) != self.features or bool((places >= self.max_nodes).any()):
            sizes = f"{x.size(1)} columns and {int(places.max()) + 1} nodes"
            raise ValueError(
                f"graphs must have {self.features} features and {self.max_nodes} nodes at most, got {sizes}"
            )
        nodes = x.new_zeros(starts.numel() * self.max_nodes, self.features)
        nodes = nodes.index_copy(0, batch * self.max_nodes + places, x).view(starts.numel(), -1)
        return self.network(torch.cat([nodes, self._edges(places, batch, edge_index, edge_type, nodes)], 1))[batch]

    def _edges(
        self, places: Tensor, batch: Tensor, edge_index: Tensor, edge_type: Tensor | None, like: Tensor
    ) -> Tensor:
        """`(B, T k(k - 1)/2)` ones where two places are joined."""
        source, target = edge_index
        pairs = self.max_nodes * (self.max_nodes - 1) // 2
        numbers = batch[source] * pairs + pair_number(places[source], places[target])
        numbers = numbers * self.edge_types + (0 if edge_type is None else edge_type)
        joined = like.new_zeros(like.size(0) * pairs * self.edge_types)
        joined[numbers] = 1  # Both directions of an edge are the same pair.
        return joined.view(like.size(0), -1)


class GatedSum(Aggregation):
    r"""Pooling of the nodes of a graph to \(\sum_i \sigma(W_g h_i + b_g) \odot \tanh(W h_i + b)\).

    Args:
        in_channels: Width of the rows.
        out_channels: Width of what they are pooled to.

    References:
        Li et al., "Gated graph sequence neural networks", 2016, arXiv:1511.05493.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.gate, self.value = Linear(in_channels, out_channels), Linear(in_channels, out_channels)

    def forward(
        self,
        x: Tensor,
        index: Tensor | None = None,
        ptr: Tensor | None = None,
        dim_size: int | None = None,
        dim: int = -2,
    ) -> Tensor:
        """`(N, in_channels)` rows of graphs `index` `(N,)` to `(B, out_channels)`."""
        return self.reduce(self.gate(x).sigmoid() * self.value(x).tanh(), index, ptr, dim_size, dim, reduce="sum")
