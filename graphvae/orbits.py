r"""How often each node takes each place in the connected induced subgraphs of two to four nodes: 15 orbits, exactly.

First, subgraphs are counted that need not be induced, for which there are closed forms. Let \(A\) be the adjacency
matrix, \(d\) the degrees, \(C = A^2\), in which \(C_{ij}\) is the number of common neighbours of i and j,
\(T = A \circ C\) the triangles on each edge and \(t_i = \frac12 \sum_j T_{ij}\) those at each node. A path of four
nodes that starts in i, for instance, is a walk i, j, k, l that does not return: there are \((A A (d - 1))_i\) of those
without a step straight back in the third place, of which \(d_i (d_i - 1)\) go back in the second and \(2 t_i\) close a
triangle.
Only complete subgraphs of four have no such form: they are the common neighbours of the corners of every triangle.

Then, each count is the sum over the induced subgraphs that hold it: K4 holds three cycles of four through each of its
nodes, the diamond one, and so on. Seen from the densest to the sparsest, the system is triangular.

References:
    Hočevar & Demšar, "A combinatorial approach to graphlet counting", 2014 (the relations between orbits);
    Pržulj, "Biological network comparison using graphlet degree distribution", 2007 (their numbers).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.adjacencies import padded_adjacencies

NUM_ORBITS = 15
_MOST = 1 << 24  # Entries held at a time in the search for complete subgraphs.


def orbit_counts(graphs: Batch) -> Tensor:
    """Orbit counts of every node: `(N, 15)` int64, in the order of Pržulj, that of the program ORCA.

    0 edge; 1 end, 2 middle of a path of three; 3 triangle; 4 end, 5 middle of a path of four; 6 leaf, 7 centre of a
    star; 8 cycle of four; 9 tail, 10 far corner, 11 near corner of a triangle with a tail (paw); 12 the two nodes that
    are not joined, 13 those that are, of a diamond; 14 complete graph of four.

    Time O(n³) and memory O(n²) for a graph of n nodes, and O(n) for each triangle.

    Args:
        graphs: From `as_batch`, undirected.
    """
    found = torch.zeros(graphs.layout.num_rows, NUM_ORBITS, dtype=torch.long, device=graphs.edge_index.device)
    for chunk in padded_adjacencies(graphs):
        # Whole numbers below 2^53 in float64 are exact, and matrix products of integers are slow.
        counts = _induced(_subgraphs(chunk.matrix))
        found[chunk.nodes] = torch.stack(counts, 2)[chunk.mask].round().long()
    return found


def _subgraphs(adjacency: Tensor) -> list[Tensor]:
    """Subgraphs, induced or not, by the place of each node: 15 of `(b, n)`, from `(b, n, n)`."""

    def around(rows: Tensor, weights: Tensor = adjacency) -> Tensor:
        return (weights @ rows[..., None]).squeeze(-1)

    d = adjacency.sum(2)
    common = adjacency @ adjacency
    on_edge = common * adjacency
    t = on_edge.sum(2) / 2
    pairs, onward = d * (d - 1) / 2, around(d - 1)
    paths = [around(onward) - 2 * pairs - 2 * t, (d - 1) * onward - 2 * t]
    stars = [around((d - 1) * (d - 2) / 2), pairs * (d - 2) / 3]
    cycle = (common * (common - 1) / 2).sum(2) - pairs
    paws = [around(t) - 2 * t, around(d - 2, on_edge), t * (d - 2)]
    diamonds = [((adjacency @ on_edge) * adjacency).sum(2) / 2 - t, (on_edge * (on_edge - 1)).sum(2) / 2]
    return [d, onward, pairs, t, *paths, *stars, cycle, *paws, *diamonds, _complete(adjacency.bool())]


def _complete(joined: Tensor) -> Tensor:
    """`(b, n)` complete subgraphs of four at each node: each is found from its three triangles there."""
    found = torch.zeros(joined.shape[:2], dtype=torch.float64, device=joined.device)
    for graph, *corners in _triangles(joined):
        i, j, k = (joined[graph, corner] for corner in corners)
        fourth = (i & j & k).sum(1).double()
        for corner in corners:
            found.index_put_((graph, corner), fourth, accumulate=True)
    return found / 3


def _triangles(joined: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Graph and three corners in rising order of every triangle once, `(M,)` each, some at a time."""
    rows = max(1, _MOST // joined.size(1))
    later = joined.triu(1)
    graphs, lower, upper = later.nonzero(as_tuple=True)
    for g, i, j in zip(graphs.split(rows), lower.split(rows), upper.split(rows), strict=True):
        edge, k = (later[g, i] & later[g, j]).nonzero(as_tuple=True)
        for e, last in zip(edge.split(rows), k.split(rows), strict=True):
            yield g[e], i[e], j[e], last


def _induced(n: list[Tensor]) -> list[Tensor]:
    """Of the counts by `_subgraphs` those that are induced."""
    k4 = n[14]
    diamond = [n[12] - 3 * k4, n[13] - 3 * k4]
    paw = [
        n[9] - 2 * diamond[0] - 3 * k4,
        n[10] - 2 * diamond[0] - 2 * diamond[1] - 6 * k4,
        n[11] - 2 * diamond[1] - 3 * k4,
    ]
    cycle = n[8] - diamond[0] - diamond[1] - 3 * k4
    star = [
        n[6] - paw[0] - paw[1] - 2 * diamond[0] - diamond[1] - 3 * k4,
        n[7] - paw[2] - diamond[1] - k4,
    ]
    path = [
        n[4] - 2 * cycle - 2 * paw[0] - paw[1] - 4 * diamond[0] - 2 * diamond[1] - 6 * k4,
        n[5] - 2 * cycle - paw[1] - 2 * paw[2] - 2 * diamond[0] - 4 * diamond[1] - 6 * k4,
    ]
    return [n[0], n[1] - 2 * n[3], n[2] - n[3], n[3], *path, *star, cycle, *paw, *diamond, k4]
