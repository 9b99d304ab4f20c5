"""Objectives that are useful and, but for a batch's mean of `free_bits`, *not* bounds; each says so.

Larger is better, one number per graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Normal
from torch_geometric.data import Batch

from graphvae.bounds import elbo
from graphvae.bounds.expected import estimated
from graphvae.distributions import BernoulliEdges, PerGraph, PointMass
from graphvae.expectations import Relaxation
from graphvae.features import SMALLEST_LOG_SCALE, FixedScale, GaussianFeatures
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import Graphs, edgeless
from graphvae.model import GraphVAE
from graphvae.pairs import softplus
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive


class WeightedObjective(Protocol):
    """An objective with a weight of the KL divergence, such as `bounds.elbo`."""

    def __call__(self, model: GraphVAE, graphs: Batch, *, beta: float) -> Tensor:
        """`(B,)`, larger is better."""


@dataclass(frozen=True)
class WarmUp:
    """The weight of the KL divergence grows linearly in the first epochs, beta * min(1, epoch / epochs); for `fit`.

    Early on latents cost nothing, so that the decoder learns to use them. Before the last of these epochs the objective
    is no bound, if beta is 1. It is a function of the epoch alone, so that an interrupted training can be continued.

    Args:
        epochs: Until the weight is full.
        objective: That takes `beta`, as `elbo`, `free_bits` and `optimal_scale` do.
        beta: The full weight.

    References:
        Bowman et al., 2016, arXiv:1511.06349; Sønderby et al., 2016, arXiv:1602.02282.
    """

    epochs: int
    objective: WeightedObjective = elbo
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_positive(epochs=self.epochs)

    def at(self, epoch: int) -> partial[Tensor]:
        """The objective of an epoch; the first is 1."""
        return partial(self.objective, beta=self.beta * min(1.0, epoch / self.epochs))


def reconstruction(model: GraphVAE, graphs: Graphs) -> Tensor:
    """Log p(X, A | z) at the encoder's mean: what a plain autoencoder maximises. Not a bound. `(B,)`."""
    graphs = model.batch(graphs)
    return model.log_likelihood(graphs, model.posterior(graphs).mean)


def free_bits(model: GraphVAE, graphs: Graphs, nats: float, beta: float = 1.0, noise: Tensor | None = None) -> Tensor:
    r"""The ELBO in which each latent dimension may say `nats` for free: no gain in saying less.

    \(E_q[\log p(X, A | Z)] - \beta \sum_d \max(\lambda, \overline{KL}_d)\) on average over the batch, where
    \(\overline{KL}_d\) is the KL divergence of dimension d, averaged over the latents of the batch. The average over
    the batch is at most that of the ELBO at the same noise, hence still below the mean log-likelihood (for beta >= 1);
    the value of a single graph is no bound. It keeps dimensions from being switched off early in training.

    Args:
        model: With latents that are independent over dimensions, in encoder and prior.
        graphs: A PyG graph, batch or list.
        nats: \(\lambda\), for each dimension of one latent (of a node, or of a graph if pooled).
        beta: Weight of the KL divergence.
        noise: As in `bounds.elbo`.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The KL divergence has no closed form, or none for each dimension.
        ValueError: `nats` is negative.

    References:
        Kingma et al., 2016, arXiv:1606.04934, section C.8.
    """
    if not nats >= 0:
        raise ValueError(f"'nats' must not be negative, got {nats}")
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    z = q.rsample(noise)
    kl = q.kl_of_rows(model.prior(q.layout))
    if kl.dim() < 2:
        raise TypeError("'model' must have latents whose dimensions are independent, one KL for each is needed")
    charged = torch.where(kl.mean(0) > nats, kl, nats)
    return model.log_likelihood(graphs, z) - beta * q.layout.sum(charged)


def optimal_scale(model: GraphVAE, graphs: Graphs, beta: float = 1.0, noise: Tensor | None = None) -> Tensor:
    r"""The ELBO at the one standard deviation of the features that is best for this batch, the σ-VAE's objective.

    \(\sigma^2\) is the mean squared error of the batch, in closed form: the maximum over \(\sigma\) of the mean over
    the batch, at the same noise, so at least the ELBO with any fixed scale. Where a batch is the data set, that is
    maximum likelihood of one more parameter. It is no bound for unseen data, because the scale looks at x: after
    training, write the scale of the training data into the model by `fix_optimal_scale` and use `elbo`.

    Args:
        model: With `GaussianFeatures` of a `FixedScale`, which is not looked at.
        graphs: A PyG graph, batch or list.
        beta: Weight of the KL divergence.
        noise: As in `bounds.elbo`.

    Returns:
        `(B,)`.

    Raises:
        TypeError: Other features, or another scale.

    References:
        Rybkin, Daniilidis & Levine, 2021, arXiv:2006.13202.
    """
    features, _ = _with_fixed_scale(model)
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    z = q.rsample(noise)
    x, loc = _features_and_means(features, graphs, z)
    scale = _best_scale((x - loc).square().mean())
    value = PerGraph(Normal(loc, scale, validate_args=False), graphs.layout).log_prob(x)
    if model.edges is not None:
        value = value + model.edges(z, graphs.layout).log_prob(graphs.edge_index)
    if model.sizes is not None:
        value = value + model.sizes().log_prob(graphs.layout.sizes)
    return value - beta * q.kl(model.prior(q.layout), z)


@torch.no_grad()
def fix_optimal_scale(model: GraphVAE, graphs: Graphs | Tensor, batch_size: int = 1024) -> float:
    r"""Writes the best standard deviation for a data set into the model: the root of its mean squared error.

    With it, `elbo` of the model is a bound on any data. One latent is drawn for each row.

    Args:
        model: As for `optimal_scale`; its `FixedScale` is changed in place.
        graphs: Training data: a PyG graph, batch or list, or a `(N, F)` tensor of vectors.
        batch_size: Vectors at a time; graphs are taken at once.

    Returns:
        The scale, in units of the features.

    Raises:
        TypeError: As `optimal_scale`.
    """
    check_positive(batch_size=batch_size)
    features, fixed = _with_fixed_scale(model)
    parts = map(edgeless, graphs.split(batch_size)) if isinstance(graphs, Tensor) else [graphs]
    total, count = 0.0, 0
    for part in parts:
        batch = model.batch(part)
        x, loc = _features_and_means(features, batch, model.posterior(batch).rsample())
        total, count = total + (x - loc).square().sum(dtype=torch.double).item(), count + x.numel()
    scale = _best_scale(torch.tensor(total / count)).item()
    fixed.fill_(scale)
    return scale


def _with_fixed_scale(model: GraphVAE) -> tuple[GaussianFeatures, FixedScale]:
    features: object = model.features
    if isinstance(features, GaussianFeatures) and isinstance(features.scale, FixedScale):
        return features, features.scale
    found = type(getattr(features, "scale", features)).__name__
    raise TypeError(f"'model' must have GaussianFeatures(..., scale=FixedScale()) for the best scale, got {found}")


def _features_and_means(features: GaussianFeatures, graphs: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
    """`(N, F)` features and their means given the latents, in float32 at least."""
    loc = features(z, graphs.edge_index, graphs.layout).mean
    return graphs.x.to_dense(), at_least_single(loc)


def _best_scale(mean_squared_error: Tensor) -> Tensor:
    return mean_squared_error.clamp(min=math.exp(2 * SMALLEST_LOG_SCALE)).sqrt()


def relaxed(model: GraphVAE, graphs: Graphs, relaxation: Relaxation, beta: float = 1.0) -> Tensor:
    r"""As an ELBO, with discrete latents replaced by continuous ones in the likelihood. Biased, and not a bound.

    \(E[\log p(X, A | \tilde Z)] - \beta\, KL(q(Z | X, A) \| p(Z))\) with relaxed \(\tilde Z\), which lie between the
    codes: the likelihood there may exceed that of every code, so that this can exceed log p(X, A). The KL divergence is
    that of the discrete distributions. Judge a model so trained by `bounds.expected_elbo` or `bounds.importance_bound`.

    Args:
        model: With discrete latents.
        graphs: A PyG graph, batch or list.
        relaxation: At which temperature; whether straight through.
        beta: Weight of the KL divergence.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The latents are not Bernoulli or one-hot categorical.

    References:
        Jang, Gu & Poole, 2017, arXiv:1611.01144; with the relaxed densities in place of the KL divergence, a bound
        for another model: Maddison, Mnih & Teh, 2017, arXiv:1611.00712.
    """
    return estimated(model, graphs, relaxation, beta)


def kipf_welling(model: GraphVAE, graphs: Graphs, noise: Tensor | None = None) -> Tensor:
    r"""The published objective of the (variational) graph autoencoder. Not a bound on any likelihood.

    Over all N² ordered pairs, the diagonal included with label 1, the mean of the log-likelihood in which present
    edges weigh (N² - S)/S for S = 2|E|, times N²/(2(N² - S)), less the KL over N². Present edges count hundreds of
    times, so probabilities are far too high (a density of one half); ranking is unaffected. A `PointEncoder` (the
    plain autoencoder) has no KL term. A graph without edges is weighed as one with a single edge.

    Args:
        model: With an undirected edge factor; its feature factor is not used.
        graphs: A PyG graph, batch or list.
        noise: As in `bounds.elbo`.

    Returns:
        `(B,)`.

    Raises:
        TypeError: The edge factor has no scores for self loops.
        ValueError: It is directed, or there is none.

    References:
        Kipf & Welling, 2016, arXiv:1611.07308, and the authors' code, in which the weights are.
    """
    if model.edges is None or model.edges.directed:
        raise ValueError("'model' must have an undirected edge factor for the Kipf-Welling objective")
    graphs = model.batch(graphs)
    q = model.posterior(graphs)
    z = q.rsample(noise)
    edges = model.edges(z, graphs.layout)
    if isinstance(edges, FixedOrderEdges):
        raise TypeError(
            "'model' must score self loops for the Kipf-Welling objective, DenseEdges has no places for them"
        )
    log_likelihood = _weighted_edges(edges, graphs.edge_index)
    if isinstance(q, PointMass):
        return log_likelihood
    return log_likelihood - q.kl(model.prior(q.layout), z) / graphs.layout.sizes**2


def _weighted_edges(edges: BernoulliEdges, edge_index: Tensor) -> Tensor:
    logits = edges.logits(edge_index)
    pairs = edges.layout.sizes**2
    present = (2 * edges.edge_sum(torch.ones_like(logits), edge_index)).clamp(min=2)
    absent = (pairs - present).clamp(min=1)
    nodes = torch.arange(edges.layout.num_rows, device=edge_index.device)
    loops = edges.logits(nodes.expand(2, -1))
    positive = 2 * edges.edge_sum(softplus(-logits), edge_index) + edges.layout.sum(softplus(-loops))
    negative = 2 * edges.log_normalizer() - 2 * edges.edge_sum(softplus(logits), edge_index)
    return -(absent / present * positive + negative) / (2 * absent)


def masked_edges(model: GraphVAE, graphs: Batch, noise: Tensor | None = None) -> Tensor:
    r"""Each edge predicted from the graph without it, non-edges too, at their true numbers. Not a bound. `(1,)`.

    \(\frac{\lvert E\rvert}{m} \sum_{targets} \log\sigma(s_{ij})
    + \frac{\lvert\bar E\rvert}{M} \sum_{drawn} \log\sigma(-s_{ij})\), scores s
    from one draw of Z given the message graph. Unbiased, over draws of batches, for the sum over all edges and all
    non-edges of the expected log-probability of each, where Z is encoded from the (sampled) graph without m edges
    drawn uniformly, an edge itself always among them. That is a sum of predictions of one pair each, as in a
    pseudo-likelihood, not the log-probability of one graph, hence no bound. Present edges are not weighed up, so that
    probabilities can be calibrated. Only the edge factor is trained, and the encoder.

    Args:
        model: With an edge factor.
        graphs: A batch of `masking.LinkBatches`, directed if and only if the edge factor is.
        noise: As in `bounds.elbo`.
    """
    if model.edges is None or "targets" not in graphs:
        raise ValueError("'model' must have an edge factor and 'graphs' be a batch of masking.LinkBatches")
    if model.edges.directed != graphs.directed:
        raise ValueError(f"'graphs' must come from LinkBatches(..., directed={model.edges.directed}) for this model")
    graphs = model.batch(graphs)
    edges = model.edges(model.posterior(graphs).rsample(noise), graphs.layout)
    targets, non_edges = graphs.targets, graphs.non_edges
    present = softplus(-edges.logits(targets)).sum() * (graphs.total_edges / targets.size(1))
    absent = softplus(edges.logits(non_edges)).sum() * (graphs.total_non_edges / non_edges.size(1))
    return -(present + absent)[None]
