"""What people look at: figures of results, drawn without a display."""

from graphvae.plots.figures import new_figure
from graphvae.plots.links import link_prediction

__all__ = ["link_prediction", "new_figure"]
