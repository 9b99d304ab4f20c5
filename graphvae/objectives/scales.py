"""The scale of Gaussian features in closed form: the objective of the σ-VAE, and the scale of a data set."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal
from torch_geometric.data import Batch

from graphvae.distributions import PerGraph
from graphvae.features import SMALLEST_LOG_SCALE, FixedScale, GaussianFeatures
from graphvae.graphs import Graphs, edgeless
from graphvae.model import GraphVAE
from graphvae.sparse import at_least_single
from graphvae.validation import check_positive


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
        value = value + model.edges(z, graphs.layout).log_prob(*model.edges_of(graphs))
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
