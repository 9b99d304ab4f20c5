"""What generated graphs are compared by: degrees, clustering coefficients, orbit counts, spectra."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.adjacencies import padded_adjacencies
from graphvae.graphs import Graphs, as_batch
from graphvae.layout import Layout
from graphvae.orbits import orbit_counts

_CLUSTERING_EDGES = np.histogram_bin_edges(np.empty(0), 100, (0.0, 1.0))
_SPECTRUM_EDGES = np.histogram_bin_edges(np.empty(0), 200, (-1e-5, 2.0))
_BEYOND = 4.0  # No eigenvalue of a normalised Laplacian is above 2.


class GraphStatistics(NamedTuple):
    """Statistics of `B` graphs, float64.

    * `degree`, `(B, K)`: share of the nodes of degree 0, ..., K - 1, the largest there is;
    * `clustering`, `(B, 100)`: share of the nodes by local clustering coefficient, in bins on [0, 1];
    * `orbit`, `(B, 15)`: mean count per node of each orbit of connected graphs of up to four nodes;
    * `spectral`, `(B, 200)`: share of the eigenvalues of the normalised Laplacian, in bins on [-1e-5, 2].
    """

    degree: Tensor
    clustering: Tensor
    orbit: Tensor
    spectral: Tensor


def graph_statistics(graphs: Graphs) -> GraphStatistics:
    """The statistics of GRAN's evaluation, for all graphs at once, on the device of the graphs.

    They are those of GRAN, GDSS and DiGress but for one thing: eigenvalues that should be 2, of bipartite components,
    count as 2. There, rounding decides whether one is just above the last bin and left out.

    Args:
        graphs: Undirected: a PyG graph, batch or list.

    References:
        Liao et al., "Efficient graph generation with graph recurrent attention networks", 2019, arXiv:1910.00760.
    """
    batch = as_batch(graphs)
    layout = batch.layout
    counts = orbit_counts(batch)
    sums = torch.zeros(layout.num_graphs, counts.size(1), dtype=torch.long, device=counts.device)
    sums.index_add_(0, layout.batch, counts)
    degree = counts[:, 0]
    return GraphStatistics(
        _shares(degree, int(degree.max()) + 1, layout),
        _shares(_bins(clustering_coefficients(counts), _CLUSTERING_EDGES), 100, layout),
        sums.double() / layout.sizes[:, None],
        _shares(_bins(normalised_spectrum(batch), _SPECTRUM_EDGES), 200, layout),
    )


def clustering_coefficients(counts: Tensor) -> Tensor:
    """The share of the pairs of neighbours that are joined, 0 without such a pair: `(N,)` from `orbit_counts`."""
    triangles, pairs = counts[:, 3], counts[:, 2] + counts[:, 3]
    return triangles.double() / pairs.clamp_min(1)


def normalised_spectrum(graphs: Batch) -> Tensor:
    r"""Eigenvalues of \(I - D^{-1/2} A D^{-1/2}\) of each graph, rising: `(N,)`, as many as nodes.

    The row of a node without edges is zero.
    """
    found = torch.empty(graphs.layout.num_rows, dtype=torch.float64, device=graphs.edge_index.device)
    for chunk in padded_adjacencies(graphs):
        degree = chunk.matrix.sum(2)
        scale = degree.clamp_min(1).rsqrt()
        diagonal = (degree > 0).double().masked_fill(~chunk.mask, _BEYOND)
        laplacian = diagonal.diag_embed() - scale[:, :, None] * chunk.matrix * scale[:, None]
        found[chunk.nodes] = torch.linalg.eigvalsh(laplacian)[chunk.mask]
    return found.clamp(0.0, 2.0)


def _bins(values: Tensor, edges: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Tensor:
    """The bin of each value as `np.histogram` has it: closed below, and the last one closed."""
    # Its edges too are numpy's: a coefficient of 7/10 is just below the edge it computes for 0.7.
    found = torch.bucketize(values, torch.from_numpy(edges).to(values.device), right=True) - 1
    return found.clamp_max_(len(edges) - 2)


def _shares(bins: Tensor, width: int, layout: Layout) -> Tensor:
    """`(B, width)` share of the rows of each graph in each bin."""
    counts = torch.bincount(layout.batch * width + bins, minlength=layout.num_graphs * width)
    return counts.view(layout.num_graphs, width).double() / layout.sizes[:, None]
