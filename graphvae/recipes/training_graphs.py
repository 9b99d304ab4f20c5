"""What recipes ask of the graphs that a model is made for."""

from __future__ import annotations

from torch_geometric.data import Batch

from graphvae.graphs import Graphs, as_batch
from graphvae.validation import check_positive


def featured(train: Graphs) -> Batch:
    """Training graphs as one checked batch with features, which an encoder reads.

    Raises:
        TypeError, ValueError: As `as_batch`, or the graphs have no features.
    """
    batch = as_batch(train)
    if batch.x is None:
        raise ValueError(
            "'train' must have node features 'x', got bare graphs; recipes.node_latents.with_structure makes some"
        )
    return batch


def places_for(train: Batch, max_nodes: int | None) -> int:
    """`max_nodes`, or as many places as the largest graph of a checked batch has nodes if it is None.

    Raises:
        TypeError, ValueError: It is no positive integer, or less than that.
    """
    largest = max(train.layout.host_sizes)
    if max_nodes is None:
        return largest
    check_positive(max_nodes=max_nodes)
    if max_nodes < largest:
        raise ValueError(
            f"'max_nodes' must be at least the size of the largest graph, got {max_nodes} for one of {largest} nodes"
        )
    return max_nodes
