"""Orbit counts against an enumeration of all induced subgraphs of up to four nodes."""

from itertools import combinations

import networkx as nx
import pytest
import torch

from conftest import graph_from, random_graph
from graphvae import as_batch
from graphvae.adjacencies import padded_adjacencies
from graphvae.graphs import permute
from graphvae.orbits import NUM_ORBITS, orbit_counts

# Orbits by the number of nodes and edges, the largest degree, and the degree of the node: no two share these.
ORBITS = {
    (2, 1, 1, 1): 0,
    (3, 2, 2, 1): 1,
    (3, 2, 2, 2): 2,
    (3, 3, 2, 2): 3,
    (4, 3, 2, 1): 4,
    (4, 3, 2, 2): 5,
    (4, 3, 3, 1): 6,
    (4, 3, 3, 3): 7,
    (4, 4, 2, 2): 8,
    (4, 4, 3, 1): 9,
    (4, 4, 3, 2): 10,
    (4, 4, 3, 3): 11,
    (4, 5, 3, 2): 12,
    (4, 5, 3, 3): 13,
    (4, 6, 3, 3): 14,
}


def enumerated(net):
    counts = torch.zeros(len(net), NUM_ORBITS, dtype=torch.long)
    for size in (2, 3, 4):
        for nodes in combinations(net, size):
            part = net.subgraph(nodes)
            if nx.is_connected(part):
                largest = max(dict(part.degree).values())
                for node, degree in part.degree:
                    counts[node, ORBITS[size, part.number_of_edges(), largest, degree]] += 1
    return counts


def test_all_graphs_of_up_to_six_nodes():
    nets = [net for net in nx.graph_atlas_g() if 1 <= len(net) <= 6]
    expected = torch.cat([enumerated(net) for net in nets])
    assert torch.equal(orbit_counts(as_batch([graph_from(net) for net in nets])), expected)
    assert (expected.sum(0) > 0).all()


@pytest.mark.parametrize("probability", [0.1, 0.3, 0.6, 1.0])
def test_random_graphs_of_mixed_sizes(probability):
    graphs = [random_graph(n, probability, seed=n) for n in (16, 3, 11, 1, 15)]
    nets = [nx.Graph() for _ in graphs]
    for net, graph in zip(nets, graphs, strict=True):
        net.add_nodes_from(range(graph.num_nodes))
        net.add_edges_from(graph.edge_index.T.tolist())
    assert torch.equal(orbit_counts(as_batch(graphs)), torch.cat([enumerated(net) for net in nets]))


def test_large_complete_graph_is_exact():
    n = 120
    counts = orbit_counts(as_batch(random_graph(n, 1.1, seed=0)))
    expected = torch.zeros(NUM_ORBITS, dtype=torch.long)
    expected[[0, 3, 14]] = torch.tensor([n - 1, (n - 1) * (n - 2) // 2, (n - 1) * (n - 2) * (n - 3) // 6])
    assert torch.equal(counts, expected.expand(n, -1))


def test_counts_move_with_the_nodes():
    batch = as_batch([random_graph(n, 0.4, seed=n) for n in (9, 14)])
    order = torch.cat([torch.randperm(9), 9 + torch.randperm(14)])
    assert torch.equal(orbit_counts(permute(batch, order)), orbit_counts(batch)[order])


@pytest.mark.parametrize("entries", [1, 200, 1 << 20])
def test_chunks_hold_every_graph_once(entries):
    graphs = [random_graph(n, 0.5, seed=n) for n in (7, 1, 12, 3, 7, 8)]
    batch, seen = as_batch(graphs), []
    for chunk in padded_adjacencies(batch, entries):
        seen += chunk.graphs.tolist()
        sizes = batch.layout.sizes[chunk.graphs]
        assert chunk.mask.size(1) == sizes.max() <= 1.25 * sizes.min()
        assert len(sizes) == 1 or chunk.matrix.numel() <= entries
        assert torch.equal(batch.layout.batch[chunk.nodes], chunk.graphs.repeat_interleave(sizes))
        for matrix, graph in zip(chunk.matrix, chunk.graphs.tolist(), strict=True):
            expected = torch.zeros_like(matrix)
            expected[tuple(graphs[graph].edge_index)] = 1
            assert torch.equal(matrix, expected)
    assert sorted(seen) == list(range(6))
