"""The few networks `(x, edge_index) -> (N, hidden)` that PyG does not have; everything else is PyG's."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from torch_geometric.nn import APPNP

from graphvae.graphs import Layout


def takes(module: nn.Module, name: str) -> bool:
    """Whether the module's `forward` has an argument of this name; one that takes any arguments takes edges."""
    parameters = inspect.signature(module.forward).parameters
    return name in parameters or (name == "edge_index" and any(p.kind == p.VAR_POSITIONAL for p in parameters.values()))


def run_backbone(backbone: nn.Module, x: Tensor, edge_index: Tensor, layout: Layout | None) -> Tensor:
    """Calls `backbone(x, edge_index)`, with the `batch` vector if it takes one: norms and attention must know it.

    A backbone whose `forward` has no `edge_index` is a network on vectors, and is called with `x` alone.
    """
    if not takes(backbone, "edge_index"):
        return backbone(x)
    if layout is not None and layout.num_graphs > 1 and takes(backbone, "batch"):
        return backbone(x, edge_index, batch=layout.batch)
    return backbone(x, edge_index)


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
    """Layers one after another: those whose `forward` takes `edge_index` or `batch` get them, others see rows only.

    Args:
        layers: Message-passing layers, activations, normalisations, dropout in the order they apply.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._passes_messages = [takes(layer, "edge_index") for layer in layers]
        self._takes_batch = [takes(layer, "batch") for layer in layers]

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
        """`(N, F)` features to `(N, hidden)`; `batch` `(N,)` is the graph of each node."""
        for layer, passes_messages, takes_batch in zip(
            self.layers, self._passes_messages, self._takes_batch, strict=True
        ):
            edges = (edge_index,) if passes_messages else ()
            x = layer(x, *edges, batch=batch) if takes_batch else layer(x, *edges)
        return x


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
        self.propagate = APPNP(K=1, alpha=0.0)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, F)` to `(N, F)`."""
        weight = self.weight.softmax(0)
        total = weight[0] * x
        for hop in range(1, self.hops + 1):
            x = self.propagate(x, edge_index)
            total = total + weight[hop] * x
        return total
