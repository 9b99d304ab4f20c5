"""Data: citation graphs, sets of small graphs, molecules, an embedded graph, vectors, and splits that cannot leak."""

from graphvae.datasets.citation import citation
from graphvae.datasets.imports import standard_library
from graphvae.datasets.molecules import Molecules, molecules
from graphvae.datasets.small import small_graphs
from graphvae.datasets.splits import LinkSplit
from graphvae.datasets.vectors import Samples, vectors

__all__ = ["LinkSplit", "Molecules", "Samples", "citation", "molecules", "small_graphs", "standard_library", "vectors"]
