"""Which graphs are the same up to the numbering of their nodes, decided exactly."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import networkx as nx
import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae import colours
from graphvae.automorphisms import smallest_classes
from graphvae.graphs import Selector, field, layout_of_edges
from graphvae.layout import Layout

_TYPED_ROUNDS = 3


def isomorphism_classes(*sets: Batch) -> list[Tensor]:
    """The isomorphism class of every graph of one or more sets: equal numbers, also across sets, mean isomorphic.

    An isomorphism keeps edges, rows of x and edge types (`edge_type`, alike in both directions of an edge).

    Graphs of different colours after colour refinement are not isomorphic. Of those of the same colours, nodes are
    numbered by refinement and individualisation, all graphs at once; where the renumbered graphs are equal, that is an
    isomorphism. What is left undecided, regular graphs mostly, goes to networkx's VF2++ pair by pair, which may take
    long for graphs made to be hard.

    Args:
        *sets: From `as_batch`, undirected.

    Returns:
        For each set `(B,)` int64, on the CPU.

    Raises:
        ValueError: Some of the sets have x or edge types and some have not, or x of another width.

    References:
        McKay & Piperno, "Practical graph isomorphism, II", 2014, arXiv:1301.1493; Jüttner & Madarasi, "VF2++", 2018.
    """
    _check_alike(sets)
    keys = torch.cat([_graph_colours(graphs) for graphs in sets]).cpu()
    numbers, counts = keys.unique(return_inverse=True, return_counts=True)[1:]
    parts = numbers.split([graphs.layout.num_graphs for graphs in sets])
    forms: list[_Form] = []
    for graphs, own in zip(sets, parts, strict=True):
        forms += _numbered(graphs, (counts[own] > 1).nonzero()[:, 0])
    members = (counts[numbers] > 1).nonzero()[:, 0].tolist()
    next_class = int(counts.numel())
    known: dict[int, list[tuple[int, _Form]]] = defaultdict(list)
    for place, form in zip(members, forms, strict=True):
        classes = known[int(numbers[place])]
        found = next((number for number, other in classes if _isomorphic(form, other)), None)
        if found is None:
            found, next_class = next_class, next_class + 1
        if all(other.code != form.code for _, other in classes):
            classes.append((found, form))
        numbers[place] = found
    return list(numbers.split([graphs.layout.num_graphs for graphs in sets]))


class _Form(NamedTuple):
    """A graph with its nodes renumbered by their colours.

    `code` is equal for graphs that are equal with this numbering; `edges` `(E, 3)` hold two nodes and a type; `colour`
    has, by node, the colour of stable refinement and the row of x, bit by bit.
    """

    code: bytes
    edges: np.ndarray[Any, Any]
    colour: list[bytes]


def _check_alike(sets: tuple[Batch, ...]) -> None:
    for name, what in (("x", "node features"), ("edge_type", "edge types")):
        if len({field(graphs, name) is None for graphs in sets}) > 1:
            raise ValueError(
                f"all sets of graphs to compare must have '{name}' or none, got {what} in some; to compare the edges "
                "alone, use graphvae.graphs.without_features(as_batch(graphs))"
            )
    widths = sorted({graphs.x.size(1) for graphs in sets if field(graphs, "x") is not None})
    if len(widths) > 1:
        raise ValueError(
            f"all sets of graphs to compare must have 'x' of one width, got {widths} columns: rows of other widths are "
            "never equal, and every graph would be new; encode them alike"
        )


def _graph_colours(graphs: Batch) -> Tensor:
    """`(B,)` int64, the same for isomorphic graphs."""
    nodes, layout = colours.mixed(_stable(graphs)), graphs.layout
    sums = torch.zeros_like(layout.sizes).index_add_(0, layout.batch, nodes)
    return colours.mixed(sums + colours.mixed(layout.sizes))


def _stable(graphs: Batch) -> Tensor:
    """`(N,)` colours of stable refinement; of edge types, what is seen within three steps."""
    edge_type = field(graphs, "edge_type")
    found = colours.of_features(graphs)
    if edge_type is None:
        return colours.refined(graphs, found)
    (source, target), marks = graphs.edge_index, colours.mixed(edge_type + 1)
    for _ in range(_TYPED_ROUNDS):
        found = colours.mixed(found.index_add(0, source, colours.mixed(found[target] + marks)))
    return colours.refined(graphs, found)


def _numbered(graphs: Batch, chosen: Tensor) -> list[_Form]:
    if chosen.numel() == 0:
        return []
    part = Selector(graphs)(chosen)
    edge_type = field(graphs, "edge_type")
    if edge_type is not None and field(part, "edge_type") is None:
        part.edge_type = torch.cat([edge_type.split(layout_of_edges(graphs).host_sizes)[i] for i in chosen.tolist()])
    stable = _stable(part)
    order = _by_colour(_discrete(part, stable), part.layout)
    return _forms(part, stable, order)


def _discrete(graphs: Batch, found: Tensor) -> Tensor:
    """Colours of which no two nodes of a graph share one: a node is singled out, colours refined, and so on."""
    layout = graphs.layout
    while (nodes := smallest_classes(found, layout)[0]).numel():
        going_on = torch.zeros(layout.num_graphs, dtype=torch.bool, device=found.device)
        going_on[layout.batch[nodes]] = True
        finer = colours.refined(graphs, colours.individualised(found, nodes))
        # What is done stays, lest its colours depend on how long other graphs of the batch take.
        found = torch.where(going_on[layout.batch], finer, found)
    return found


def _by_colour(found: Tensor, layout: Layout) -> Tensor:
    """`(N,)` rows, graph after graph, by rising colour."""
    order = found.argsort()
    return order[layout.batch[order].argsort(stable=True)]


def _forms(graphs: Batch, stable: Tensor, order: Tensor) -> list[_Form]:
    layout, edge_type = graphs.layout, field(graphs, "edge_type")
    place = torch.empty_like(order).scatter_(0, order, layout.places)
    source, target = place[graphs.edge_index]
    types = torch.zeros_like(source) if edge_type is None else edge_type
    edges = torch.stack([source, target, types], 1)
    rows = stable[order][:, None] if graphs.x is None else _with_rows(stable, graphs.x)[order]
    pieces = zip(
        edges.cpu().split(layout_of_edges(graphs).host_sizes), rows.cpu().split(layout.host_sizes), strict=True
    )
    return [_form(own.numpy(), colour.numpy()) for own, colour in pieces]


def _with_rows(stable: Tensor, x: Tensor) -> Tensor:
    """`(N, 1 + F)`: the colours and, bit by bit, the rows of x."""
    return torch.cat([stable[:, None], x.detach().to_dense().double().add(0.0).view(torch.long)], 1)


def _form(edges: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> _Form:
    edges = edges[np.lexsort(edges.T[::-1])]
    return _Form(edges.tobytes() + b"|" + rows.tobytes(), edges, [row.tobytes() for row in rows])


def _isomorphic(one: _Form, other: _Form) -> bool:
    if one.code == other.code:
        return True
    if sorted(one.colour) != sorted(other.colour) or one.edges.shape != other.edges.shape:
        return False
    return bool(nx.vf2pp_is_isomorphic(_labelled(one), _labelled(other), node_label="colour"))


def _labelled(form: _Form) -> nx.Graph:
    """As a graph of networkx in which edges with a type are nodes, because VF2++ knows labels of nodes alone."""
    net: nx.Graph = nx.Graph()
    net.add_nodes_from((node, {"colour": (0, colour)}) for node, colour in enumerate(form.colour))
    for source, target, kind in form.edges[form.edges[:, 0] < form.edges[:, 1]].tolist():
        if kind == 0:
            net.add_edge(source, target)
        else:
            middle = (source, target)
            net.add_node(middle, colour=(1, kind))
            net.add_edges_from([(source, middle), (middle, target)])
    return net
