"""Which layers make sense on graphs of one node, as vectors are: those that treat each row by itself."""

from __future__ import annotations

from weakref import WeakSet

import torch
import torch_geometric.nn as pyg
from torch import nn

from graphvae.signatures import takes

_CENTRING = (pyg.GraphNorm, pyg.InstanceNorm, pyg.PairNorm, pyg.MeanSubtractionNorm)
_sound: WeakSet[nn.Module] = WeakSet()


def check_one_node_graphs(backbone: nn.Module) -> None:
    """Checks that no layer of a backbone is without meaning on graphs that all have one node.

    A backbone that was found sound is not looked at again.

    Raises:
        ValueError: A layer gives every node the same output, or mixes the nodes of different graphs.
    """
    remember = not torch.compiler.is_compiling()
    if remember and backbone in _sound:
        return
    centring = [layer for layer in backbone.modules() if isinstance(layer, _CENTRING)]
    for layer in centring:
        _check_centring(layer)
    _check_told(backbone, True)
    if remember and not centring:  # Whether these centre depends on the mode.
        _sound.add(backbone)


def _check_centring(layer: nn.Module) -> None:
    if isinstance(layer, pyg.InstanceNorm) and layer.track_running_stats and not layer.training:
        return
    raise ValueError(
        f"'backbone' must not centre within graphs of one node, its layer {type(layer).__name__} does: a node less "
        "the mean of its graph is zero, whatever its features; use LayerNorm(mode='node') or BatchNorm"
    )


def _check_told(module: nn.Module, told: bool) -> None:
    """Checks that what looks at a whole graph is told where it ends: everything around it must pass on `batch`."""
    if not told and (isinstance(module, pyg.GPSConv) or (isinstance(module, pyg.LayerNorm) and module.mode == "graph")):
        remedy = "LayerNorm(mode='node')" if isinstance(module, pyg.LayerNorm) else "it directly in a Stack"
        raise ValueError(
            f"'backbone' must treat graphs of one node one by one, its layer {type(module).__name__} mixes them: it is "
            f"in a module that takes no 'batch' and cannot tell it which node is of which graph; use {remedy}"
        )
    told = told and (isinstance(module, (nn.ModuleList, nn.ModuleDict)) or takes(module, "batch"))
    for part in module.children():
        _check_told(part, told)
