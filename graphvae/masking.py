"""Edges to be predicted, and the graph without them: mini-batches of a large graph, random masks of a smaller one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from graphvae.graphs import Graphs, as_batch, batch_of, contents
from graphvae.layout import Layout
from graphvae.neighbors import NeighborSampler
from graphvae.nonedges import NonEdges, once


class LinkBatches:
    """Mini-batches for `objectives.masked_edges`: in an epoch every edge is a target once, in a random order.

    A batch holds m target edges and M pairs drawn uniformly from all that are not joined, and, to encode them, the
    graph *without its targets* (neither direction), sampled around the end points of both: no network can see what it
    is to predict. It is a checked `Batch` of one graph with the attributes `targets` `(2, m)` and `non_edges` `(2, M)`
    in local numbering, `total_edges` and `total_non_edges` of the whole graph, and `n_id` `(n,)`, its nodes' numbers
    there. Batches of an epoch differ in m by one at most.

    Held on the CPU, beside the features: 12 bytes per column of `edge_index`, where that has 16 (directed: 20).

    Args:
        graph: One graph, checked here.
        batch_size: Target edges per batch, at most; they are missing from what the encoder sees, so that it should be
            a small share of all edges.
        fanouts: As for `NeighborSampler`; one per layer of the encoder is customary.
        negatives: M / m. The weights in `masked_edges` undo it: more give less noise, not another objective.
        directed: Targets are ordered pairs, and the reverse of a target may be seen.

    Raises:
        ValueError, TypeError: As `as_batch`; no edges, no features, or bad settings.
    """

    def __init__(
        self,
        graph: Data,
        batch_size: int = 1024,
        fanouts: Sequence[int] = (10, 10),
        negatives: float = 1.0,
        directed: bool = False,
    ) -> None:
        if batch_size < 1 or negatives <= 0:
            raise ValueError(f"'batch_size' and 'negatives' must be positive, got {batch_size} and {negatives}")
        whole = copy.copy(as_batch(graph, directed)).cpu()  # `Batch.cpu` moves in place.
        if whole.layout.num_graphs != 1 or whole.x is None:
            lacking = "no features" if whole.x is None else f"{whole.layout.num_graphs} graphs"
            raise ValueError(f"'graph' must be one graph with features 'x', got {lacking}")
        if whole.x.layout != torch.strided:
            raise TypeError(
                f"'graph' must have dense features to gather rows of, got {whole.x.layout}; use x.to_dense()"
            )
        edge_index, num_nodes = whole.edge_index, whole.layout.num_rows
        self.x, self.directed = whole.x, directed
        self.batch_size, self.negatives = batch_size, negatives
        self.sampler = NeighborSampler(whole, fanouts, directed)
        self.non_edges = NonEdges(edge_index, whole.layout, directed)
        targets = once(edge_index, directed)
        self.targets = targets.int() if num_nodes < 2**31 else targets
        if batch_size >= targets.size(1):
            raise ValueError(
                f"'batch_size' must be less than the {targets.size(1)} edges of the graph, got {batch_size}: the "
                "targets of a batch are hidden from the encoder, which would see no edge"
            )

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self.targets.size(1) // self.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch, drawn by a generator of the CPU."""
        order = torch.randperm(self.targets.size(1), generator=generator, dtype=self.targets.dtype)
        for chosen in order.tensor_split(len(self)):
            yield self._batch(self.targets.index_select(1, chosen).long(), generator)

    def few(self) -> Batch:
        """A small batch of the same kind, always the same one."""
        few = [2] * len(self.sampler.fanouts)
        return self._batch(self.targets[:, :2].long(), torch.Generator().manual_seed(0), few)

    def facts(self) -> tuple[list[Tensor], str]:
        """The tensors and the settings that tell one source of batches from another."""
        settings = f"{self.batch_size} {self.sampler.fanouts} {self.negatives} {self.directed}"
        return [self.x, self.targets], settings

    def _batch(self, targets: Tensor, generator: torch.Generator, fanouts: Sequence[int] | None = None) -> Batch:
        non_edges = self.non_edges.sample(max(1, round(self.negatives * targets.size(1))), generator)
        ends = torch.cat([targets, non_edges], 1)
        around = self.sampler.sample(ends.flatten(), generator, without=targets, fanouts=fanouts)
        layout = Layout.single(around.n_id.numel())
        batch = batch_of(self.x.index_select(0, around.n_id), around.edge_index, layout, self.directed)
        batch.targets, batch.non_edges = around.seeds.view(2, -1).split([targets.size(1), non_edges.size(1)], 1)
        batch.total_edges, batch.total_non_edges = self.targets.size(1), self.non_edges.count
        batch.n_id = around.n_id
        return batch


class MaskedGraphs:
    """Random masks for `bounds.masked_elbo`: in each epoch, one step, another share of the edges is hidden.

    A batch is what is left visible, with the hidden edges in its attribute `hidden` `(2, H)`, both directions of an
    undirected one. Start an edge factor's bias at the density of what it predicts: `hidden_share * density(graphs)`.

    Args:
        graphs: One graph, a PyG batch or a list, checked here. It stays on its device: put it on that of the training
            first, or it is copied there at every step.
        hidden_share: Of the edges, in (0, 1); rounded, but at least one edge.
        directed: Edges may lack their reverse, and are hidden without it.

    Raises:
        ValueError, TypeError: As `as_batch`; no edges, or a bad share.
    """

    def __init__(self, graphs: Graphs, hidden_share: float = 0.15, directed: bool = False) -> None:
        if not 0 < hidden_share < 1:
            raise ValueError(f"'hidden_share' must lie strictly between 0 and 1, got {hidden_share}")
        self.graphs, self.hidden_share = as_batch(graphs, directed), hidden_share
        if self.graphs.edge_index.numel() == 0:
            raise ValueError("'graphs' must have an edge to hide, they have none")
        # Not what the batch says: one that was checked as undirected may be used as directed.
        self.directed = directed
        self._edges = once(self.graphs.edge_index, directed)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return 1

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The one batch of an epoch, drawn by a generator of the CPU."""
        num_edges = self._edges.size(1)
        order = torch.randperm(num_edges, generator=generator).to(self._edges.device)
        num_hidden = max(1, round(self.hidden_share * num_edges))
        hidden, visible = (
            self._directions(self._edges[:, part]) for part in order.split([num_hidden, num_edges - num_hidden])
        )
        batch = batch_of(self.graphs.x, visible, self.graphs.layout, self.directed)
        batch.hidden = hidden
        yield batch

    def few(self) -> Batch:
        """A batch of an epoch, always the same one."""
        return next(self.epoch(torch.Generator().manual_seed(0)))

    def facts(self) -> tuple[list[Tensor], str]:
        """The tensors and the settings that tell one source of batches from another."""
        return contents(self.graphs), f"{self.hidden_share} {self.directed}"

    def _directions(self, edges: Tensor) -> Tensor:
        return edges if self.directed else torch.cat([edges, edges.flip(0)], 1)
