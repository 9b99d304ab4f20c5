"""q(Z | X, A): a distribution on top of any PyG network, called `encoder(x, edge_index)` like any PyG module."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, OneHotCategorical
from torch_geometric.nn import Linear
from torch_geometric.nn.aggr import Aggregation

from graphvae.backbones import run_backbone
from graphvae.distributions import PerGraph, PointMass
from graphvae.families import normal
from graphvae.layout import Layout
from graphvae.sparse import at_least_single

_LARGEST_LOG_SCALE = 10.0


class RowEncoder(nn.Module, ABC):
    """A backbone, pooling if asked for, and a distribution given each row of what comes out.

    Args:
        backbone: `(x, edge_index) -> (N, hidden)`: any PyG network, or one without `edge_index` for vectors.
        hidden: Width of the backbone's output.
        latent: Dimension D of the latents.
        pool: A PyG aggregation such as `SumAggregation()`; the latents are then one per graph (one in all if called
            without a layout), for factors that decode whole graphs.
    """

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__()
        if not isinstance(backbone, nn.Module):
            raise TypeError(f"'backbone' must be a torch.nn.Module, got {type(backbone).__name__}")
        self.backbone = backbone
        self.hidden, self.latent = _positive(hidden, latent)
        self.pool = pool

    def forward(
        self, x: Tensor, edge_index: Tensor, layout: Layout | None = None, edge_type: Tensor | None = None
    ) -> PerGraph | PointMass:
        """The posterior given `(N, F)` features and `(2, E)` edges, of types `(E,)`: rows are nodes, graphs if pooled.

        A backbone that takes `edge_type` gets it, as PyG's RGCNConv does.
        """
        if isinstance(layout, Tensor):
            raise TypeError("'layout' must be a graphvae.Layout, got a Tensor; use Layout.from_batch(batch)")
        rows = run_backbone(self.backbone, x, edge_index, layout, edge_type)
        if self.pool is None:
            return self.given(rows, layout)
        nodes = layout or Layout.single(rows.size(0), rows.device)
        graphs = Layout.singles(nodes.num_graphs, rows.device)
        return self.given(self.pool(rows, nodes.batch, dim_size=nodes.num_graphs), graphs)

    @abstractmethod
    def given(self, rows: Tensor, layout: Layout | None) -> PerGraph | PointMass:
        """The distribution given `(R, hidden)` rows."""

    def _head(self) -> Linear:
        return Linear(self.hidden, self.latent, weight_initializer="glorot", bias_initializer="zeros")


class NormalEncoder(RowEncoder):
    r"""Independent normal latents, \(q(z_i | X, A) = N(\mu_i, \mathrm{diag}\,\sigma_i^2)\), two linear heads.

    Arguments as for `RowEncoder`.

    References:
        Kipf & Welling, "Variational graph auto-encoders", 2016, arXiv:1611.07308.
    """

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__(backbone, hidden, latent, pool)
        self.loc, self.log_scale = self._head(), self._head()

    def given(self, rows: Tensor, layout: Layout | None) -> PerGraph:
        """Normal: one head gives the mean, one the logarithm of the standard deviation."""
        scale = self.log_scale(rows).clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE).exp()
        return PerGraph(normal(self.loc(rows), scale), layout)


class PointEncoder(RowEncoder):
    """A code instead of a distribution: the encoder of plain autoencoders. Arguments as for `RowEncoder`."""

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__(backbone, hidden, latent, pool)
        self.loc = self._head()

    def given(self, rows: Tensor, layout: Layout | None) -> PointMass:
        """The codes."""
        return PointMass(self.loc(rows), layout)


class BernoulliEncoder(RowEncoder):
    r"""Independent binary latents, \(q(z_{id} = 1 | X, A) = \sigma(\ell_{id})\). Arguments as for `RowEncoder`.

    Draws have no gradient: see `bounds.expected_elbo`, and `bounds.importance_bound` with `Gradient.VIMCO`.
    """

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__(backbone, hidden, latent, pool)
        self.logits = self._head()

    def given(self, rows: Tensor, layout: Layout | None) -> PerGraph:
        """Bernoulli: the head gives log-odds."""
        return PerGraph(Bernoulli(logits=at_least_single(self.logits(rows)), validate_args=False), layout)


class CategoricalEncoder(RowEncoder):
    """One of `latent` classes for every row, as a one-hot row: with latents of nodes, the blocks of a block model.

    Arguments as for `RowEncoder`; of draws, the same holds as for `BernoulliEncoder`.
    """

    def __init__(self, backbone: nn.Module, hidden: int, latent: int, pool: Aggregation | None = None) -> None:
        super().__init__(backbone, hidden, latent, pool)
        self.logits = self._head()

    def given(self, rows: Tensor, layout: Layout | None) -> PerGraph:
        """Categorical over one-hot rows: the head gives log-odds."""
        return PerGraph(OneHotCategorical(logits=at_least_single(self.logits(rows)), validate_args=False), layout)


class FreeNormal(nn.Module):
    """A free mean and scale for every row: variational inference without amortisation.

    It is tied to one data set in one order; it cannot encode anything else, and `fit` trains it on the whole of it in
    every step.

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
        base = normal_base(q)
        free = cls(*base.loc.shape).to(base.loc)
        with torch.no_grad():
            free.loc.copy_(base.loc)
            free.log_scale.copy_(base.scale.log())
        return free

    def forward(self, x: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """The posterior of the data set; `x` only says that it is of the right size."""
        if x.size(0) != self.num_rows:
            raise ValueError(
                f"'x' must have the {self.num_rows} rows this FreeNormal was made for, got {x.size(0)}; "
                "a NormalEncoder encodes any"
            )
        return PerGraph(Normal(self.loc, self.log_scale.exp(), validate_args=False), layout)


def normal_base(q: PerGraph | PointMass) -> Normal:
    """The distribution over rows of a posterior of normal latents.

    Raises:
        TypeError: It is not normal.
    """
    base = getattr(q, "base", q)
    if not isinstance(base, Normal):
        raise TypeError(f"'q' must be of normal latents, as of NormalEncoder, got {type(base).__name__}")
    return base


def _positive(hidden: int, latent: int) -> tuple[int, int]:
    if hidden < 1 or latent < 1:
        raise ValueError(f"sizes must be positive, got {hidden} and a latent dimension of {latent}")
    return hidden, latent
