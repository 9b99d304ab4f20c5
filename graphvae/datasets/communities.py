"""Random graphs with communities: stochastic block models, and two communities with a few bridges.

Arguments as in `generators`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import networkx as nx
import numpy as np
from torch_geometric.data import Data

from graphvae.datasets.draws import Array, Seed, Sizes, accepted, bounds, check_probabilities, if_connected, rng_from
from graphvae.datasets.graph_lists import joined

_WITHIN, _BRIDGES = 0.7, 0.05  # Of community_small.


def sbm(
    num_graphs: int,
    seed: Seed,
    communities: Sizes = (2, 5),
    community_size: Sizes = (20, 40),
    within: float = 0.3,
    between: float = 0.005,
) -> list[Data]:
    """Stochastic block models, drawn anew until connected: a probability `within` a community, another `between` them.

    References:
        Martinkus et al., "SPECTRE", 2022, arXiv:2204.01613: the set SBM.
    """
    check_probabilities(within=within, between=between)
    rng = rng_from(num_graphs, seed)
    few, many = bounds(communities, "communities")
    least, largest = bounds(community_size, "community_size")

    def draw() -> tuple[int, Array] | None:
        sizes = rng.integers(least, largest, rng.integers(few, many, endpoint=True), endpoint=True)
        block = np.arange(sizes.size).repeat(sizes)
        ends = np.stack(np.triu_indices(block.size, 1))
        chance = np.where(block[ends[0]] == block[ends[1]], within, between)
        return if_connected(block.size, ends[:, rng.random(chance.size) < chance])

    return accepted(draw, num_graphs)


def community(
    num_graphs: int,
    seed: Seed,
    community_size: Sizes = (6, 10),
    within: float = _WITHIN,
    bridges: float = _BRIDGES,
) -> list[Data]:
    """Two communities of one size, each an Erdős–Rényi graph of its own, and few bridges; drawn anew until connected.

    What community_small is described as (Niu et al., 2020, arXiv:2003.00638); see `community_small` for what it is.

    Args:
        num_graphs: How many.
        seed: An integer or a generator.
        community_size: Nodes of one community, c, or the least and the largest.
        within: Probability of an edge in a community.
        bridges: Half the expected bridges of one node: a pair across is joined with probability 2 · `bridges` / c;
            the first nodes of both are joined if no other pair is.
    """
    least, largest = bounds(community_size, "community_size", least=2)
    check_probabilities(within=within, bridges=2 * bridges / least)
    rng = rng_from(num_graphs, seed)

    def draw() -> tuple[int, Array] | None:
        size = int(rng.integers(least, largest, endpoint=True))
        ends = np.stack(np.triu_indices(size, 1))
        first, second = (ends[:, rng.random(ends.shape[1]) < within] for _ in range(2))
        return if_connected(2 * size, _bridged(rng, first, second, size, bridges))

    return accepted(draw, num_graphs)


def community_small(num_graphs: int, seed: Seed, num_nodes: Sequence[int] = range(12, 21)) -> list[Data]:
    """The true distribution of the set community_small: of each size the same two communities, and random bridges.

    Its code seeds each community anew, so that all graphs of a size differ only in one to a few bridges. A model that
    learns more than that cannot be told from one that memorises; publish scores on it with that in mind.

    Args:
        num_graphs: How many.
        seed: An integer or a generator.
        num_nodes: Sizes to draw from, uniformly with their repetitions; of odd ones the next smaller is taken.

    References:
        Jo et al., "GDSS", 2022, arXiv:2202.02514, whose generator this repeats.
    """
    bounds((min(num_nodes, default=0), max(num_nodes, default=0)), least=4)
    rng = rng_from(num_graphs, seed)
    sizes = rng.choice(np.asarray(num_nodes), num_graphs) // 2
    return joined(2 * sizes, [_bridged(rng, *_templates(int(size)), int(size), _BRIDGES) for size in sizes])


@cache
def _templates(size: int) -> tuple[Array, Array]:
    graphs = (nx.gnp_random_graph(size, _WITHIN, seed=seed) for seed in range(2))
    first, second = (np.array(graph.edges, dtype=np.int64).reshape(-1, 2).T for graph in graphs)
    return first, second


def _bridged(rng: np.random.Generator, first: Array, second: Array, size: int, bridges: float) -> Array:
    across = np.stack(np.nonzero(rng.random((size, size)) < 2 * bridges / size))
    across = across if across.size else np.zeros((2, 1), dtype=np.int64)
    return np.concatenate([first, second + size, across + np.array([[0], [size]])], 1)
