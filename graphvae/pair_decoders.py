"""p(A | Z) by networks on pairs of nodes, and of typed edges; `edges` has these names too, beside the inner products.

Time is that of all pairs, see `pair_scores`. For one large graph wrap an untyped one,
`edges.Estimated(HadamardMLP(...), SampledPairs(...))`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from graphvae.graphs import Graphs, as_batch
from graphvae.layout import Layout
from graphvae.pair_scores import CategoricalEdges, PairEdges, all_pairs
from graphvae.validation import check_positive


class HadamardMLP(nn.Module):
    r"""Undirected edges with log-odds \(\mathrm{MLP}(h_i \odot h_j)\), where h = network(z) row by row.

    An inner product sums the entries of \(h_i \odot h_j\); here a network of one hidden layer may combine them in any
    way. It cannot be summed faster than pair by pair.

    Args:
        dim: Width H of h.
        hidden: Width of the hidden layer.
        density: Share of pairs that are joined in the training graphs, see `graphs.density`; logits start near its
            log-odds.
        network: `(N, D) -> (N, H)` on rows, or None for h = z.
    """

    directed: bool = False

    def __init__(self, dim: int, hidden: int, density: float, network: nn.Module | None = None) -> None:
        super().__init__()
        self.dim, self.hidden, self.density = dim, hidden, density
        self.network = network
        self.scores = _mlp(dim, hidden, [log_odds(density)])

    def forward(self, z: Tensor, layout: Layout | None = None) -> PairEdges:
        """The distribution over edges given `(N, D)` latents."""
        layout, h = _rows(self.network, z, layout, self.dim)
        return PairEdges(partial(self._of_pairs, h), layout)

    def _of_pairs(self, h: Tensor, pairs: Tensor) -> Tensor:
        return self.scores(_products(h, pairs)).squeeze(1)


class TypedHadamardMLP(nn.Module):
    r"""Undirected edges of T types with log-odds \(s_{ij} = \mathrm{MLP}(h_i \odot h_j)\), one of T outputs a type.

    Args:
        dim: Width H of h.
        hidden: Width of the hidden layer.
        densities: Share of pairs that are joined by each type, see `type_densities`.
        network: `(N, D) -> (N, H)` on rows, or None for h = z.
    """

    directed: bool = False

    def __init__(self, dim: int, hidden: int, densities: Sequence[float], network: nn.Module | None = None) -> None:
        super().__init__()
        self.dim, self.hidden, self.densities = dim, hidden, list(densities)
        self.edge_types = len(self.densities)
        self.network = network
        self.scores = _mlp(dim, hidden, _log_odds_of_types(self.densities))

    def forward(self, z: Tensor, layout: Layout | None = None) -> CategoricalEdges:
        """The distribution over typed edges given `(N, D)` latents."""
        layout, h = _rows(self.network, z, layout, self.dim)
        return CategoricalEdges(self.scores(_products(h, all_pairs(layout))), layout)


class TypedInnerProduct(nn.Module):
    r"""Undirected edges of T types, log-odds \(s_{ij}^t = \sum_d w_{td} h_{id} h_{jd} + b_t\) against no edge.

    As `IndefiniteInnerProduct`, with weights and a bias for each type; of every type half of the weights start at 1 and
    half at -1.

    Args:
        dim: Width H of h.
        densities: Share of pairs that are joined by each type, see `type_densities`; biases start at
            \(\log d_t - \log(1 - \sum_s d_s)\), at which h = 0 gives these shares.
        network: `(N, D) -> (N, H)` on rows, or None for h = z.

    References:
        DistMult, diagonal bilinear scores of typed edges: Yang et al., 2015, arXiv:1412.6575 (no class of no edge).
    """

    directed: bool = False

    def __init__(self, dim: int, densities: Sequence[float], network: nn.Module | None = None) -> None:
        super().__init__()
        check_positive(dim=dim)
        self.dim, self.densities = dim, list(densities)
        self.edge_types = len(self.densities)
        self.network = network
        signs = torch.where(torch.arange(dim) < (dim + 1) // 2, 1.0, -1.0)
        self.weight = nn.Parameter(signs.repeat(self.edge_types, 1))
        self.bias = nn.Parameter(torch.tensor(_log_odds_of_types(self.densities)))

    def forward(self, z: Tensor, layout: Layout | None = None) -> CategoricalEdges:
        """The distribution over typed edges given `(N, D)` latents."""
        layout, h = _rows(self.network, z, layout, self.dim)
        products = _products(h, all_pairs(layout))
        return CategoricalEdges(nn.functional.linear(products, self.weight, self.bias), layout)


def type_densities(graphs: Graphs, edge_types: int, smoothing: float = 1.0) -> list[float]:
    """Share of the pairs of different nodes within a graph that are joined by an edge of each type.

    Args:
        graphs: A PyG graph, batch or list, with `edge_type` `(E,)` int64.
        edge_types: T.
        smoothing: Pseudo-count of every class, no edge among them, so that an unseen type is unlikely, not impossible.

    Raises:
        ValueError: A graph with edges has no types, or a type is not in 0, ..., T - 1.
    """
    check_positive(edge_types=edge_types)
    pairs = int(as_batch(graphs).layout.num_pairs.sum())
    found = [_types(graph, edge_types) for graph in ([graphs] if isinstance(graphs, Data) else graphs)]
    counts = torch.stack(found).sum(0).double() / 2 + smoothing
    total = pairs + smoothing * (edge_types + 1)
    if not total > 0:
        raise ValueError("'graphs' must have a graph of at least two nodes for densities to exist")
    return (counts / total).tolist()


def _types(graph: Data, edge_types: int) -> Tensor:
    """`(T,)` columns of each type in one graph or batch."""
    types, columns = getattr(graph, "edge_type", None), graph.edge_index.size(1)
    if types is None and columns == 0:
        return torch.zeros(edge_types, dtype=torch.long)
    if types is None or types.shape != (columns,):
        found = "none" if types is None else f"shape {tuple(types.shape)}"
        raise ValueError(f"'graphs' must have 'edge_type' with one type for each of {columns} columns, got {found}")
    if columns and not 0 <= int(types.min()) <= int(types.max()) < edge_types:
        raise ValueError(
            f"'edge_type' must be in 0, ..., {edge_types - 1}, got {int(types.min())} to {int(types.max())}"
        )
    return torch.bincount(types, minlength=edge_types).cpu()


def decoded(network: nn.Module | None, z: Tensor, layout: Layout | None) -> Tensor:
    """`network` of latents, of which there must be one row for each node of `layout`."""
    if layout is not None:
        layout.check_rows(z)
    return z if network is None else network(z)


def log_odds(density: float) -> float:
    """The logarithm of the odds of a share of pairs, at which a bias starts."""
    if not 0 < density < 1:
        found = "graphs without edges have" if density == 0 else "complete graphs have" if density == 1 else "it is"
        raise ValueError(f"'density' must lie strictly between 0 and 1, got {density}; {found} no odds of an edge")
    return math.log(density / (1 - density))


def _log_odds_of_types(densities: Sequence[float]) -> list[float]:
    if not densities or not min(densities) > 0 or not sum(densities) < 1:
        raise ValueError(f"'densities' must be positive with a sum below 1, one for each type, got {list(densities)}")
    return [math.log(density / (1 - sum(densities))) for density in densities]


def _rows(network: nn.Module | None, z: Tensor, layout: Layout | None, dim: int) -> tuple[Layout, Tensor]:
    h = decoded(network, z, layout)
    if h.size(1) != dim:
        name = "z" if network is None else "network(z)"
        raise ValueError(f"'dim' must be the width of {name}, got {dim} for {h.size(1)} columns")
    return layout or Layout.single(z.size(0), z.device), h


def _products(h: Tensor, pairs: Tensor) -> Tensor:
    # Not by indexing, whose backward pass is several times slower.
    return h.index_select(0, pairs[0]) * h.index_select(0, pairs[1])


def _mlp(dim: int, hidden: int, biases: Sequence[float]) -> nn.Sequential:
    """Of one hidden layer; outputs start near `biases`, but not all alike."""
    check_positive(dim=dim, hidden=hidden)
    last = nn.Linear(hidden, len(biases))
    nn.init.normal_(last.weight, std=0.1 / math.sqrt(hidden))
    with torch.no_grad():
        last.bias.copy_(torch.tensor(biases))
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), last)
