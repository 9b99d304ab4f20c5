"""The few networks `(x, edge_index) -> (N, hidden)` that PyG does not have; everything else is PyG's."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn
from torch_geometric.nn import APPNP


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
    """Layers one after another: those whose `forward` takes `edge_index` get it, the others see rows only.

    Args:
        layers: Message-passing layers, activations, normalisations, dropout in the order they apply.
    """

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self._passes_messages = ["edge_index" in inspect.signature(layer.forward).parameters for layer in layers]

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, F)` features to `(N, hidden)`."""
        for layer, passes_messages in zip(self.layers, self._passes_messages, strict=True):
            x = layer(x, edge_index) if passes_messages else layer(x)
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
