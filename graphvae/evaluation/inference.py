"""How far approximate posteriors of vectors are from the best ones: amortisation and approximation gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch_geometric.data import Batch

from graphvae.bounds import effective_sample_size, elbo, log_importance_weights
from graphvae.distributions import drawing_from
from graphvae.encoders import FreeNormal
from graphvae.evaluation.vectors import batches_of
from graphvae.model import GraphVAE
from graphvae.validation import check_positive

_NUMBERS = 1 << 24  # Decoded numbers held at a time.


@dataclass(frozen=True)
class InferenceGaps:
    r"""What each row loses by its approximate posterior, in nats; all `(N,)`.

    Attributes:
        amortised: The ELBO with the encoder's posterior.
        free: The ELBO with the best normal posterior that was found for the row itself.
        log_likelihood: log p(x), by importance sampling from the latter; its expectation is below log p(x).
        standard_error: Of `log_likelihood`.
    """

    amortised: Tensor
    free: Tensor
    log_likelihood: Tensor
    standard_error: Tensor

    @property
    def amortisation(self) -> Tensor:
        """What one encoder for all rows loses, `free - amortised`."""
        return self.free - self.amortised

    @property
    def approximation(self) -> Tensor:
        """What the family of independent normals loses, `log_likelihood - free`."""
        return self.log_likelihood - self.free


def inference_gaps(
    model: GraphVAE,
    x: Tensor,
    *,
    steps: int = 500,
    learning_rate: float = 0.02,
    draws: int = 100,
    particles: int = 1000,
    generator: torch.Generator | None = None,
    batch_size: int = 256,
) -> InferenceGaps:
    """The amortisation gap and the approximation gap of each row.

    The free posteriors start at the encoder's and are optimised with Adam, the decoder being left as it is. Both ELBOs
    are means over the same draws, other ones than in training. A row whose ELBO is not higher with the posterior that
    was found goes back to the encoder's, so that no gap of amortisation is negative: where there is none, the larger
    of two estimates is above zero by less than the standard error of their difference.

    Args:
        model: With normal posteriors.
        x: `(N, F)`.
        steps: Of the optimisation.
        learning_rate: Of Adam, at first; it falls to zero along half a cosine.
        draws: For each ELBO.
        particles: For log p(x).
        generator: Of the model's device; PyTorch's global one if None.
        batch_size: Rows at a time.

    Raises:
        TypeError: The posterior is not normal.

    References:
        Cremer, Li & Duvenaud, 2018, arXiv:1801.03558.
    """
    check_positive(steps=steps, draws=draws, particles=particles)
    training = model.training
    try:
        model.eval()  # Running averages are part of the model, and rows must not depend on each other.
        with drawing_from(generator):
            found = [
                _gaps(model, part, _optimised(model, part, steps, learning_rate), draws, particles)
                for part in batches_of(model, x, batch_size)
            ]
    finally:
        model.train(training)
    return InferenceGaps(*map(torch.cat, zip(*found, strict=True)))


@torch.no_grad()
def _gaps(model: GraphVAE, part: Batch, encoder: FreeNormal, draws: int, particles: int) -> tuple[Tensor, ...]:
    free = _with_encoder(model, encoder)
    noise = [torch.randn_like(encoder.loc) for _ in range(draws)]
    amortised, best = (torch.stack([elbo(one, part, noise=eps) for eps in noise]).mean(0) for one in (model, free))
    start, worse = FreeNormal.of(model.posterior(part)), (best <= amortised)[:, None]
    for mine, first in zip(encoder.parameters(), start.parameters(), strict=True):
        mine.copy_(torch.where(worse, first, mine))
    chunk = max(1, _NUMBERS // part.x.numel())
    log_weights = log_importance_weights(free, part, particles, chunk=chunk)
    log_likelihood = log_weights.logsumexp(0) - math.log(particles)
    # The relative variance of a mean of K weights, by the delta method that of its logarithm.
    variance = (particles / effective_sample_size(log_weights) - 1) / max(1, particles - 1)
    return amortised, best.maximum(amortised), log_likelihood, variance.clamp(min=0).sqrt()


@torch.enable_grad()
def _optimised(model: GraphVAE, part: Batch, steps: int, learning_rate: float) -> FreeNormal:
    """Posteriors that maximise the ELBO of each row; nothing of the model is changed."""
    encoder = FreeNormal.of(model.posterior(part))
    free = _with_encoder(model, encoder)
    parameters = list(encoder.parameters())
    optimizer = Adam(parameters, learning_rate)
    schedule = CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        gradients = torch.autograd.grad(-elbo(free, part).sum(), parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        schedule.step()
    return encoder


def _with_encoder(model: GraphVAE, encoder: FreeNormal) -> GraphVAE:
    return GraphVAE(model.prior, encoder, model.edges, model.features, model.sizes, decoder=model.decoder)
