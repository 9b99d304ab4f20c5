"""Lower bounds on log p(G), in nats, one per graph. Bounds go up; the one minus sign is in training."""

from graphvae.bounds.baselines import leave_one_out, vimco
from graphvae.bounds.evidence import elbo, masked_elbo
from graphvae.bounds.expected import expected_elbo
from graphvae.bounds.importance import Gradient, effective_sample_size, importance_bound, log_importance_weights
from graphvae.bounds.matched import matching_bound
from graphvae.bounds.permutations import image_bound, inner_bound, joint_bound, outer_bound, permutation_bound

__all__ = [
    "Gradient",
    "effective_sample_size",
    "elbo",
    "expected_elbo",
    "image_bound",
    "importance_bound",
    "inner_bound",
    "joint_bound",
    "leave_one_out",
    "log_importance_weights",
    "masked_elbo",
    "matching_bound",
    "outer_bound",
    "permutation_bound",
    "vimco",
]
