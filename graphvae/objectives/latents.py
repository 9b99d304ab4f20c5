"""The ELBO with another weight of its KL divergence: free bits, and a weight that grows in training."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.bounds import elbo
from graphvae.graphs import Graphs
from graphvae.model import GraphVAE
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
