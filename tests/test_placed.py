"""Probabilistic graphs at places: probabilities add to one, samples have them, relabelling is a choice of places."""

from itertools import combinations, permutations, product

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data

from graphvae.decoders import DenseGraph
from graphvae.graphs import as_batch, permute
from graphvae.placed import PlacedGraphs, edge_classes


def typed_graph(kinds, classes, node_types=2):
    """A graph with nodes of these kinds, and for pairs (0, 1), (0, 2), (1, 2) ... no edge (0) or one of type c - 1."""
    size = len(kinds)
    pairs = [(i, j) for j in range(size) for i in range(j)]
    joined = [(pair, c - 1) for pair, c in zip(pairs, classes, strict=True) if c]
    once = torch.tensor([pair for pair, _ in joined], dtype=torch.long).view(-1, 2).T
    types = torch.tensor([kind for _, kind in joined], dtype=torch.long)
    x = torch.nn.functional.one_hot(torch.tensor(kinds), node_types).double()
    return Data(x=x, edge_index=torch.cat([once, once.flip(0)], 1), edge_type=types.repeat(2), num_nodes=size)


def all_typed_graphs(size, node_types, edge_types):
    for kinds in product(range(node_types), repeat=size):
        for classes in product(range(1 + edge_types), repeat=size * (size - 1) // 2):
            yield typed_graph(kinds, classes, node_types)


def decoded(graphs, k=3):
    """The same distribution, with 2 types of nodes and 2 of edges, for each of some graphs."""
    source = torch.Generator().manual_seed(0)
    parts = [torch.randn(1, *shape, generator=source) for shape in ((k,), (k * (k - 1) // 2, 3), (k, 2))]
    return PlacedGraphs(*(part.expand(graphs, *part.shape[1:]) for part in parts))


def test_probabilities_of_all_graphs_at_all_places_add_to_one(double):
    total = (-torch.nn.functional.softplus(decoded(1).existence)).sum().exp()  # The graph without a node.
    for size in (1, 2, 3):
        graphs = list(all_typed_graphs(size, 2, 2))
        for places in combinations(range(3), size):
            found = decoded(len(graphs)).log_prob(as_batch(graphs), torch.tensor(places).repeat(len(graphs)))
            total = total + found.exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


def test_log_probability_is_that_of_the_definition(double):
    p = decoded(1, k=4)
    graph = typed_graph([1, 0, 1], [2, 0, 1])
    places = [3, 0, 2]
    exists = p.existence[0].sigmoid()
    expected = (exists[[0, 2, 3]].prod() * (1 - exists[1])).log()
    expected = expected + p.nodes[0, 3, 1] + p.nodes[0, 0, 0] + p.nodes[0, 2, 1]
    number = {(0, 1): 0, (0, 2): 1, (1, 2): 2, (0, 3): 3, (1, 3): 4, (2, 3): 5}
    expected = expected + p.edges[0, number[0, 3], 2] + p.edges[0, number[2, 3], 0] + p.edges[0, number[0, 2], 1]
    found = p.log_prob(as_batch(graph), torch.tensor(places))
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_batches_and_many_places_are_single_graphs_one_after_another(double):
    torch.manual_seed(1)
    graphs = [typed_graph([0, 1], [1]), typed_graph([1, 0, 1], [2, 0, 1]), typed_graph([0], [])]
    p = PlacedGraphs(torch.randn(3, 4), torch.randn(3, 6, 3), torch.randn(3, 4, 2))
    batch = as_batch(graphs)
    places = torch.tensor([[0, 1, 0, 1, 2, 0], [3, 1, 2, 3, 0, 3]])
    found = p.log_probs(batch, places)
    for row, ptr in enumerate([0, 2, 5]):
        alone = PlacedGraphs(p.existence[row, None], p.edges[row, None], p.nodes[row, None])
        own = places[:, ptr : ptr + graphs[row].num_nodes]
        torch.testing.assert_close(alone.log_probs(as_batch(graphs[row]), own)[:, 0], found[:, row])


def test_to_relabel_a_graph_is_to_choose_other_places(double):
    torch.manual_seed(2)
    graph = as_batch(typed_graph([1, 0, 1], [2, 0, 1]))
    p = PlacedGraphs(torch.randn(1, 3), torch.randn(1, 3, 3), torch.randn(1, 3, 2))
    for order in permutations(range(3)):
        order = torch.tensor(order)
        torch.testing.assert_close(p.log_prob(permute(graph, order)), p.log_prob(graph, order.argsort()))


def test_samples_have_the_probabilities_of_their_graphs(double):
    draws = 40_000
    torch.manual_seed(3)
    one = PlacedGraphs(torch.tensor([[0.3, -0.5]]), torch.randn(1, 1, 3), torch.randn(1, 2, 2))
    many = PlacedGraphs(*(part.expand(draws, *part.shape[1:]) for part in (one.existence, one.edges, one.nodes)))
    drawn = many.sample(torch.Generator().manual_seed(0))
    assert drawn.x.shape == (drawn.layout.num_rows, 2)
    not_empty = -torch.expm1(-torch.nn.functional.softplus(one.existence).sum())
    share = (drawn.layout.sizes == 1).double().mean()
    exists = one.existence[0].sigmoid()
    expected = (exists[0] * (1 - exists[1]) + exists[1] * (1 - exists[0])) / not_empty
    assert share.item() == pytest.approx(expected.item(), abs=4 * 0.5 / draws**0.5)
    both = drawn.layout.sizes == 2
    first = drawn.layout.ptr[:-1][both]
    classes = edge_classes(drawn)[both, 0, 1]
    kinds = drawn.x.argmax(1)[first]
    for kind, c in product(range(2), range(3)):
        expected = (one.nodes[0, 0, kind] + one.edges[0, 0, c]).exp()
        found = ((kinds == kind) & (classes == c)).double().mean()
        assert found.item() == pytest.approx(expected.item(), abs=5 * 0.5 / int(both.sum()) ** 0.5)
    assert as_batch(drawn.to_data_list()).num_graphs == draws  # Simple edges, types alike in both directions.


def test_places_that_hardly_exist_still_give_a_graph(double):
    existence = torch.tensor([[-40.0, -38.0, -39.0]]).expand(3000, 3)
    drawn = PlacedGraphs(existence, torch.zeros(3000, 3, 2), torch.eye(3).expand(3000, 3, 3) * 60)
    found = drawn.sample(torch.Generator().manual_seed(1))
    assert found.layout.host_sizes == [1] * 3000
    expected = torch.tensor([-40.0, -38.0, -39.0]).softmax(0)
    torch.testing.assert_close(found.x.mean(0), expected, atol=0.04, rtol=0)
    assert drawn.mode().x.argmax(1).tolist() == [1] * 3000


def test_places_of_a_sample_given_that_there_is_one(double):
    logits, draws = torch.tensor([1.0, -1.5]), 40_000
    alike = (60 * torch.eye(2)).expand(draws, 2, 2)  # The type of a node tells its place.
    p = PlacedGraphs(logits.expand(draws, 2), torch.zeros(draws, 1, 2), alike)
    found = p.sample(torch.Generator().manual_seed(0)).x.sum(0) / draws
    exists = logits.sigmoid()
    torch.testing.assert_close(found, exists / (1 - (1 - exists).prod()), atol=0.01, rtol=0)


def test_the_mode_of_places_that_are_unlikely_alike_has_one_of_them(double):
    p = PlacedGraphs(torch.full((2, 4), -1.0), torch.randn(2, 6, 2))
    assert p.mode().layout.host_sizes == [1, 1]
    p = PlacedGraphs(torch.full((2, 4), 0.1), torch.randn(2, 6, 2))
    assert p.mode().layout.host_sizes == [4, 4]


def test_graphs_larger_than_the_places_are_refused():
    p = PlacedGraphs(torch.zeros(2, 2), torch.zeros(2, 1, 3), torch.zeros(2, 2, 2))
    with pytest.raises(ValueError, match="'graphs' must have at most 2 nodes, one for each place, got 3"):
        p.log_prob(as_batch([typed_graph((0, 1), (1,)), typed_graph((0, 1, 0), (1, 0, 1))]))


def test_the_mode_is_the_most_likely_graph_at_places_that_exist(double):
    torch.manual_seed(4)
    p = PlacedGraphs(torch.tensor([[2.0, -1.0, 1.0]]), torch.randn(1, 3, 3), torch.randn(1, 3, 2))
    mode = p.mode()
    places = torch.tensor([0, 2])
    graphs = list(all_typed_graphs(2, 2, 2))
    many = PlacedGraphs(*(part.expand(len(graphs), *part.shape[1:]) for part in (p.existence, p.edges, p.nodes)))
    best = many.log_prob(as_batch(graphs), places.repeat(len(graphs))).max()
    assert p.log_prob(mode, places).item() == pytest.approx(best.item())


def test_a_decoder_starts_at_the_density_and_says_what_does_not_fit():
    decoder = DenseGraph(5, 8, density=0.3, node_types=3, edge_types=2)
    p = decoder(torch.zeros(4, 8))
    torch.testing.assert_close(p.edges.exp()[..., 0], torch.full((4, 10), 0.7))
    assert p.nodes.shape == (4, 5, 3)
    with pytest.raises(ValueError, match="'hidden' must be the width of z, got 8"):
        decoder(torch.zeros(4, 7))
    with pytest.raises(ValueError, match="'density' must be in"):
        DenseGraph(5, 8, density=1.0)
    with pytest.raises(ValueError, match="one for each row of 'z', got 1 graphs for 4 latents"):
        p.log_prob(as_batch(typed_graph([0, 1], [1])))


def test_spanning_trees_connect_what_exists_and_are_the_likeliest(double):
    torch.manual_seed(5)
    p = PlacedGraphs(torch.randn(30, 5) + 1, torch.randn(30, 10, 3) - torch.tensor([-4.0, 0, 0]), torch.randn(30, 5, 2))
    plain, spanned = p.mode(), p.mode(spanning=True)
    assert spanned.layout.host_sizes == plain.layout.host_sizes
    chance = p.edge_probabilities().sum(1)
    for b, (bare, graph) in enumerate(zip(plain.to_data_list(), spanned.to_data_list(), strict=True)):
        there = (p.existence[b] > 0).nonzero()[:, 0].tolist() or [int(p.existence[b].argmax())]
        net = nx.Graph([(i, j, {"weight": chance[b, i, j].item()}) for i, j in combinations(there, 2)])
        expected = {frozenset(edge) for edge in nx.maximum_spanning_tree(net).edges}
        expected |= {frozenset(there[v] for v in edge) for edge in bare.edge_index.T.tolist()}
        assert {frozenset(there[v] for v in edge) for edge in graph.edge_index.T.tolist()} == expected
