"""`GraphVAE`: the factors of the generative story, held together."""

from __future__ import annotations

import copy
from functools import lru_cache
from numbers import Integral

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint
from torch_geometric.data import Batch

from graphvae.distributions import PerGraph, PointMass
from graphvae.graphs import Graphs, as_batch, batch_of, field
from graphvae.layout import Layout
from graphvae.orderings import Ordering
from graphvae.protocols import EdgeFactor, FeatureFactor, GraphDecoder
from graphvae.signatures import takes
from graphvae.validation import check_positive, check_support, check_types

__all__ = ["EdgeFactor", "FeatureFactor", "GraphDecoder", "GraphVAE"]


class GraphVAE(nn.Module):
    """n ~ p(n), Z ~ p(Z), A ~ p(A | Z), X ~ p(X | A, Z), with the encoder q(Z | X, A).

    Vectors are the edgeless case: `GraphVAE(prior, encoder, features=...)` on `edgeless(x)`. A decoder of whole graphs
    at numbered places takes the place of three factors: `GraphVAE(prior, encoder, decoder=DenseGraph(...))`.

    Args:
        prior: p(Z): `prior(layout)`.
        encoder: q(Z | X, A): `encoder(x, edge_index, layout)`; also `edge_type`, if it takes one and graphs have it.
        edges: p(A | Z): `edges(z, layout)`; None to leave the edges out of the likelihood.
        features: p(X | A, Z): `features(z, edge_index, layout)`; None to leave the features out.
        sizes: p(n): `sizes()`; needed to sample graphs, and part of the likelihood when given.
        decoder: p(n, A, X | z): `decoder(z)`, see `decoders`; instead of `edges`, `features` and `sizes`.
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
        decoder: GraphDecoder | None = None,
    ) -> None:
        super().__init__()
        if edges is None and features is None and decoder is None:
            raise ValueError("'edges', 'features' or 'decoder' must be given, a model of none has no likelihood")
        if decoder is not None and not (edges is features is sizes is None):
            raise ValueError("'decoder' must be given alone, it stands for 'edges', 'features' and 'sizes'")
        if decoder is not None and getattr(encoder, "pool", None) is None:
            raise ValueError("'encoder' must have 'pool' for a 'decoder', which decodes latents of graphs")
        needed = (
            ("edges", edges, ("directed",)),
            ("features", features, ("features", "support")),
            ("decoder", decoder, ("max_nodes", "node_types", "edge_types")),
        )
        for name, factor, needs in needed:
            lacking = [need for need in needs if factor is not None and not hasattr(factor, need)]
            if lacking:
                raise TypeError(f"'{name}' must have the attribute '{lacking[0]}', {type(factor).__name__} has none")
        widths = [getattr(part, "latent", None) for part in (prior, encoder)]
        if all(isinstance(width, int) for width in widths) and widths[0] != widths[1]:
            raise ValueError(
                f"'prior' must have as many latents as the encoder gives, got {widths[0]} and {widths[1]}; give both "
                "the same 'latent'"
            )
        if not isinstance(orderings, Ordering | None):
            raise TypeError(f"'orderings' must be an Ordering, such as orderings.BreadthFirst(), got {orderings!r}")
        self.prior, self.encoder = prior, encoder
        self.edges, self.features, self.sizes = edges, features, sizes
        self.orderings, self.decoder = orderings, decoder

    @property
    def models_features(self) -> bool:
        """Whether x is part of what has a probability."""
        return self.features is not None or (self.decoder is not None and self.decoder.node_types > 0)

    @property
    def edge_types(self) -> int:
        """T if types of edges are part of what has a probability, else 0."""
        return int(getattr(self.edges if self.decoder is None else self.decoder, "edge_types", 0))

    def batch(self, graphs: Graphs) -> Batch:
        """Checks `graphs` against this model and returns them as one batch on the model's device.

        A batch that it returned passes unchecked.

        Raises:
            TypeError, ValueError: As `as_batch`, and for features the likelihood gives no probability.
        """
        edges, decoder = self.edges, self.decoder
        batch = as_batch(graphs, directed=decoder is None and (edges is None or edges.directed))
        anchor = _first_parameter(self)
        facts = _facts(
            anchor.dtype, self._features_wanted(), self.edge_types, 0 if decoder is None else decoder.max_nodes
        )
        if field(batch, "checked_for") != facts:
            self._check(batch, anchor.dtype)
            batch = copy.copy(batch)
            batch.checked_for = facts
        return batch if field(batch, "edge_index").device == anchor.device else copy.copy(batch).to(anchor.device)

    def _features_wanted(self) -> tuple[int, Constraint] | None:
        """Columns of x and what they must be, if x is part of the likelihood."""
        if self.features is not None:
            return self.features.features, self.features.support
        if self.decoder is not None and self.decoder.node_types:
            return self.decoder.node_types, constraints.one_hot
        return None

    def _check(self, batch: Batch, dtype: torch.dtype) -> None:
        if batch.x is None:
            raise ValueError(
                "'graphs' must have node features 'x'; torch_geometric.transforms.OneHotDegree or Constant make some"
            )
        if batch.x.dtype != dtype:
            raise ValueError(f"'x' must be {dtype} as the model is, got {batch.x.dtype}; use x.to({dtype})")
        largest = max(batch.layout.host_sizes)
        if self.decoder is not None and largest > self.decoder.max_nodes:
            places = f"{self.decoder.max_nodes} for a graph of {largest} nodes"
            raise ValueError(f"'max_nodes' of the decoder must be at least the size of every graph, got {places}")
        check_types(field(batch, "edge_type"), self.edge_types)
        wanted = self._features_wanted()
        if wanted is not None:
            check_support(batch.x, *wanted, user=type(self.features or self.decoder).__name__)

    def posterior(self, graphs: Graphs) -> PerGraph | PointMass:
        """q(Z | X, A)."""
        batch = self.batch(graphs)
        x, edge_index, layout = (field(batch, name) for name in ("x", "edge_index", "layout"))
        return self.encoder(x, edge_index, layout=layout, **_types_for(self.encoder, field(batch, "edge_type")))

    def log_likelihood(self, graphs: Graphs, z: Tensor, exact: bool = False) -> Tensor:
        """Log p(n) + log p(A | z) + log p(X | A, z) of the factors given, in nats: `(B,)`.

        Convention: labelled graphs. Given an equivariant model this is also the symmetrised likelihood. With a
        `decoder` node i is at place i.

        Args:
            graphs: A PyG graph, batch or list.
            z: Latents, one row per node or per graph, as the factors take them.
            exact: Refuse a log p(A | z) that is only estimated.

        Raises:
            ValueError: A factor does not give one number per graph; or it estimates and `exact` was asked for.
        """
        batch = self.batch(graphs)
        x, edge_index, layout = (field(batch, name) for name in ("x", "edge_index", "layout"))
        edge_type = field(batch, "edge_type")
        parts: dict[str, Tensor] = {}
        if self.decoder is not None:
            parts["decoder"] = self.decoder(z).log_prob(batch)
        if self.sizes is not None:
            parts["sizes"] = self.sizes().log_prob(layout.sizes)
        if self.edges is not None:
            edges = self.edges(z, layout)
            if exact:
                self.check_exact(edges)
            parts["edges"] = edges.log_prob(*self.edges_of(batch))
        if self.features is not None:
            types = _types_for(self.features, edge_type)
            parts["features"] = self.features(z, edge_index, layout, **types).log_prob(x.to_dense())
        for name, value in parts.items():
            if value.shape != (layout.num_graphs,):
                count = f"each of the {layout.num_graphs} graphs, got shape {tuple(value.shape)}"
                raise ValueError(f"'{name}' must give one log-probability for {count}; does it pass 'layout' on?")
        return torch.stack(list(parts.values())).sum(0) if len(parts) > 1 else next(iter(parts.values()))

    def edges_of(self, batch: Batch) -> tuple[Tensor, ...]:
        """The edges of a checked batch as this model's distributions over edges take them: with types or without."""
        return (batch.edge_index, batch.edge_type) if self.edge_types else (batch.edge_index,)

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
    def sample(
        self,
        num_graphs: int,
        generator: torch.Generator | int | None = None,
        most_likely: bool = False,
        spanning: bool = False,
    ) -> Batch:
        """Draws graphs from the model: sizes, latents, edges, then features given both.

        Without an edge factor and without p(n) every graph is a vector.

        Args:
            num_graphs: How many.
            generator: Or a seed; PyTorch's global generator if None. One of another device seeds one of the model's.
            most_likely: Decode each latent that is drawn to its most likely graph, for a model with a `decoder`. These
                are no draws from the model: what the decoder is unsure of goes away.
            spanning: With `most_likely`, also join every graph by its likeliest spanning tree, see `PlacedGraphs.mode`.

        Raises:
            TypeError, ValueError: No positive integer, no generator or seed, or what the model cannot do.
        """
        check_positive(num_graphs=num_graphs)
        if isinstance(generator, bool) or not isinstance(generator, torch.Generator | Integral | None):
            raise TypeError(f"'generator' must be a torch.Generator, a seed (an integer) or None, got {generator!r}")
        if most_likely and self.decoder is None:
            raise ValueError("'most_likely' must be False for a model without a 'decoder' of whole graphs")
        if spanning and not most_likely:
            raise ValueError("'spanning' must be False unless 'most_likely' is True, it decodes to one graph")
        if self.sizes is None and self.edges is not None:
            raise ValueError("'sizes' must be given to sample graphs, for example sizes=EmpiricalSizes(train_sizes)")
        device = next(self.parameters()).device
        source = torch.Generator(device).manual_seed(int(generator)) if isinstance(generator, Integral) else generator
        generator = _on(device, source)
        if self.decoder is not None:
            decoded = self.decoder(self.prior(Layout.singles(num_graphs, device)).sample(generator))
            return decoded.mode(spanning) if most_likely else decoded.sample(generator)
        if self.sizes is None:
            layout = Layout.singles(num_graphs, device)
        else:
            layout = Layout.of(self.sizes().sample(num_graphs, generator))
        whole_graphs = getattr(self.encoder, "pool", None) is not None
        z = self.prior(Layout.singles(num_graphs, device) if whole_graphs else layout).sample(generator)
        edge_index, edge_type, x = layout.ptr.new_empty(2, 0), None, None
        if self.edges is not None:
            drawn = self.edges(z, layout).sample(generator)
            edge_index, edge_type = drawn if self.edge_types else (drawn, None)
        if self.features is not None:
            types = _types_for(self.features, edge_type)
            x = self.features(z, edge_index, layout, **types).sample(generator)
        directed = self.edges is not None and self.edges.directed
        return batch_of(x, edge_index, layout, directed, edge_type=edge_type)


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
def _facts(dtype: torch.dtype, features: tuple[int, Constraint] | None, edge_types: int, places: int) -> str:
    """What a batch is checked for, in words."""
    return f"{dtype}, x {features}, {edge_types} types of edges, {places} places"


def _types_for(factor: object, edge_type: Tensor | None) -> dict[str, Tensor]:
    """The types of edges, as an argument for a factor that takes them."""
    wanted = edge_type is not None and isinstance(factor, nn.Module) and takes(factor, "edge_type")
    return {"edge_type": edge_type} if wanted and edge_type is not None else {}


def _on(device: torch.device, generator: torch.Generator | None) -> torch.Generator | None:
    if generator is None or generator.device.type == device.type:
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(device).manual_seed(int(seed))
