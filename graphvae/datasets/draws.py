"""What all generators of random graphs share: where randomness is from, sizes, draws that are repeated if refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch_geometric.data import Data

from graphvae.datasets.graph_lists import joined
from graphvae.validation import check_positive

Array: TypeAlias = np.ndarray[Any, Any]
Seed: TypeAlias = int | np.random.Generator | torch.Generator
Sizes: TypeAlias = int | tuple[int, int]
_TRIES = 10_000


def rng_from(num_graphs: int, seed: Seed) -> np.random.Generator:
    """The generator that `seed` is or starts, after a check of the first argument of every generator of graphs."""
    check_positive(num_graphs=num_graphs)
    if isinstance(seed, torch.Generator):
        return np.random.default_rng(int(torch.randint(2**62, (), generator=seed, device=seed.device)))
    return np.random.default_rng(seed)


def bounds(sizes: Sizes, name: str = "num_nodes", least: int = 1) -> tuple[int, int]:
    """The least and the largest, if `sizes` is a number or two in order."""
    low, high = (sizes, sizes) if isinstance(sizes, int) else sizes
    if not least <= low <= high:
        raise ValueError(f"'{name}' must be a number of at least {least}, or two in rising order, got {sizes}")
    return low, high


def drawn_sizes(num_graphs: int, seed: Seed, num_nodes: Sizes, least: int = 1) -> tuple[np.random.Generator, Array]:
    """A generator, and `(num_graphs,)` sizes, uniform within `num_nodes`."""
    rng, (low, high) = rng_from(num_graphs, seed), bounds(num_nodes, least=least)
    return rng, rng.integers(low, high, num_graphs, endpoint=True)


def check_probabilities(**chances: float) -> None:
    """Checks that each is one."""
    for name, chance in chances.items():
        if not 0 <= chance <= 1:
            raise ValueError(f"'{name}' must be a probability, got {chance}")


def accepted(draw: Callable[[], tuple[int, Array] | None], num_graphs: int) -> list[Data]:
    """Graphs from `draw`, a size and `(2, E)` edges, each drawn anew until it is not None.

    Raises:
        ValueError: None of many draws was accepted.
    """
    found: list[tuple[int, Array]] = []
    for _ in range(num_graphs):
        graph = next((graph for graph in (draw() for _ in range(_TRIES)) if graph is not None), None)
        if graph is None:
            raise ValueError(
                f"none of {_TRIES} random graphs met the conditions (its size, or that it is connected); "
                "change the probabilities or sizes that are asked for"
            )
        found.append(graph)
    return joined([size for size, _ in found], [edges for _, edges in found])


def if_connected(size: int, edges: Array) -> tuple[int, Array] | None:
    """The graph, if it is connected."""
    matrix = coo_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(size, size))
    return (size, edges) if connected_components(matrix, directed=False, return_labels=False) == 1 else None
