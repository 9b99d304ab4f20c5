"""Vectors: reconstruction, samples, and what the latents carry; `inference` has how good the posterior is.

Data are `(N, F)` tensors, encoded and decoded in mini-batches on the model's device, in the model's mode: call
`model.eval()` if it has dropout or batch normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.distributions import Normal
from torch_geometric.data import Batch

from graphvae.distributions import PerGraph
from graphvae.encoders import normal_base
from graphvae.graphs import Graphs, edgeless
from graphvae.layout import Layout
from graphvae.model import FeatureFactor, GraphVAE
from graphvae.validation import check_positive

_NUMBERS = 1 << 20  # Numbers at a time, of all pairs of rows: what a cache holds.


@torch.no_grad()
def reconstructions(model: GraphVAE, x: Tensor, batch_size: int = 1024) -> Tensor:
    """The mean of p(X | z) at the mean of q(z | x): `(N, F)`.

    Args:
        model: With a feature factor.
        x: `(N, F)`.
        batch_size: Rows at a time, here and below.
    """
    return torch.cat([decoded(model, model.posterior(part).mean) for part in batches_of(model, x, batch_size)])


def squared_error(model: GraphVAE, x: Tensor, batch_size: int = 1024) -> Tensor:
    r"""\(\lVert x - \hat x \rVert^2\) of the reconstruction at the posterior mean, summed over features: `(N,)`.

    For pixels in [0, 1] its mean over test images is the unit of the reference.

    References:
        Hinton & Salakhutdinov, 2006, doi:10.1126/science.1127647.
    """
    found = reconstructions(model, x, batch_size)
    return (x.to(found) - found).square().sum(1)


def psnr(found: Tensor, clean: Tensor, peak: float = 1.0) -> Tensor:
    r"""Peak signal-to-noise ratio of each row, \(10 \log_{10}(\mathrm{peak}^2 / \mathrm{MSE})\) in decibels: `(N,)`.

    Args:
        found: `(N, F)`, such as denoised images.
        clean: `(N, F)` what it should be.
        peak: The largest value a feature can have.
    """
    return 10 * (peak**2 / (found - clean).square().mean(1)).log10()


@torch.no_grad()
def sample_means(model: GraphVAE, num_samples: int, generator: torch.Generator | None = None) -> Tensor:
    """The mean of p(X | z) at draws of p(z), `(num_samples, F)`: the samples that figures show, without their noise.

    Args:
        model: With a feature factor.
        num_samples: How many.
        generator: Of the model's device; PyTorch's global one if None.
    """
    check_positive(num_samples=num_samples)
    return decoded(model, model.prior(Layout.singles(num_samples, _device(model))).sample(generator))


def frechet_distance(samples: Tensor, held_out: Tensor, components: int | None = None) -> float:
    r"""\(\lVert m - m' \rVert^2 + \mathrm{tr}(C + C' - 2 (C C')^{1/2})\) of normals fitted to two sets of vectors.

    It is that between sets projected on the principal components of `held_out`. What it is for one set against another
    of the same source is the value to compare with: it is above zero for finite sets.

    Args:
        samples: `(M, F)`.
        held_out: `(N, F)` data that the model was not trained on.
        components: How many; at most 50, and as many as there are features, if None.

    References:
        Dowson & Landau, 1982; on features of a network: Heusel et al., 2017, arXiv:1706.08500.
    """
    check_positive(components=components)
    samples, held_out = samples.double(), held_out.to(samples.device, torch.double)
    basis = torch.linalg.eigh(held_out.T.cov(correction=0)).eigenvectors.flip(1)[:, : components or 50]
    means = (samples.mean(0) - held_out.mean(0)) @ basis
    ours, theirs = (torch.atleast_2d((part @ basis).T.cov()) for part in (samples, held_out))
    root = _square_root(theirs)
    shared = torch.linalg.eigvalsh(root @ ours @ root).clamp(min=0).sqrt().sum()
    return (means.square().sum() + ours.trace() + theirs.trace() - 2 * shared).item()


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T


def knn_purity(latents: Tensor, labels: Tensor, neighbors: int = 10) -> float:
    """The share of a row's nearest other rows that have its label, on average over rows: 1 for separate classes.

    Args:
        latents: `(N, D)`, such as posterior means.
        labels: `(N,)` classes.
        neighbors: How many of the nearest, in Euclidean distance.
    """
    check_positive(neighbors=neighbors)
    if neighbors >= len(latents):
        raise ValueError(f"'neighbors' must be fewer than the other {len(latents) - 1} rows, got {neighbors}")
    nearest = NearestNeighbors(n_neighbors=neighbors).fit(latents.detach().cpu().numpy())
    found = torch.from_numpy(nearest.kneighbors(return_distance=False))
    labels = labels.cpu()
    return (labels[found] == labels[:, None]).double().mean().item()


@torch.no_grad()
def active_units(model: GraphVAE, x: Tensor | Graphs, threshold: float = 0.01, batch_size: int = 1024) -> Tensor:
    r"""Which latent dimensions the data use, \(\mathrm{Var}_x\, E_q[z_d] >\) `threshold`: `(D,)` of booleans.

    Of latents of nodes, the variance is that over all nodes of all graphs.

    Args:
        model: With an encoder.
        x: `(N, F)`; or graphs, which are taken at once.
        threshold: In units of the prior's variance, 1 for N(0, I).
        batch_size: Rows at a time.

    References:
        Burda, Grosse & Salakhutdinov, 2015, arXiv:1509.00519.
    """
    parts = batches_of(model, x, batch_size) if isinstance(x, Tensor) else [model.batch(x)]
    means = torch.cat([model.posterior(part).mean for part in parts])
    return means.var(0) > threshold


class KLSplit(NamedTuple):
    r"""\(E_x\, KL(q(z | x) \| p(z)) = I_q(x; z) + KL(q(z) \| p(z))\), in nats.

    `total` is the mean KL divergence, `mutual_information` what z says of which row it belongs to, at most log N, and
    `aggregate` how far \(q(z) = \frac1N \sum_j q(z | x_j)\) is from the prior, from which samples are drawn.
    """

    total: float
    mutual_information: float
    aggregate: float


@torch.no_grad()
def kl_split(model: GraphVAE, x: Tensor, generator: torch.Generator | None = None, batch_size: int = 1024) -> KLSplit:
    """The two parts of the mean KL divergence over a data set, at one draw of z for each row.

    The density of the aggregated posterior is that over all N rows, so that no part is biased. If the KL to the prior
    has a closed form the total is exact, and the noise of one part is that of the other with opposite sign.

    Args:
        model: With normal posteriors.
        x: `(N, F)`; the cost is that of N² densities.
        generator: Of the model's device; PyTorch's global one if None.
        batch_size: Rows to encode at a time.

    Raises:
        TypeError: The posterior is not normal.

    References:
        Hoffman & Johnson, "ELBO surgery", 2016.
    """
    q = _normal_posterior(model, x, batch_size)
    z = q.sample(generator)
    rows = max(1, _NUMBERS // z.numel())
    mixture = torch.cat([q.base.log_prob(part[:, None]).sum(2).logsumexp(1) for part in z.split(rows)])
    information = (q.log_prob(z) - mixture).mean().item() + math.log(len(x))
    total = q.kl(model.prior(q.layout), z).mean().item()
    return KLSplit(total, information, total - information)


def batches_of(model: GraphVAE, x: Tensor, batch_size: int) -> Iterator[Batch]:
    """Rows of `x` as checked batches of the model."""
    check_positive(batch_size=batch_size)
    return (model.batch(edgeless(part)) for part in x.split(batch_size))


def decoded(model: GraphVAE, z: Tensor) -> Tensor:
    """The mean of p(X | z) for latents `(N, D)` of vectors: `(N, F)`."""
    features: FeatureFactor | None = model.features
    if features is None:
        raise ValueError("'model' must have a feature factor, vectors have nothing else")
    z = z.to(_device(model))
    layout = Layout.singles(len(z), z.device)
    return features(z, layout.ptr.new_empty(2, 0), layout).mean


def _normal_posterior(model: GraphVAE, x: Tensor, batch_size: int) -> PerGraph:
    """The posteriors of all rows as one."""
    found = [normal_base(model.posterior(part)) for part in batches_of(model, x, batch_size)]
    loc, scale = (torch.cat([getattr(one, name) for one in found]) for name in ("loc", "scale"))
    return PerGraph(Normal(loc, scale, validate_args=False), Layout.singles(len(loc), loc.device))


def _device(model: GraphVAE) -> torch.device:
    return next(model.parameters()).device
