"""Generated graphs against test and training graphs: own implementations, from tensors, batched, on any device."""

from graphvae.evaluation.graphs.intervals import bootstrap, wilson
from graphvae.evaluation.graphs.kernels import EARTH_MOVERS, TOTAL_VARIATION, Kernels, discrepancies
from graphvae.evaluation.graphs.novelty import novelty, share_isomorphic
from graphvae.evaluation.graphs.random_gin import RandomGIN, random_gin_scores
from graphvae.evaluation.graphs.ratios import autograph_ratio, defog_ratio, hspectre_ratio
from graphvae.evaluation.graphs.report import Evaluation, Honesty, evaluate, honesty
from graphvae.evaluation.graphs.statistics import GraphStatistics, graph_statistics
from graphvae.evaluation.graphs.validity import any_graph, connected, grid, lobster, planar, tree

__all__ = [
    "EARTH_MOVERS",
    "TOTAL_VARIATION",
    "Evaluation",
    "GraphStatistics",
    "Honesty",
    "Kernels",
    "RandomGIN",
    "any_graph",
    "autograph_ratio",
    "bootstrap",
    "connected",
    "defog_ratio",
    "discrepancies",
    "evaluate",
    "graph_statistics",
    "grid",
    "honesty",
    "hspectre_ratio",
    "lobster",
    "novelty",
    "planar",
    "random_gin_scores",
    "share_isomorphic",
    "tree",
    "wilson",
]
