"""Colour refinement: which nodes look alike to any depth. Colours are 64-bit numbers, the same wherever they arise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.sort_keys import first_of_each
from graphvae.structure import lowest_connected

# The finaliser of splitmix64 (Steele, Lea & Flood, 2014), its constants as signed integers; and three arbitrary salts.
_FACTORS = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
_SHIFTS = (30, 27, 31)
_OUTGOING, _INCOMING, _CHOSEN = -0x61C8864680B583EB, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D


def refined(graphs: Batch, initial: Tensor | None = None) -> Tensor:
    """Stable colours of the nodes: `(N,)` int64.

    Two nodes, of one graph or of two, get the same colour exactly if colour refinement (one-dimensional
    Weisfeiler-Leman) cannot tell them apart: they start alike, and so do their neighbours, and theirs, to any depth. A
    colour is a hash of what can be seen from its node. It does not depend on the numbering of the nodes or on the rest
    of the batch, not even on the number of nodes: all nodes of all cycles are alike. Nodes that can be told apart may
    share a colour only by a coincidence of 64-bit numbers.

    Args:
        graphs: From `as_batch`. In directed graphs out- and in-neighbours count, apart.
        initial: `(N,)` int64 colours to start from, as of `individualised`; those of `of_features` if None.

    References:
        Weisfeiler & Leman, 1968.
    """
    colours = of_features(graphs) if initial is None else initial
    edges = graphs.edge_index
    component = lowest_connected(torch.cat([edges, edges.flip(0)], 1) if graphs.directed else edges, colours.numel())
    classes, growing = torch.zeros_like(colours), torch.ones_like(colours, dtype=torch.bool)
    while bool(growing.any()):
        colours = torch.where(growing[component], _seen_farther(graphs, colours), colours)
        before, classes = classes, _per_component(_first_of_class(colours, component).long(), component)
        growing = classes > before
    # A component is done after the first round that splits no class. How many rounds that takes can be seen from each
    # of its nodes; what more rounds would tell is which colours there are after the last.
    present = mixed(colours) * _first_of_class(colours, component)
    return mixed(colours + mixed(_per_component(present, component))[component])


def individualised(colours: Tensor, nodes: Tensor) -> Tensor:
    """`colours` `(N,)` with new ones for `nodes` `(M,)`, each a function of the old one, to refine from."""
    return colours.index_copy(0, nodes, mixed(colours[nodes] + _CHOSEN))


def of_features(graphs: Batch) -> Tensor:
    """A colour for each different row of x: `(N,)` int64. The same for all nodes if there are no features."""
    colours = torch.zeros(graphs.layout.num_rows, dtype=torch.long, device=graphs.edge_index.device)
    if graphs.x is not None:
        entries = graphs.x.detach().to_sparse_coo().coalesce()
        (rows, columns), values = entries.indices(), entries.values().double()
        marks = mixed(values.view(torch.long) + mixed(columns + _OUTGOING)) * (values != 0)
        colours.index_add_(0, rows, marks)
    return mixed(colours + _OUTGOING)


def _seen_farther(graphs: Batch, colours: Tensor) -> Tensor:
    """A round: the colour of each node with those of its neighbours, as a set with multiplicities."""
    source, target = graphs.edge_index
    around = colours.index_add(0, source, mixed(colours + _OUTGOING)[target])
    if graphs.directed:
        around = around.index_add(0, target, mixed(colours + _INCOMING)[source])
    return mixed(around)


def _first_of_class(colours: Tensor, component: Tensor) -> Tensor:
    """Marks one node of each colour in each component: `(N,)`."""
    return first_of_each(mixed(colours + mixed(component)))


def _per_component(rows: Tensor, component: Tensor) -> Tensor:
    """Sums `rows` `(N,)` over each component, at its lowest node: `(N,)`, zero elsewhere."""
    return torch.zeros_like(rows).index_add_(0, component, rows)


def mixed(numbers: Tensor) -> Tensor:
    """A bijection of 64-bit numbers in which every bit of the result depends on all bits; sums wrap around."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        high = (numbers >> shift) & ((1 << (64 - shift)) - 1)  # Without the copies of the sign.
        numbers = (numbers ^ high) * factor
    return numbers
