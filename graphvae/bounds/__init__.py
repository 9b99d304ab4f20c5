"""Lower bounds on log p(G), in nats, one per graph. Bounds go up; the one minus sign is in training."""

from graphvae.bounds.evidence import elbo, masked_elbo
from graphvae.bounds.importance import importance_bound

__all__ = ["elbo", "importance_bound", "masked_elbo"]
