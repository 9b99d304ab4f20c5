"""q(Z | X, A): a distribution on top of any PyG network, called `encoder(x, edge_index)` like any PyG module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch_geometric.nn import Linear
from torch_geometric.nn.aggr import Aggregation

from graphvae.backbones import run_backbone
from graphvae.distributions import PerGraph, PointMass
from graphvae.layout import Layout

_LARGEST_LOG_SCALE = 10.0


class NormalEncoder(nn.Module):
    r"""Independent normal latents, \(q(z_i | X, A) = N(\mu_i, \mathrm{diag}\,\sigma_i^2)\), two linear heads.

    Args:
        backbone: `(x, edge_index) -> (N, hidden)`: any PyG network, or `backbones.Nodewise` for vectors.
        hidden: Width of the backbone's output.
        latent: Dimension D of the latents.
        pool: A PyG aggregation such as `SumAggregation()`; the latents are then one per graph (one in all if called
            without a layout), for factors that decode whole graphs.

    References:
        Kipf & Welling, "Variational graph auto-encoders", 2016, arXiv:1611.07308.
    """

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden, self.latent = _positive(hidden, latent)
        self.pool = pool
        self.loc = Linear(hidden, latent, weight_initializer="glorot", bias_initializer="zeros")
        self.log_scale = Linear(hidden, latent, weight_initializer="glorot", bias_initializer="zeros")

    def forward(self, x: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The posterior given `(N, F)` features and `(2, E)` edges: rows are nodes, or graphs if pooled."""
        rows, layout = _encoded(self.backbone, self.pool, x, edge_index, layout)
        scale = self.log_scale(rows).clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE).exp()
        return PerGraph(Normal(self.loc(rows), scale, validate_args=False), layout)


class PointEncoder(nn.Module):
    """A code instead of a distribution: the encoder of plain autoencoders. Arguments as for `NormalEncoder`."""

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.hidden, self.latent = _positive(hidden, latent)
        self.pool = pool
        self.loc = Linear(hidden, latent, weight_initializer="glorot", bias_initializer="zeros")

    def forward(self, x: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PointMass:
        """The codes given `(N, F)` features and `(2, E)` edges."""
        rows, layout = _encoded(self.backbone, self.pool, x, edge_index, layout)
        return PointMass(self.loc(rows), layout)


class FreeNormal(nn.Module):
    """A free mean and scale for every row: variational inference without amortisation.

    It is tied to one data set in one order; it cannot encode anything else.

    Args:
        num_rows: Nodes of that data set.
        latent: Dimension D of the latents.
    """

    def __init__(self, num_rows: int, latent: int) -> None:
        super().__init__()
        self.num_rows, self.latent = _positive(num_rows, latent)
        self.loc = nn.Parameter(torch.zeros(num_rows, latent))
        self.log_scale = nn.Parameter(torch.zeros(num_rows, latent))

    @classmethod
    def of(cls, q: PerGraph | PointMass) -> FreeNormal:
        """Starts at a given posterior of normal latents, such as an amortised one; nothing is shared with it.

        Raises:
            TypeError: It is not normal.
        """
        if not isinstance(getattr(q, "base", None), Normal):
            kind = type(getattr(q, "base", q)).__name__
            raise TypeError(f"'q' must be a posterior of normal latents, as of NormalEncoder, got {kind}")
        free = cls(*q.mean.shape).to(q.mean)
        with torch.no_grad():
            free.loc.copy_(q.mean)
            free.log_scale.copy_(q.stddev.log())
        return free

    def forward(self, x: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The posterior of the data set; `x` only says that it is of the right size."""
        if x.size(0) != self.num_rows:
            raise ValueError(f"'x' must have the {self.num_rows} rows this FreeNormal was made for, got {x.size(0)}")
        return PerGraph(Normal(self.loc, self.log_scale.exp(), validate_args=False), layout)


def _positive(hidden: int, latent: int) -> tuple[int, int]:
    if hidden < 1 or latent < 1:
        raise ValueError(f"sizes must be positive, got {hidden} and a latent dimension of {latent}")
    return hidden, latent


def _encoded(
    backbone: nn.Module, pool: Aggregation | None, x: Tensor, edge_index: Tensor, layout: Layout | None
) -> tuple[Tensor, Layout | None]:
    if isinstance(layout, Tensor):
        raise TypeError("'layout' must be a graphvae.Layout, got a Tensor; use Layout.from_batch(batch)")
    rows = run_backbone(backbone, x, edge_index, layout)
    if pool is None:
        return rows, layout
    nodes = layout or Layout.single(rows.size(0), rows.device)
    graphs = Layout.singles(nodes.num_graphs, rows.device)
    return pool(rows, nodes.batch, dim_size=nodes.num_graphs), graphs
