"""What people look at: figures of results, drawn without a display."""

from graphvae.plots.components import components
from graphvae.plots.denoising import denoised_digits, denoising_field
from graphvae.plots.figures import new_figure
from graphvae.plots.generation import generated_graphs, graph_statistics_compared
from graphvae.plots.latent_space import latent_space
from graphvae.plots.links import link_prediction
from graphvae.plots.molecules import generated_molecules, molecule_histograms
from graphvae.plots.reconstructions import reconstructions

__all__ = [
    "components",
    "denoised_digits",
    "denoising_field",
    "generated_graphs",
    "generated_molecules",
    "graph_statistics_compared",
    "latent_space",
    "link_prediction",
    "molecule_histograms",
    "new_figure",
    "reconstructions",
]
