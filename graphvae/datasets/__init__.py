"""Data: citation graphs, sets of small graphs, an embedded graph, vectors, and splits that cannot leak."""

from graphvae.datasets.citation import citation
from graphvae.datasets.imports import standard_library
from graphvae.datasets.small import small_graphs
from graphvae.datasets.splits import LinkSplit
from graphvae.datasets.vectors import Samples, vectors

__all__ = ["LinkSplit", "Samples", "citation", "small_graphs", "standard_library", "vectors"]
