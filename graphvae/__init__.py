"""Generative models of graphs on PyTorch and PyTorch Geometric."""

from graphvae.bounds import elbo, importance_bound
from graphvae.checkpoints import load, save
from graphvae.graphs import as_batch, edgeless
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.training import fit

__all__ = ["GraphVAE", "Layout", "as_batch", "edgeless", "elbo", "fit", "importance_bound", "load", "save"]
__version__ = "0.1.0"
