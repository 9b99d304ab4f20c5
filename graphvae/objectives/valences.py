"""Training with a penalty on what cannot be: atoms with too many bonds, and graphs in pieces. No bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphvae.bounds import elbo
from graphvae.graphs import Graphs
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.objectives.latents import WeightedObjective
from graphvae.placed import PlacedGraphs
from graphvae.validation import check_positive

_SMALLEST = 1e-4  # Below this probability of being right the cost goes on as a line: finite, and with a gradient.


@dataclass(frozen=True)
class ValencePenalty:
    r"""An objective less a penalty on graphs decoded from the prior; not a bound. For `fit`, alone or in a `WarmUp`.

    \(\mathrm{objective} - w\, E_{z \sim p(z)}[v(z) + c(z)]\): v sums over places minus the logarithm of the probability
    that the bonds of the atom there, if there is one, are within its limit; c over all places but the first, that the
    atom there is joined to one at an earlier place. Both are exact for the independent factors decoded from z. c makes
    graphs connected, and asks for places in an order in which a graph can be built atom after atom, such as that of a
    SMILES.

    The likelihood of graphs knows of no rule; between the latents of molecules this draws the decoder to other
    molecules.

    Args:
        limits: The most bonds of each node type, a double bond counted twice.
        orders: Of each edge type, for instance (1, 2, 3).
        weight: w, in the units of the objective.
        objective: That takes `beta`.
        latents: Draws of z in each step.

    References:
        Ma, Chen & Xiao, "Constrained generation of semantically valid graphs via regularizing variational
        autoencoders", 2018, arXiv:1809.02630 (there a bound on expected violations).
    """

    limits: Sequence[int]
    orders: Sequence[int]
    weight: float
    objective: WeightedObjective = elbo
    latents: int = 256

    def __post_init__(self) -> None:
        check_positive(latents=self.latents, limits=min(self.limits), orders=min(self.orders))
        if not self.weight >= 0:
            raise ValueError(f"'weight' must not be negative, got {self.weight}")

    def __call__(self, model: GraphVAE, graphs: Graphs, beta: float = 1.0) -> Tensor:
        """`(B,)`; the penalty, which is of no graph, is taken off every one.

        Raises:
            ValueError: The model has no decoder with as many types of nodes and edges.
        """
        types = (len(self.limits), len(self.orders))
        if model.decoder is None or (model.decoder.node_types, model.edge_types) != types:
            raise ValueError(
                f"'model' must have a 'decoder' with {len(self.limits)} node types and {len(self.orders)} edge types, "
                "one for each limit and order"
            )
        batch = model.batch(graphs)
        z = model.prior(Layout.singles(self.latents, batch.ptr.device)).sample()
        decoded = model.decoder(z)
        penalty = valence_penalty(decoded, self.limits, self.orders) + connection_penalty(decoded)
        return self.objective(model, batch, beta=beta) - self.weight * penalty.mean()


def valence_penalty(decoded: PlacedGraphs, limits: Sequence[int], orders: Sequence[int]) -> Tensor:
    """Minus the log-probabilities of all places that what is there keeps to its limit, summed: `(B,)`, at least 0."""
    joined = _joined(decoded)
    within = joined.new_zeros(*joined.shape[:2], max(limits) + 1)
    within[..., 0] = 1  # The probabilities of the sums of bonds so far; what is beyond all limits is let go.
    for other in joined.unbind(2):
        none = within * (1 - other.sum(2, keepdim=True))
        moved = [_shifted(within, order) * other[..., t, None] for t, order in enumerate(orders)]
        within = torch.stack([none, *moved]).sum(0)
    kept = within.cumsum(2)[..., list(limits)]
    found = kept if decoded.nodes is None else kept * decoded.nodes.exp()
    return _cost(decoded.existence.sigmoid(), 1 - found.sum(2))


def connection_penalty(decoded: PlacedGraphs) -> Tensor:
    """Minus the log-probabilities of all places but the first to be joined to an earlier one, summed: `(B,)`."""
    apart = (1 - _joined(decoded).sum(3).tril(-1)).prod(2)
    return _cost(decoded.existence.sigmoid()[:, 1:], apart[:, 1:])


def _joined(decoded: PlacedGraphs) -> Tensor:
    """`(B, k, k, T)`: of an atom at b that is joined to the one at a, if there is one, by an edge of each type."""
    edges = decoded.edge_probabilities().permute(0, 2, 3, 1)
    return edges * decoded.existence.sigmoid()[:, None, :, None]


def _shifted(sums: Tensor, order: int) -> Tensor:
    return torch.nn.functional.pad(sums, (order, 0))[..., : sums.size(-1)]


def _cost(exists: Tensor, wrong: Tensor) -> Tensor:
    right = 1 - exists * wrong
    line = math.log(_SMALLEST) + right / _SMALLEST - 1
    return -torch.where(right > _SMALLEST, right.clamp(min=_SMALLEST).log(), line).sum(1)
