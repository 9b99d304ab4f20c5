"""Isomorphism classes against networkx, on all small graphs and on graphs that refinement cannot tell apart."""

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data

from conftest import graph_from, random_graph
from graphvae import as_batch
from graphvae.graphs import permute, without_features
from graphvae.isomorphism import isomorphism_classes


def shuffled(graph, seed):
    order = torch.randperm(graph.num_nodes, generator=torch.Generator().manual_seed(seed))
    found = Data(edge_index=order[graph.edge_index], num_nodes=graph.num_nodes)
    if graph.x is not None:
        found.x = torch.empty_like(graph.x).index_copy(0, order, graph.x)
    return found


def typed(graphs, types):
    """A checked batch with `edge_type`, given for each graph by pair of nodes."""
    batch = as_batch(graphs)
    local = batch.edge_index - batch.layout.first_rows[batch.edge_index[0]]
    graph_of = batch.layout.batch[batch.edge_index[0]].tolist()
    pairs = [tuple(sorted(pair)) for pair in local.T.tolist()]
    batch.edge_type = torch.tensor([types[b][pair] for b, pair in zip(graph_of, pairs, strict=True)])
    return batch


def test_every_pair_of_the_atlas():
    nets = [net for net in nx.graph_atlas_g() if 1 <= len(net) <= 6]  # No two are isomorphic.
    graphs = [graph_from(net) for net in nets]
    moved = [shuffled(graph, seed) for seed, graph in enumerate(graphs)]
    first, second = isomorphism_classes(as_batch(graphs), as_batch(moved[::-1]))
    assert len(first.unique()) == len(nets)
    assert torch.equal(first, second.flip(0))


@pytest.mark.parametrize(
    "nets",
    [
        [nx.cycle_graph(6), nx.disjoint_union(nx.cycle_graph(3), nx.cycle_graph(3))],
        [nx.circular_ladder_graph(5), nx.petersen_graph(), nx.random_regular_graph(3, 10, seed=4)],
        # Strongly regular with the same parameters: Shrikhande's graph and the rook's.
        [
            nx.from_edgelist(
                [
                    ((a, b), ((a + x) % 4, (b + y) % 4))
                    for a in range(4)
                    for b in range(4)
                    for x, y in ((0, 1), (1, 0), (1, 1))
                ]
            ),
            nx.line_graph(nx.complete_bipartite_graph(4, 4)),
        ],
    ],
)
def test_graphs_that_refinement_cannot_tell_apart(nets):
    graphs = [graph_from(nx.convert_node_labels_to_integers(net)) for net in nets]
    copies = [shuffled(graph, seed) for seed in range(6) for graph in graphs]
    found = isomorphism_classes(as_batch(graphs), as_batch(copies))
    assert len(found[0].unique()) == len(nets)
    assert torch.equal(found[1], found[0].repeat(6))


def test_larger_graphs_are_found_again_wherever_they_are():
    graphs = [random_graph(n, 0.08, seed, 0) for seed, n in enumerate((40, 64, 40, 50))]
    graphs += [graph_from(nx.random_labeled_tree(64, seed=seed)) for seed in range(3)]
    graphs = [Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes) for graph in graphs]
    alone = [isomorphism_classes(as_batch(graph), as_batch([shuffled(graph, 1), graphs[0]])) for graph in graphs]
    assert all(own[0] == others[0] for own, others in alone)
    assert all(own[0] != others[1] for own, others in alone[1:])


def test_features_count():
    graph = random_graph(7, 0.5, seed=1, features=2)
    moved, changed = shuffled(graph, 0), shuffled(graph, 0)
    changed.x = changed.x.clone()
    changed.x[3, 1] += 1e-6
    own, others = isomorphism_classes(as_batch(graph), as_batch([moved, changed]))
    assert own[0] == others[0] != others[1]
    bare = [without_features(as_batch(graphs)) for graphs in (graph, [moved, changed])]
    assert len(torch.cat(isomorphism_classes(*bare)).unique()) == 1


def test_edge_types_count():
    """Around a cycle of six: two bonds of the other kind opposite, nearer, and next to each other."""
    cycle = graph_from(nx.cycle_graph(6))
    pairs = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 5)]
    kinds = [{pair: int(place in chosen) for place, pair in enumerate(pairs)} for chosen in ((0, 3), (0, 2), (0, 1))]
    turned = [{pair: int(place in chosen) for place, pair in enumerate(pairs)} for chosen in ((1, 4), (3, 5), (5, 4))]
    first, second = isomorphism_classes(typed(3 * [cycle], kinds), typed(3 * [cycle], turned))
    assert len(first.unique()) == 3
    assert torch.equal(first, second)


def test_edge_types_are_told_apart_where_colours_are_not():
    """Types in the order 0 0 1 1 and 0 1 0 1 along four parallel edges: every node sees the same."""
    prism = graph_from(nx.circular_ladder_graph(4))
    ring = dict.fromkeys(map(tuple, map(sorted, prism.edge_index.T.tolist())), 0)
    one, other = dict(ring), dict(ring)
    for place, pair in enumerate([(0, 1), (4, 5), (2, 3), (6, 7)]):
        one[pair] = 1
        other[[(0, 1), (2, 3), (5, 6), (4, 7)][place]] = 1
    found = isomorphism_classes(typed([prism, prism, prism], [one, other, one]))[0]
    expected = [nx.Graph(), nx.Graph()]
    for net, kinds in zip(expected, (one, other), strict=True):
        net.add_edges_from((i, j, {"kind": kind}) for (i, j), kind in kinds.items())
    assert not nx.is_isomorphic(*expected, edge_match=lambda a, b: a["kind"] == b["kind"])
    assert found[0] == found[2] != found[1]


def test_permuted_batch_has_the_same_classes():
    batch = as_batch([graph_from(nx.star_graph(5)), graph_from(nx.path_graph(6)), graph_from(nx.star_graph(5))])
    order = torch.cat([6 * b + torch.randperm(6) for b in range(3)])
    first, second = isomorphism_classes(batch, permute(batch, order))
    assert torch.equal(first, second)
    assert first[0] == first[2] != first[1]


def test_sets_with_and_without_features_are_refused():
    graph = random_graph(4, 0.5, seed=0)
    with pytest.raises(ValueError, match="'x' or none"):
        isomorphism_classes(as_batch(graph), without_features(as_batch(graph)))


def test_features_of_other_widths_are_refused():
    edge = torch.tensor([[0, 1], [1, 0]])
    one, other = (as_batch(Data(x=torch.ones(2, width), edge_index=edge)) for width in (2, 3))
    with pytest.raises(ValueError, match=r"'x' of one width, got \[2, 3\] columns"):
        isomorphism_classes(one, other)
