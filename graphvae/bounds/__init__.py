"""Lower bounds on log p(G), in nats, one per graph. Bounds go up; the one minus sign is in training."""

from graphvae.bounds.evidence import elbo, masked_elbo
from graphvae.bounds.importance import Gradient, effective_sample_size, importance_bound, log_importance_weights

__all__ = ["Gradient", "effective_sample_size", "elbo", "importance_bound", "log_importance_weights", "masked_elbo"]
