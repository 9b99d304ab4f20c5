r"""Bounds over node orderings, for models in which the order of the nodes matters.

A decoder such as `edges.DenseEdges` gives the relabellings of a graph different probabilities. Three sums over them are
in use (`conventions.Convention`): \(\sum_\pi p(\pi G)\), which is no probability; its mean, the symmetrised
\(\bar p(G)\); and \(p([G])\), over the distinct images, the probability of the isomorphism class. Each function says
which one it bounds. All take one batch of K orders; no order is ever broken by the input's numbering of the nodes.

Every weight is \(w(\pi, z) = p(\pi G, z) / q(z)\) with z drawn from q: its logarithm enters a log-sum-exp as it is. An
ELBO with a KL divergence in closed form, or an average of log-weights, must not: the exponential of such a noisy number
can have a mean above \(p(\pi G)\), or throws away what the sum is for.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.bounds.baselines import log_mean_exp
from graphvae.bounds.order_weights import paired_weights, shared_weights
from graphvae.conventions import log_relabellings, part_of_graph
from graphvae.distributions import drawing_from
from graphvae.expectations import Baseline
from graphvae.graphs import Graphs
from graphvae.model import GraphVAE
from graphvae.order_sets import (
    drawn_without_replacement,
    image_hashes,
    log_inclusion_weights,
    order_hashes,
)
from graphvae.orderings import Ordering
from graphvae.orders import OrderDistribution, check_orders
from graphvae.sort_keys import first_of_each
from graphvae.validation import check_positive


def outer_bound(
    model: GraphVAE,
    graphs: Graphs,
    orders: Tensor,
    noise: Tensor | None = None,
    chunk: int | None = None,
    encode_each: bool = False,
) -> Tensor:
    r"""One-sample estimate of \(\log \sum_{\pi \in S} \exp \mathrm{ELBO}(\pi G)\), a latent for each ordering.

    Bounds \(\log \sum_\pi p(\pi G)\) over all n! orderings, `Convention.SUMMED`, from below: the expectation of the
    estimate lies between the expression above and \(\log \sum_{\pi \in S} p(\pi G)\). It grows with S, by up to
    the logarithm of its size; so bounds with sets of different sizes say nothing about models.

    Args:
        model: With an encoder that has a density and likelihoods that are computed.
        graphs: A PyG graph, batch or list.
        orders: `(K, N)` the set S for each graph; an order given twice counts once.
        noise: Standard normal, `(K, ...)` for latents of shape `(...)`; drawn if None.
        chunk: Orderings at a time, to bound memory; all if None.
        encode_each: Run the encoder on every relabelled graph, for one that is not equivariant. Otherwise it runs once
            and its posterior is relabelled: still a bound for any encoder, if the prior is the same in every order.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The encoder gives a point mass.
        ValueError: log p(A | Z) is only estimated; `orders` is not one order of each graph per row.
    """
    graphs = model.batch(graphs)
    check_orders(orders, graphs.layout)
    weights = paired_weights(model, graphs, orders, noise, chunk, encode_each)
    return _over_distinct(weights, order_hashes(orders, graphs.layout))


def inner_bound(
    model: GraphVAE,
    graphs: Graphs,
    orders: Tensor,
    particles: int = 1,
    noise: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    r"""Estimate of \(E_{q(z | G)} \log \sum_{\pi \in S} p(\pi G | z)\, p(z) / q(z | G)\): all orderings share a latent.

    Bounds \(\log \sum_\pi p(\pi G)\) over all n! orderings, `Convention.SUMMED`, from below. For the same S and an
    equivariant encoder its expectation is at least \(\log \sum_{\pi \in S} \exp \mathrm{ELBO}(\pi G)\). An edge factor
    that scores places (`DenseEdges`) decodes each particle once for all orderings, where `outer_bound` decodes one
    for each (which, being independent, can make it the tighter one). Latents of nodes are relabelled with the graph.
    Graph matching is the case of one ordering, chosen given z.

    Args:
        model: As for `outer_bound`.
        graphs: A PyG graph, batch or list.
        orders: `(K, N)` the set S.
        particles: M latents, importance-weighted: the mean of M such sums goes inside the logarithm.
        noise: Standard normal, `(M, ...)` for latents of shape `(...)`; drawn if None.
        chunk: Orderings at a time, to bound memory; all if None.

    Returns:
        `(B,)`.

    Raises:
        TypeError, ValueError: As `outer_bound`.

    References:
        Matching, so read: Simonovsky & Komodakis, 2018, arXiv:1802.03480.
    """
    graphs = model.batch(graphs)
    check_orders(orders, graphs.layout)
    weights = shared_weights(model, graphs, orders, particles, noise, chunk)
    return _over_distinct(weights, order_hashes(orders, graphs.layout))


def image_bound(
    model: GraphVAE,
    graphs: Graphs,
    orders: Tensor,
    particles: int = 1,
    noise: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    r"""As `inner_bound` over the distinct relabelled graphs among \(\{\pi G : \pi \in S\}\).

    Bounds \(\log p([G])\), `Convention.ISOMORPHISM_CLASS`, from below, and equals it (up to the latents) when S has
    every image. No automorphism has to be counted: orderings that differ by one give one image, counted once. An image
    is of edges, of x for a model with a feature factor, and of edge types for one that has them.

    Args:
        model: As for `outer_bound`.
        graphs: A PyG graph, batch or list.
        orders: `(K, N)` the set S.
        particles: As for `inner_bound`.
        noise: As for `inner_bound`.
        chunk: As for `inner_bound`.

    Returns:
        `(B,)`.

    Raises:
        TypeError, ValueError: As `outer_bound`; or the model has no edge factor.
    """
    if model.edges is None and model.decoder is None:
        raise ValueError("'model' must have an edge factor, without one there is no probability of a graph's class")
    graphs = model.batch(graphs)
    check_orders(orders, graphs.layout)
    weights = shared_weights(model, graphs, orders, particles, noise, chunk)
    images = part_of_graph(graphs, model.models_features, model.edge_types > 0)
    return _over_distinct(weights, image_hashes(images, orders))


def permutation_bound(
    model: GraphVAE,
    graphs: Graphs,
    orderings: Ordering,
    num_orders: int,
    particles: int = 1,
    *,
    replace: bool = True,
    baseline: Baseline | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    chunk: int | None = None,
) -> Tensor:
    r"""Sampled orderings that share a latent: \(\log \frac1K \sum_k p(\pi_k G, z) / (n!\, r(\pi_k | G)\, q(z | G))\).

    Bounds the symmetrised \(\log \bar p(G)\), `Convention.SYMMETRISED`, from below in expectation, for any r. At K = 1
    the gap has a part from the ordering, KL(r || p(order | G)), which more orders close, down to what the orders have
    that r never gives. Latents are shared as in `inner_bound`: what the posterior of the latents lacks is closed by
    `particles`, not by orders. A uniform r makes it log-mean-exp over random orders. A learned ordering is trained with
    the model if it is `model.orderings`.

    Args:
        model: As for `outer_bound`.
        graphs: A PyG graph, batch or list.
        orderings: r(order | G), see `orderings`.
        num_orders: K.
        particles: As for `inner_bound`.
        replace: Whether an order may come twice. Without, the weights are those of `order_sets.log_inclusion_weights`:
            as unbiased, less noise, exact once r has no other orders (and too low if r is so unequal that fewer than K
            distinct orders turn up). Not for training a learned ordering.
        baseline: What a learned ordering's score-function gradient subtracts, `vimco` (if None) or `leave_one_out`.
        noise: As for `inner_bound`.
        generator: For orders and latents.
        chunk: As for `inner_bound`.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The encoder gives a point mass.
        ValueError: log p(A | Z) is only estimated; a learned ordering trained with one order or without replacement.

    References:
        Li et al., "Learning deep generative models of graphs", 2018, arXiv:1803.03324 (importance-sampled orderings).
    """
    check_positive(num_orders=num_orders)
    graphs = model.batch(graphs)
    r = _distribution(orderings, graphs)
    if replace:
        orders = r.sample(num_orders, generator)
        log_r = r.log_prob(orders)
    else:
        orders, log_r, present = drawn_without_replacement(r, graphs.layout, num_orders, generator)
        _check_fixed(r.log_prob(orders[:1]))
    with drawing_from(generator):
        log_f = shared_weights(model, graphs, orders, particles, noise, chunk)
    if replace:
        bound = log_mean_exp(log_f - log_r.to(log_f), log_r, baseline)
    else:
        bound = (log_f + log_inclusion_weights(log_r, present).to(log_f)).logsumexp(0)
    return bound - log_relabellings(graphs).to(bound)


def joint_bound(
    model: GraphVAE,
    graphs: Graphs,
    orderings: Ordering,
    num_orders: int,
    *,
    baseline: Baseline | None = None,
    noise: Tensor | None = None,
    generator: torch.Generator | None = None,
    chunk: int | None = None,
    encode_each: bool = False,
) -> Tensor:
    r"""Orders and latents together, \(\log \frac1K \sum_k p(\pi_k G, z_k) / (n!\, r(\pi_k | G)\, q(z_k | \pi_k G))\).

    Bounds the symmetrised \(\log \bar p(G)\), `Convention.SYMMETRISED`, from below in expectation, and rises with K, to
    it if r gives every order a chance (`Uniform`, `PlackettLuce`, `Defensive`). Every order has a latent of its own,
    and is decoded on its own. With `encode_each` and `orderings.Uniform()` it is the bound for an encoder that is not
    equivariant before a decoder that is.

    Args:
        model: As for `outer_bound`.
        graphs: A PyG graph, batch or list.
        orderings: As for `permutation_bound`.
        num_orders: K, of orders and of latents.
        baseline: As for `permutation_bound`.
        noise: As for `outer_bound`.
        generator: For orders and latents.
        chunk: As for `outer_bound`.
        encode_each: As for `outer_bound`.

    Returns:
        `(B,)`.

    Raises:
        TypeError, ValueError: As `permutation_bound`.
    """
    check_positive(num_orders=num_orders)
    graphs = model.batch(graphs)
    r = _distribution(orderings, graphs)
    orders = r.sample(num_orders, generator)
    log_r = r.log_prob(orders)
    with drawing_from(generator):
        log_weights = paired_weights(model, graphs, orders, noise, chunk, encode_each)
    bound = log_mean_exp(log_weights - log_r.to(log_weights), log_r, baseline)
    return bound - log_relabellings(graphs).to(bound)


def _over_distinct(log_weights: Tensor, hashes: Tensor) -> Tensor:
    """`(B,)` log of the sum of K weights, of which those with one hash count once."""
    return log_weights.masked_fill(~first_of_each(hashes), -torch.inf).logsumexp(0)


def _distribution(orderings: Ordering, graphs: Batch) -> OrderDistribution:
    if not isinstance(orderings, Ordering):
        raise TypeError(
            f"'orderings' must be an Ordering, such as orderings.BreadthFirst(), got {orderings!r}; bounds that take a "
            "set of orders as a tensor are inner_bound, image_bound and outer_bound"
        )
    return orderings(graphs)


def _check_fixed(log_r: Tensor) -> None:
    if log_r.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "'replace' must be True to train a learned ordering, draws without replacement have no score function "
            "here; or evaluate under torch.no_grad()"
        )
