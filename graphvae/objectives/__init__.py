"""Objectives that are useful and, but for a batch's mean of `free_bits`, *not* bounds; each says so.

Larger is better, one number per graph.
"""

from graphvae.objectives.autoencoding import denoising, reconstruction, relaxed
from graphvae.objectives.latents import WarmUp, free_bits
from graphvae.objectives.links import kipf_welling, masked_edges
from graphvae.objectives.scales import fix_optimal_scale, optimal_scale
from graphvae.objectives.valences import ValencePenalty

__all__ = [
    "ValencePenalty",
    "WarmUp",
    "denoising",
    "fix_optimal_scale",
    "free_bits",
    "kipf_welling",
    "masked_edges",
    "optimal_scale",
    "reconstruction",
    "relaxed",
]
