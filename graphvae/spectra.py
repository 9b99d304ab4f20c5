"""Nodes classed by the Fiedler vector of their connected component, in a way that does not depend on their numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphvae.structure import Neighbors

# Eigenvectors are good to about 1e-16 over the relative gap of the eigenvalues, so a gap of 1e-6 leaves them 1e-10.
_SAME_EIGENVALUE, _SAME_ENTRY = 1e-6, 1e-8


class FiedlerClasses(NamedTuple):
    """Nodes by the entries of an eigenvector.

    `classes` is `(N,)` int64, rising with the entry within a component, equal where entries are; `signless` is `(C,)`
    bool, for which components nothing tells the vector from its negative.
    """

    classes: Tensor
    signless: Tensor


def fiedler_classes(neighbors: Neighbors, component: Tensor) -> FiedlerClasses:
    """Classes of the nodes by the eigenvector of the second smallest eigenvalue of their component's Laplacian.

    Its sign is that of its skewness. If the eigenvalue is multiple there is no such vector; then the entries are those
    of the diagonal of the projector onto its eigenvectors, which is determined. Components of one or two nodes have one
    class. Dense, in float64: time O(m³) and memory O(m²) for each component of m nodes.

    Args:
        neighbors: Of the batch.
        component: `(N,)` connected component of each node, 0, 1, ... without gaps.

    References:
        Fiedler, "Algebraic connectivity of graphs", 1973.
    """
    sizes = torch.bincount(component)
    classes, signless = torch.zeros_like(component), torch.zeros_like(sizes, dtype=torch.bool)
    # Of similar size, so that padding at most doubles a side.
    width = 4
    while width < 2 * int(sizes.max()):
        chosen = ((sizes > max(2, width // 2)) & (sizes <= width)).nonzero().squeeze(1)
        if chosen.numel():
            nodes, place = _slots(component, sizes, chosen, width)
            laplacian = _padded_laplacians(neighbors, nodes, place, chosen.numel(), width)
            entries, signless[chosen] = _entries(laplacian, sizes[chosen])
            classes[nodes] = _gap_classes(entries).flatten()[place]
        width *= 2
    return FiedlerClasses(classes, signless)


def _slots(component: Tensor, sizes: Tensor, chosen: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The nodes `(R,)` of the chosen components, and the place of each among all `len(chosen) * width`."""
    row = torch.full_like(sizes, -1).scatter_(0, chosen, torch.arange(chosen.numel(), device=chosen.device))
    nodes = component.argsort(stable=True)
    nodes = nodes[row[component[nodes]] >= 0]
    rows = row[component[nodes]]
    before = sizes[chosen].cumsum(0) - sizes[chosen]
    return nodes, rows * width + torch.arange(nodes.numel(), device=nodes.device) - before[rows]


def _padded_laplacians(neighbors: Neighbors, nodes: Tensor, place: Tensor, count: int, width: int) -> Tensor:
    """`(count, width, width)`; padded places are nodes of their own, with eigenvalues above all others."""
    slot = torch.full_like(neighbors.degree, -1).scatter_(0, nodes, place)
    ends = slot[neighbors.edge_index]
    ends = ends[:, ends[0] >= 0]
    diagonal = torch.full((count * width,), 4.0 * width, dtype=torch.float64, device=nodes.device)
    diagonal[place] = neighbors.degree[nodes].double()
    laplacian = diagonal.view(count, width).diag_embed()
    laplacian.view(-1)[ends[0] * width + ends[1] % width] = -1.0
    return laplacian


def _entries(laplacian: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """`(c, width)` what nodes are sorted by, infinite where there is none, and `(c,)` whether its sign is open."""
    values, vectors = torch.linalg.eigh(laplacian)
    same = (values - values[:, 1:2]).abs() <= _SAME_EIGENVALUE * values[:, 1:2].clamp_min(1)
    same[:, 0] = False
    vector = vectors[:, :, 1]
    skewness = vector.pow(3).sum(1)
    simple = same.sum(1) == 1
    oriented = torch.where(skewness < 0, -1.0, 1.0)[:, None] * vector
    projector = (vectors.square() * same[:, None]).sum(2)
    entries = torch.where(simple[:, None], oriented, projector)
    beyond = torch.arange(laplacian.size(1), device=sizes.device) >= sizes[:, None]
    return entries.masked_fill_(beyond, torch.inf), simple & (skewness.abs() <= _SAME_ENTRY)


def _gap_classes(entries: Tensor) -> Tensor:
    """The number of gaps among the sorted entries of a row below each."""
    ordered, order = entries.sort(1)
    gaps = torch.nn.functional.pad((ordered.diff(dim=1) > _SAME_ENTRY).long(), (1, 0)).cumsum(1)
    return torch.empty_like(gaps).scatter_(1, order, gaps)
