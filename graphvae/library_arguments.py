"""Where torch and PyG keep those arguments of their constructors that are no attributes of the same name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch_geometric import nn as pyg
from torch_geometric.nn import MessagePassing
from torch_geometric.nn.models.basic_gnn import BasicGNN


def aggregation(layer: MessagePassing) -> Any:
    """The `aggr` that made a layer: a name, or a module."""
    modular = "(" in str(layer.aggr)  # MessagePassing turns modules into their repr, for example "SumAggregation()".
    return layer.aggr_module if modular else layer.aggr


def _norm(model: BasicGNN) -> Any:
    return model.norm or next((norm for norm in model.norms if not isinstance(norm, nn.Identity)), None)


def _norm_name(norms: nn.ModuleList) -> str | None:
    return type(norms[0]).__name__ if len(norms) and not isinstance(norms[0], nn.Identity) else None


def _activation(layer: pyg.PNAConv) -> Any:
    children = [child for network in [*layer.pre_nns, *layer.post_nns] for child in network]
    return next((type(child).__name__ for child in children if not isinstance(child, pyg.Linear | nn.Linear)), "relu")


def _degrees(layer: pyg.PNAConv) -> torch.Tensor:
    """A histogram of the same two averages, all that PNA keeps: PyG divides its sums by `int(1.5)` = 1."""
    lin, log = layer.aggr_module.init_avg_deg_lin, layer.aggr_module.init_avg_deg_log / math.log(2)
    return torch.tensor([1.5 - (2 * log - lin), 3 * log - 2 * lin, 0.0, lin - log], dtype=torch.double)


Reader = Callable[[Any], Any]
READ_ELSEWHERE: list[tuple[type, str, Reader]] = [
    (BasicGNN, "dropout", lambda m: m.dropout.p),
    (BasicGNN, "jk", lambda m: m.jk_mode),
    (BasicGNN, "act_kwargs", lambda m: None),  # `act` is described as a module, which has them.
    (BasicGNN, "norm", _norm),
    (BasicGNN, "out_channels", lambda m: m.out_channels if getattr(m, "_is_conv_to_out", False) or m.jk_mode else None),
    *[(pyg.MLP, name, lambda m: None) for name in ("in_channels", "hidden_channels", "out_channels", "num_layers")],
    (pyg.MLP, "act_kwargs", lambda m: None),
    (pyg.MLP, "bias", lambda m: [lin.bias is not None for lin in m.lins]),
    (pyg.MLP, "norm", lambda m: _norm_name(m.norms)),
    (pyg.PNAConv, "aggregators", lambda m: [type(aggr).__name__ for aggr in m.aggr_module.aggr.aggrs]),
    (pyg.PNAConv, "scalers", lambda m: m.aggr_module.scaler),
    (pyg.PNAConv, "deg", _degrees),
    (pyg.PNAConv, "pre_layers", lambda m: (len(m.pre_nns[0]) + 1) // 2),
    (pyg.PNAConv, "post_layers", lambda m: (len(m.post_nns[0]) + 1) // 2),
    (pyg.PNAConv, "act", _activation),
    (pyg.PNAConv, "train_norm", lambda m: isinstance(m.aggr_module.avg_deg_lin, nn.Parameter)),
    *[(gin, "eps", lambda m: m.initial_eps) for gin in (pyg.GINConv, pyg.GINEConv)],
    *[(gin, "train_eps", lambda m: isinstance(m.eps, nn.Parameter)) for gin in (pyg.GINConv, pyg.GINEConv)],
    (pyg.ChebConv, "K", lambda m: len(m.lins)),
    (pyg.SAGEConv, "bias", lambda m: m.lin_l.bias is not None),
    (pyg.GraphConv, "bias", lambda m: m.lin_rel.bias is not None),
    (pyg.TransformerConv, "bias", lambda m: m.lin_key.bias is not None),
    (MessagePassing, "aggr", aggregation),
    (pyg.aggr.MultiAggregation, "aggrs", lambda m: list(m.aggrs)),
    (pyg.SoftmaxAggregation, "t", lambda m: m._init_t),
    (pyg.PowerMeanAggregation, "p", lambda m: m._init_p),
    (pyg.BatchNorm, "in_channels", lambda m: m.module.num_features),
    *[(pyg.BatchNorm, name, lambda m, n=name: getattr(m.module, n)) for name in ("eps", "momentum", "affine")],
    (pyg.BatchNorm, "track_running_stats", lambda m: m.module.track_running_stats),
]
