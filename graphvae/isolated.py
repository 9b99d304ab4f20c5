r"""PyG's convolutions on a batch without edges, as the linear layers they are there.

Without edges no message is sent, so a convolution is a function of each row alone: \(xW + b\) for a graph convolution,
\(xW_r + b_l\) for GraphSAGE, a network of \((1 + \epsilon)x\) for GIN. PyG computes it through empty scatters and added
self loops, at several times the cost of the linear layer. `convolved` computes it directly. Values and gradients are
those of PyG, those of weights without effect, which are zero, among them: optimisers that decay weights or average
gradients, and data-parallel training, tell a gradient of zero from none.

What is not known here runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch_geometric.nn.aggr import MaxAggregation, MeanAggregation, MinAggregation, SumAggregation
from torch_geometric.nn.models.basic_gnn import BasicGNN

_ZERO_WITHOUT_MESSAGES = (SumAggregation, MeanAggregation, MaxAggregation, MinAggregation)
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_propagate_forward_hooks",
    "_propagate_forward_pre_hooks",
    "_message_forward_hooks",
    "_message_forward_pre_hooks",
    "_aggregate_forward_hooks",
    "_aggregate_forward_pre_hooks",
    "_message_and_aggregate_forward_hooks",
    "_message_and_aggregate_forward_pre_hooks",
    "_edge_update_forward_hooks",
    "_edge_update_forward_pre_hooks",
)
Form = Callable[[Any, Tensor], Tensor | None]


def convolved(module: nn.Module, x: Tensor, edge_index: Tensor, **batch: Tensor | None) -> Tensor:
    """`module(x, edge_index, **batch)`, by the closed form where there are no edges and there is one.

    Args:
        module: A convolution or a network of them that takes `edge_index`.
        x: `(N, F)`.
        edge_index: `(2, E)`.
        batch: Nothing, or `batch` `(N,)`.
    """
    kind = type(module)
    form = _FORMS.get(kind)
    basic = form is None and kind.forward is BasicGNN.forward
    if (form is None and not basic) or not _no_edges(edge_index) or not _dense(x) or _observed(module):
        return module(x, edge_index, **batch)
    if form is None:
        return _basic_network(module, x, edge_index, **batch)
    out = form(module, x)
    return module(x, edge_index, **batch) if out is None else out


def _no_edges(edge_index: Tensor) -> bool:
    # A shape is known on the host; of a sparse adjacency matrix it says nothing.
    return edge_index.size(-1) == 0 and edge_index.layout == torch.strided and edge_index.dim() == 2


def _dense(x: Tensor) -> bool:
    return x.layout == torch.strided and x.dim() == 2


def _observed(module: nn.Module) -> bool:
    """Whether someone waits to be called on the way, or has put another `forward` in place."""
    state = vars(module)
    return "forward" in state or state.get("explain", False) or any(state.get(name) for name in _HOOKS)


def _basic_network(network: Any, x: Tensor, edge_index: Tensor, batch: Tensor | None = None) -> Tensor:
    """The `forward` of PyG's `GCN`, `GraphSAGE`, `GIN`, `GAT`, ..., with every convolution by its closed form."""
    hidden = []
    inner = network.num_layers if network.jk_mode is not None else network.num_layers - 1
    for number, (convolution, norm) in enumerate(zip(network.convs, network.norms, strict=True)):
        x = convolved(convolution, x, edge_index)
        if number < inner:
            x = _between(network, norm, x, batch)
            hidden.append(x)
    x = network.jk(hidden) if hasattr(network, "jk") else x
    return network.lin(x) if hasattr(network, "lin") else x


def _between(network: Any, norm: nn.Module, x: Tensor, batch: Tensor | None) -> Tensor:
    if network.act is not None and network.act_first:
        x = network.act(x)
    x = norm(x, batch, None) if network.supports_norm_batch else norm(x)
    if network.act is not None and not network.act_first:
        x = network.act(x)
    return network.dropout(x)


class _Idle(torch.autograd.Function):
    """Passes the first argument on, and gives parameters that had no effect on it a gradient of zero."""

    @staticmethod
    def forward(ctx: Any, out: Tensor, *idle: Tensor) -> Tensor:
        ctx.save_for_backward(*idle)
        return out.view_as(out)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        zeros = (
            torch.zeros_like(p) if need else None
            for p, need in zip(ctx.saved_tensors, ctx.needs_input_grad[1:], strict=True)
        )
        return grad, *zeros


def _idle(out: Tensor, parameters: Iterable[Tensor | None]) -> Tensor:
    if not torch.is_grad_enabled():
        return out
    idle = [parameter for parameter in parameters if parameter is not None and parameter.requires_grad]
    if idle and torch.compiler.is_compiling():  # It makes an instance of a Function, and warns of it.
        return out + torch.stack([parameter.flatten()[:0].sum() for parameter in idle]).sum()
    return _Idle.apply(out, *idle) if idle else out


def _linear(*layers: Any) -> Iterable[Tensor | None]:
    return (parameter for layer in layers for parameter in (layer.weight, layer.bias))


def _plain(convolution: Any) -> bool:
    """Whether no message adds up to zero, and one to itself."""
    return type(convolution.aggr_module) in _ZERO_WITHOUT_MESSAGES


def _no_message(x: Tensor) -> Tensor:
    """What a node without neighbours receives, the same for all: one row of zeros."""
    return x.new_zeros(1, x.size(1))


def _with_bias(out: Tensor, bias: Tensor | None) -> Tensor:
    return out if bias is None else out + bias


def _gcn(conv: pyg.GCNConv, x: Tensor) -> Tensor | None:
    # The improved self loop has weight 2 and is normalised by its root, which rounds.
    known = conv.normalize and conv.add_self_loops and not conv.improved and not conv.cached and _plain(conv)
    return _with_bias(conv.lin(x), conv.bias) if known else None


def _sg(conv: pyg.SGConv, x: Tensor) -> Tensor | None:
    return conv.lin(x) if conv.add_self_loops and not conv.cached and _plain(conv) else None


def _ssg(conv: pyg.SSGConv, x: Tensor) -> Tensor | None:
    if not conv.add_self_loops or conv.cached or not _plain(conv):
        return None
    out = x * conv.alpha
    for _ in range(conv.K):
        out = out + (1 - conv.alpha) / conv.K * x
    return conv.lin(out)


def _appnp(conv: pyg.APPNP, x: Tensor) -> Tensor | None:
    dropped = conv.dropout > 0 and conv.training
    if not conv.normalize or not conv.add_self_loops or conv.cached or dropped or not _plain(conv):
        return None
    out = x
    for _ in range(conv.K):
        out = out * (1 - conv.alpha) + conv.alpha * x
    return out


def _cheb(conv: pyg.ChebConv, x: Tensor) -> Tensor | None:
    if conv.normalization is None or not _plain(conv):
        return None
    out = conv.lins[0](x)  # The scaled Laplacian is zero, so the polynomials are 1, 0, -1, 0, 1, ...
    for number, layer in enumerate(conv.lins[2::2], 1):
        out = out + layer(x if number % 2 == 0 else -x)
    return _idle(_with_bias(out, conv.bias), _linear(*conv.lins[1::2]))


def _tag(conv: pyg.TAGConv, x: Tensor) -> Tensor | None:
    if not _plain(conv):
        return None
    return _idle(_with_bias(conv.lins[0](x), conv.bias), _linear(*conv.lins[1:]))


def _sage(conv: pyg.SAGEConv, x: Tensor) -> Tensor | None:
    if not conv.root_weight or not _plain(conv):
        return None
    out = conv.lin_l(_no_message(x)) + conv.lin_r(x)
    out = nn.functional.normalize(out, p=2.0, dim=-1) if conv.normalize else out
    return _idle(out, _linear(conv.lin)) if conv.project else out


def _graph(conv: pyg.GraphConv, x: Tensor) -> Tensor | None:
    return conv.lin_rel(_no_message(x)) + conv.lin_root(x) if _plain(conv) else None


def _gin(conv: pyg.GINConv, x: Tensor) -> Tensor | None:
    return conv.nn((1 + conv.eps) * x) if _plain(conv) else None


def _le(conv: pyg.LEConv, x: Tensor) -> Tensor | None:
    return _idle(conv.lin3(x), _linear(conv.lin1, conv.lin2)) if _plain(conv) else None


def _cluster(conv: pyg.ClusterGCNConv, x: Tensor) -> Tensor | None:
    known = conv.add_self_loops and conv.diag_lambda == 0 and _plain(conv)
    return conv.lin_out(x) + conv.lin_root(x) if known else None


def _gated(conv: pyg.ResGatedGraphConv, x: Tensor) -> Tensor | None:
    if not conv.root_weight or conv.edge_dim is not None or not _plain(conv):
        return None
    out = _with_bias(conv.lin_skip(x), conv.bias)
    return _idle(out, _linear(conv.lin_key, conv.lin_query, conv.lin_value))


def _gat(conv: pyg.GATConv, x: Tensor) -> Tensor | None:
    if conv.lin is None or not _attends_itself(conv):
        return None
    return _idle(_attended(conv, conv.lin(x), x), (conv.att_src, conv.att_dst))


def _gatv2(conv: pyg.GATv2Conv, x: Tensor) -> Tensor | None:
    if not _attends_itself(conv):
        return None
    idle = () if conv.share_weights else _linear(conv.lin_r)
    return _idle(_attended(conv, conv.lin_l(x), x), (conv.att, *idle))


def _attends_itself(conv: Any) -> bool:
    """Whether the attention of a node to itself is 1: dropout drops it, and edge features have a say."""
    return conv.add_self_loops and conv.edge_dim is None and not (conv.dropout > 0 and conv.training) and _plain(conv)


def _attended(conv: Any, heads: Tensor, x: Tensor) -> Tensor:
    out = heads if conv.concat else heads.view(-1, conv.heads, conv.out_channels).mean(1)
    out = out if conv.res is None else out + conv.res(x)
    return _with_bias(out, conv.bias)


def _transformer(conv: pyg.TransformerConv, x: Tensor) -> Tensor | None:
    if not conv.root_weight or conv.beta or conv.edge_dim is not None or not _plain(conv):
        return None
    return _idle(conv.lin_skip(x), _linear(conv.lin_query, conv.lin_key, conv.lin_value))


_FORMS: dict[type[nn.Module], Form] = {
    pyg.GCNConv: _gcn,
    pyg.SGConv: _sg,
    pyg.SSGConv: _ssg,
    pyg.APPNP: _appnp,
    pyg.ChebConv: _cheb,
    pyg.TAGConv: _tag,
    pyg.SAGEConv: _sage,
    pyg.GraphConv: _graph,
    pyg.GINConv: _gin,
    pyg.LEConv: _le,
    pyg.ClusterGCNConv: _cluster,
    pyg.ResGatedGraphConv: _gated,
    pyg.GATConv: _gat,
    pyg.GATv2Conv: _gatv2,
    pyg.TransformerConv: _transformer,
}
