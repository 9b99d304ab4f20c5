"""Adjacency matrices of a batch of small graphs, padded, a few graphs of similar size at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.graphs import Selector, without_features

_ENTRIES = 1 << 20
_PADDING = 1.25


class Adjacencies(NamedTuple):
    """Adjacency matrices of `b` graphs of at most `n` nodes.

    `matrix` is `(b, n, n)` float64, zero where there is no node; `mask` `(b, n)` says where there is one; `graphs`
    `(b,)` are the graphs' numbers in the batch and `nodes` `(mask.sum(),)` the rows of their nodes, as `mask` has them.
    """

    matrix: Tensor
    mask: Tensor
    graphs: Tensor
    nodes: Tensor


def padded_adjacencies(graphs: Batch, entries: int = _ENTRIES) -> Iterator[Adjacencies]:
    """All graphs of a checked batch, in chunks of graphs whose sizes differ by at most a quarter.

    Args:
        graphs: From `as_batch`.
        entries: How many entries the matrices of a chunk may have together; one graph may have more.
    """
    select = Selector(without_features(graphs))
    first, device = graphs.layout.ptr[:-1], graphs.edge_index.device
    for chosen in _of_similar_size(graphs.layout.host_sizes, entries):
        part = select(chosen)
        layout, (source, target) = part.layout, part.edge_index
        ids = torch.tensor(chosen, device=device)
        mask = layout.dense(torch.zeros(layout.num_rows, device=device))[1]
        matrix = torch.zeros(*mask.shape, mask.size(1), dtype=torch.float64, device=device)
        matrix[layout.batch[source], layout.places[source], layout.places[target]] = 1
        yield Adjacencies(matrix, mask, ids, first[ids][layout.batch] + layout.places)


def _of_similar_size(sizes: Sequence[int], entries: int) -> Iterator[list[int]]:
    chosen: list[int] = []
    for graph in sorted(range(len(sizes)), key=sizes.__getitem__):
        size = sizes[graph]
        if chosen and (size > _PADDING * sizes[chosen[0]] or (len(chosen) + 1) * size**2 > entries):
            yield chosen
            chosen = []
        chosen.append(graph)
    yield chosen
