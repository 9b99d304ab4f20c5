"""`GraphVAE`: the factors of the generative story, held together."""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint
from torch_geometric.data import Batch

from graphvae.distributions import BernoulliEdges, PerGraph, PointMass
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import Graphs, as_batch, batch_of, field
from graphvae.layout import Layout
from graphvae.orderings import Ordering
from graphvae.sparse import entry

_SUPPORTS = {
    constraints.boolean: "0 or 1 (grey values: BernoulliFeatures(..., intensities=True))",
    constraints.unit_interval: "in [0, 1]",
    constraints.nonnegative_integer: "counts 0, 1, 2, ...",
}


class EdgeFactor(Protocol):
    """p(A | Z): what an edge decoder of your own must offer, beside being an `nn.Module`.

    Attributes:
        directed: Whether pairs are ordered; if not, graphs must hold both directions of every edge.
    """

    directed: bool

    def __call__(self, z: Tensor, layout: Layout | None = None) -> BernoulliEdges | FixedOrderEdges:
        """A distribution over edges: `log_prob(edge_index) -> (B,)`, `logits(pairs) -> (P,)`, `sample()`.

        One of a decoder to numbered places may have `log_probs(edge_index, orders (K, N)) -> (K, B)`, with which bounds
        over orderings score many orders of what was decoded once.
        """


class FeatureFactor(Protocol):
    """p(X | A, Z): what a feature decoder of your own must offer, beside being an `nn.Module`.

    Attributes:
        features: Number F of features.
        support: A `torch.distributions` constraint on the values of x.
    """

    features: int
    support: Constraint

    def __call__(self, z: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """A distribution over features: `log_prob(x) -> (B,)`, `sample()`, `mean`."""


class GraphVAE(nn.Module):
    """n ~ p(n), Z ~ p(Z), A ~ p(A | Z), X ~ p(X | A, Z), with the encoder q(Z | X, A).

    Vectors are the edgeless case: `GraphVAE(prior, encoder, features=...)` on `edgeless(x)`.

    Args:
        prior: p(Z): `prior(layout)`.
        encoder: q(Z | X, A): `encoder(x, edge_index, layout)`.
        edges: p(A | Z): `edges(z, layout)`; None to leave the edges out of the likelihood.
        features: p(X | A, Z): `features(z, edge_index, layout)`; None to leave the features out.
        sizes: p(n): `sizes()`; needed to sample graphs, and part of the likelihood when given.
        orderings: r(order | G): `orderings(graphs)`; for bounds over orderings, where it is trained and saved with the
            rest. The likelihood does not know of it.
    """

    def __init__(
        self,
        prior: nn.Module,
        encoder: nn.Module,
        edges: EdgeFactor | None = None,
        features: FeatureFactor | None = None,
        sizes: nn.Module | None = None,
        orderings: Ordering | None = None,
    ) -> None:
        super().__init__()
        if edges is None and features is None:
            raise ValueError("'edges' or 'features' must be given, a model of neither has no likelihood")
        for name, factor, needs in (("edges", edges, ("directed",)), ("features", features, ("features", "support"))):
            lacking = [need for need in needs if factor is not None and not hasattr(factor, need)]
            if lacking:
                raise TypeError(f"'{name}' must have the attribute '{lacking[0]}', {type(factor).__name__} has none")
        if not isinstance(orderings, Ordering | None):
            raise TypeError(f"'orderings' must be an Ordering, such as orderings.BreadthFirst(), got {orderings!r}")
        self.prior, self.encoder = prior, encoder
        self.edges, self.features, self.sizes = edges, features, sizes
        self.orderings = orderings

    def batch(self, graphs: Graphs) -> Batch:
        """Checks `graphs` against this model and returns them as one batch on the model's device.

        A batch that it returned passes unchecked.

        Raises:
            TypeError, ValueError: As `as_batch`, and for features the likelihood gives no probability.
        """
        edges, features = self.edges, self.features
        batch = as_batch(graphs, directed=edges is None or edges.directed)
        anchor = _first_parameter(self)
        facts = _facts(anchor.dtype, *(() if features is None else (features.features, features.support)))
        if field(batch, "checked_for") != facts:
            self._check(batch, anchor.dtype)
            batch = copy.copy(batch)
            batch.checked_for = facts
        return batch if field(batch, "edge_index").device == anchor.device else copy.copy(batch).to(anchor.device)

    def _check(self, batch: Batch, dtype: torch.dtype) -> None:
        if batch.x is None:
            raise ValueError(
                "'graphs' must have node features 'x'; torch_geometric.transforms.OneHotDegree or Constant make some"
            )
        if batch.x.dtype != dtype:
            raise ValueError(f"'x' must be {dtype} as the model is, got {batch.x.dtype}; use x.to({dtype})")
        if self.features is None:
            return
        if batch.x.size(1) != self.features.features:
            raise ValueError(f"'x' must have the model's {self.features.features} features, got {batch.x.size(1)}")
        outside = _first_outside(self.features.support, batch.x)
        if outside is not None:
            support = _SUPPORTS.get(self.features.support, str(self.features.support).removesuffix("()"))
            raise ValueError(f"'x' must be {support} for {type(self.features).__name__}, got {outside}")

    def posterior(self, graphs: Graphs) -> PerGraph | PointMass:
        """q(Z | X, A)."""
        batch = self.batch(graphs)
        return self.encoder(field(batch, "x"), field(batch, "edge_index"), layout=field(batch, "layout"))

    def log_likelihood(self, graphs: Graphs, z: Tensor, exact: bool = False) -> Tensor:
        """Log p(n) + log p(A | z) + log p(X | A, z) of the factors given, in nats: `(B,)`.

        Convention: labelled graphs. Given an equivariant model this is also the symmetrised likelihood.

        Args:
            graphs: A PyG graph, batch or list.
            z: Latents, one row per node or per graph, as the factors take them.
            exact: Refuse a log p(A | z) that is only estimated.

        Raises:
            ValueError: A factor does not give one number per graph; or it estimates and `exact` was asked for.
        """
        batch = self.batch(graphs)
        x, edge_index, layout = (field(batch, name) for name in ("x", "edge_index", "layout"))
        parts: dict[str, Tensor] = {}
        if self.sizes is not None:
            parts["sizes"] = self.sizes().log_prob(layout.sizes)
        if self.edges is not None:
            edges = self.edges(z, layout)
            if exact:
                self.check_exact(edges)
            parts["edges"] = edges.log_prob(edge_index)
        if self.features is not None:
            parts["features"] = self.features(z, edge_index, layout).log_prob(x.to_dense())
        for name, value in parts.items():
            if value.shape != (layout.num_graphs,):
                count = f"each of the {layout.num_graphs} graphs, got shape {tuple(value.shape)}"
                raise ValueError(f"'{name}' must give one log-probability for {count}; does it pass 'layout' on?")
        return torch.stack(list(parts.values())).sum(0) if len(parts) > 1 else next(iter(parts.values()))

    def check_exact(self, edges: object) -> None:
        """Checks that neither the edge factor, with what it holds, nor its distribution says that it is estimated.

        Raises:
            ValueError: One does.
        """
        factor = self.edges
        parts = factor.modules() if isinstance(factor, nn.Module) else [factor]
        if any(getattr(part, "estimated", False) for part in (edges, *parts)):
            raise ValueError(
                f"'model' must compute log p(A|Z), its edge factor {type(factor).__name__} estimates it, and noise "
                "inside the logarithm breaks the bound; use the factor it wraps, model.edges.factor, which sums exactly"
            )

    @torch.no_grad()
    def sample(self, num_graphs: int, generator: torch.Generator | int | None = None) -> Batch:
        """Draws graphs from the model: sizes, latents, edges, then features given both.

        Without an edge factor and without p(n) every graph is a vector.

        Args:
            num_graphs: How many.
            generator: Or a seed; PyTorch's global generator if None. One of another device seeds one of the model's.
        """
        if num_graphs < 1:
            raise ValueError(f"'num_graphs' must be positive, got {num_graphs}")
        if self.sizes is None and self.edges is not None:
            raise ValueError("'sizes' must be given to sample graphs, for example sizes=EmpiricalSizes(train_sizes)")
        device = next(self.parameters()).device
        source = torch.Generator(device).manual_seed(generator) if isinstance(generator, int) else generator
        generator = _on(device, source)
        if self.sizes is None:
            layout = Layout.singles(num_graphs, device)
        else:
            layout = Layout.of(self.sizes().sample(num_graphs, generator))
        whole_graphs = getattr(self.encoder, "pool", None) is not None
        z = self.prior(Layout.singles(num_graphs, device) if whole_graphs else layout).sample(generator)
        edge_index = layout.ptr.new_empty(2, 0) if self.edges is None else self.edges(z, layout).sample(generator)
        x = None if self.features is None else self.features(z, edge_index, layout).sample(generator)
        return batch_of(x, edge_index, layout, directed=self.edges is not None and self.edges.directed)


def _first_parameter(module: nn.Module) -> nn.Parameter:
    """Some parameter: `next(module.parameters())` takes several times as long, and every step asks."""
    waiting: list[nn.Module | None] = [module]
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        for parameter in part._parameters.values():
            if parameter is not None:
                return parameter
        waiting.extend(part._modules.values())
    raise ValueError("'model' must have a parameter, whose type and device say those of its data; it has none")


@lru_cache(maxsize=64)
def _facts(dtype: torch.dtype, features: int | None = None, support: Constraint | None = None) -> str:
    """What a batch is checked for, in words."""
    return f"{dtype}" if features is None else f"{dtype}, {features} of {support}"


def _first_outside(support: Constraint, x: Tensor) -> str | None:
    """The first value of dense or CSR features that is not in the support, with its place."""
    sparse = x.layout == torch.sparse_csr
    if sparse and support.event_dim == 0 and bool(support.check(x.values().new_zeros(()))):
        outside = (~support.check(x.values())).nonzero()
        return f"x{list(entry(x, int(outside[0])))} = {x.values()[outside[0]].item()}" if outside.numel() else None
    dense = x.to_dense()
    outside = (~support.check(dense)).nonzero()
    return f"x{outside[0].tolist()} = {dense[tuple(outside[0])].tolist()}" if outside.numel() else None


def _on(device: torch.device, generator: torch.Generator | None) -> torch.Generator | None:
    if generator is None or generator.device.type == device.type:
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(device).manual_seed(int(seed))
