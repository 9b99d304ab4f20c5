"""Data: citation graphs, sets of small graphs, molecules, an embedded graph, vectors, and splits that cannot leak."""

from graphvae.datasets.citation import citation
from graphvae.datasets.graph_files import write_graph6, write_graphs
from graphvae.datasets.graph_lists import GraphSplits, graphs_from
from graphvae.datasets.imports import standard_library
from graphvae.datasets.molecules import Molecules, molecules
from graphvae.datasets.small import oracle, read_graphs, small_graphs
from graphvae.datasets.splits import LinkSplit
from graphvae.datasets.vectors import Samples, vectors

__all__ = [
    "GraphSplits",
    "LinkSplit",
    "Molecules",
    "Samples",
    "citation",
    "graphs_from",
    "molecules",
    "oracle",
    "read_graphs",
    "small_graphs",
    "standard_library",
    "vectors",
    "write_graph6",
    "write_graphs",
]
