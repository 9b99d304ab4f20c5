"""Exact likelihoods of tiny graphs, by quadrature or a sum over the latent and a sum over every order of the nodes.

For checking bounds: the cost is the number of nodes of the quadrature times n! times that of one likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations, permutations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal
from torch_geometric.data import Batch

from graphvae.bounds.chunks import log_likelihoods
from graphvae.conventions import Convention, convert
from graphvae.expectations import codes, log_probs
from graphvae.graphs import Graphs, as_batch, copies, relabelled
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.priors import StandardNormal
from graphvae.validation import check_positive

_LARGEST_LATENT = 3
_LARGEST_GRAPH = 8
_MOST_POINTS = 256
_ROWS = 1 << 18  # Rows of nodes evaluated at a time.


@torch.no_grad()
def quadrature(model: GraphVAE, graphs: Graphs, points: int = 64) -> Tensor:
    r"""\(\log p(G) = \log \int p(G | z)\, p(z)\, dz\) by Gauss-Hermite quadrature, labelled: `(B,)` float64.

    The error falls off quickly with the number of points if p(G | z) is smooth in z; compare two numbers of points to
    see it. The points are those for N(0, I), so a prior that is much narrower or wider, or has several modes, needs
    more. The encoder takes no part. As in `log_likelihood`, p(n) is part of p(G) if the model has it.

    Args:
        model: With one latent row per graph (its encoder has `pool`, or graphs are vectors), of at most 3 dimensions.
        graphs: A PyG graph, batch or list.
        points: In each dimension.

    Raises:
        TypeError: The prior does not say its dimension, as those of `priors` do.
        ValueError: Latents of several nodes, too many dimensions, or a likelihood or prior that is only estimated.
    """
    batch = model.batch(graphs)
    return _integrated(model, batch, points, partial(model.log_likelihood, exact=True))


def _integrated(
    model: GraphVAE, batch: Batch, points: int, log_likelihood: Callable[[Batch, Tensor], Tensor], terms: int = 1
) -> Tensor:
    """`(B,)` float64 log of the mean over the prior of what `log_likelihood` is of, the sum of some `terms`."""
    check_positive(points=points)
    if points > _MOST_POINTS:
        raise ValueError(f"'points' must be at most {_MOST_POINTS}, where weights can be computed, got {points}")
    z, log_weights = _gauss_hermite(points, _latent(model, batch))
    anchor = next(model.parameters())
    z = z.to(anchor)
    if not isinstance(model.prior, StandardNormal):
        standard = Normal(0.0, 1.0, validate_args=False).log_prob(z).sum(1)
        ratio = model.prior(Layout.singles(len(z), z.device)).log_prob(z) - standard
        log_weights = log_weights + ratio.to(log_weights)
    found = []
    for part in z.split(max(1, _ROWS // (terms * batch.layout.num_rows))):
        rows = part.repeat_interleave(batch.layout.num_graphs, 0)
        found.append(log_likelihood(copies(batch, len(part)), rows).view(len(part), -1))
    return (torch.cat(found).double() + log_weights.to(anchor.device)[:, None]).logsumexp(0)


@torch.no_grad()
def enumerated(model: GraphVAE, graphs: Graphs, most: int = 2**12) -> Tensor:
    r"""\(\log p(G) = \log \sum_z p(G | z)\, p(z)\) over every code of discrete latents, labelled: `(B,)` float64.

    The encoder takes no part. As in `log_likelihood`, p(n) is part of p(G) if the model has it.

    Args:
        model: With a discrete prior, such as `BernoulliPrior`.
        graphs: A PyG graph, batch or list.
        most: The largest number of codes of a graph.

    Raises:
        TypeError, ValueError: As `expectations.codes`; or a likelihood is only estimated.
    """
    batch = model.batch(graphs)
    pooled = getattr(model.encoder, "pool", None) is not None
    p = model.prior(Layout.singles(batch.layout.num_graphs, batch.ptr.device) if pooled else batch.layout)
    z, present = codes(p, most)
    log_p = log_probs(p, z).double().masked_fill(~present, -torch.inf)
    at_a_time = max(1, _ROWS // batch.layout.num_rows)
    return (log_likelihoods(model, batch, z, at_a_time, exact=True).double() + log_p).logsumexp(0)


def every_order(graphs: Graphs) -> Tensor:
    """All n! orders of graphs that all have n nodes, n at most 8: `(n!, N)`, for `graphs.relabelled`.

    Raises:
        ValueError: The graphs differ in size, or are larger.
    """
    layout = as_batch(graphs, directed=True).layout
    orders = torch.tensor(list(permutations(range(_one_size(layout)))), device=layout.ptr.device)
    return (orders[:, None] + layout.ptr[:-1, None]).flatten(1)


def every_placement(graphs: Graphs, max_nodes: int, in_order: bool = False) -> Tensor:
    """All ways to put graphs that all have n nodes, n at most 8, at k places: `(k!/(k - n)!, N)`, or k over n in order.

    Raises:
        ValueError: The graphs differ in size, or are larger, or there are more than 8 places.
    """
    layout = as_batch(graphs, directed=True).layout
    size = _one_size(layout)
    if max_nodes > _LARGEST_GRAPH:
        raise ValueError(f"'max_nodes' must be at most {_LARGEST_GRAPH} for a sum over places, got {max_nodes}")
    choices = (combinations if in_order else permutations)(range(max_nodes), size)
    return torch.tensor(list(choices), device=layout.ptr.device).repeat(1, layout.num_graphs)


def _one_size(layout: Layout) -> int:
    sizes = sorted(set(layout.host_sizes))
    if len(sizes) > 1 or sizes[0] > _LARGEST_GRAPH:
        raise ValueError(f"'graphs' must all have the same number of nodes, at most {_LARGEST_GRAPH}, got {sizes}")
    return sizes[0]


@torch.no_grad()
def exact(model: GraphVAE, graphs: Graphs, convention: Convention, points: int = 64) -> Tensor:
    """Log p of tiny graphs in a convention, `(B,)` float64 in nats.

    Args:
        model: As for `quadrature`; it need not be equivariant.
        graphs: All of the same size; up to 5 or 6 nodes is quick.
        convention: LABELLED takes the graphs as they are numbered; the others sum over all orders. A `decoder` has
            more places than that: its nodes keep their order at any of them, or take any.
        points: Of the quadrature, in each dimension.

    Raises:
        TypeError, ValueError: As `quadrature`, and `every_order` if the sum is needed.
    """
    labelled = convention is Convention.LABELLED
    batch = model.batch(graphs)
    if model.decoder is not None:
        summed = _over_places(model, batch, points, every_placement(batch, model.decoder.max_nodes, labelled))
    elif labelled:
        return quadrature(model, batch, points)
    else:
        parts = every_order(batch).split(max(1, _ROWS // batch.layout.num_rows))
        found = [quadrature(model, relabelled(batch, part), points).view(len(part), -1) for part in parts]
        summed = torch.cat(found).logsumexp(0)
    if labelled:
        return summed
    return convert(
        summed, batch, Convention.SUMMED, convention, features=model.models_features, types=model.edge_types > 0
    )


def _over_places(model: GraphVAE, batch: Batch, points: int, places: Tensor) -> Tensor:
    """`(B,)` float64 log of the sum over `places` `(M, N)` of p(graph at these places)."""
    assert model.decoder is not None
    decoder = model.decoder

    def summed(whole: Batch, z: Tensor) -> Tensor:
        times = whole.layout.num_rows // places.size(1)
        return decoder(z).log_probs(whole, places.repeat(1, times)).logsumexp(0)

    return _integrated(model, batch, points, summed, terms=len(places))


def _latent(model: GraphVAE, batch: Batch) -> int:
    """The dimension of a latent that quadrature can integrate over."""
    latent = getattr(model.prior, "latent", None)
    if not isinstance(latent, int):
        name = type(model.prior).__name__
        raise TypeError(f"'model' must have a prior with a 'latent' dimension for quadrature, {name} has none")
    if any(getattr(part, "stochastic", False) for part in model.prior.modules()):
        name = type(model.prior).__name__
        raise ValueError(
            f"'model' must have a prior whose density is computed for quadrature, {name} estimates it by draws; use "
            "bounds.importance_bound, which is valid with it"
        )
    if getattr(model.encoder, "pool", None) is None and set(batch.layout.host_sizes) != {1}:
        raise ValueError("'model' must have one latent per graph for quadrature: an encoder with 'pool', or vectors")
    if latent > _LARGEST_LATENT:
        raise ValueError(
            f"'model' must have a latent of at most {_LARGEST_LATENT} dimensions for quadrature, got "
            f"{latent}; estimate with bounds.importance_bound instead"
        )
    return latent


def _gauss_hermite(points: int, dimension: int) -> tuple[Tensor, Tensor]:
    """Nodes `(points ** dimension, dimension)` and log-weights for expectations under N(0, I), in float64."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(points))
    grid = torch.cartesian_prod(*[nodes] * dimension).view(-1, dimension)
    logs = torch.cartesian_prod(*[weights.log()] * dimension).view(-1, dimension)
    return grid, logs.sum(1) - dimension * math.log(2 * math.pi) / 2
