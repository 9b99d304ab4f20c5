"""Edges by scores of pairs: normalised, equal to what they must agree with, and drawn as they say."""

import itertools

import pytest
import torch

import graphvae.pair_scores as module
from conftest import SIZES, all_edge_sets, random_graph, random_types, typed_graphs
from graphvae.distributions import EstimatedEdges
from graphvae.edges import Bilinear, InnerProduct
from graphvae.estimates import SampledPairs
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import as_batch, batch_of
from graphvae.layout import Layout
from graphvae.pair_scores import CategoricalEdges, PairEdges, all_pairs

pytestmark = pytest.mark.usefixtures("double")
FACTORS = {"undirected": lambda: InnerProduct(0.3), "directed": lambda: Bilinear(3, 0.3)}


@pytest.fixture(params=FACTORS)
def both(request):
    """Edges of inner products, and the same as scores of pairs."""
    factor = FACTORS[request.param]()

    def made(z, layout=None):
        products = factor(z, layout)
        return products, PairEdges(products.logits, products.layout, products.directed)

    return made


def typed(layout, types, scale=1.0):
    return CategoricalEdges(scale * torch.randn(all_pairs(layout).size(1), types), layout)


@pytest.mark.parametrize("sizes", [sizes for sizes in SIZES if sum(sizes) < 600], ids=str)
def test_pairs_are_numbered_graph_after_graph(sizes):
    layout = Layout.of(sizes)
    first = [0, *itertools.accumulate(sizes)]
    expected = [(s + i, s + j) for s, n in zip(first, sizes, strict=False) for j in range(n) for i in range(j)]
    assert list(map(tuple, all_pairs(layout).T.tolist())) == expected


def test_scores_of_pairs_are_what_inner_products_are(both):
    sizes = [4, 1, 7, 2]
    layout = Layout.of(sizes)
    products, pairs = both(torch.randn(14, 3), layout)
    graphs = [random_graph(n, 0.5, seed=n, directed=products.directed) for n in sizes]
    edge_index = as_batch(graphs, directed=products.directed).edge_index
    for name, arguments in {"log_prob": (edge_index,), "log_normalizer": (), "expected_edges": ()}.items():
        found, expected = (getattr(edges, name)(*arguments) for edges in (pairs, products))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    every, all_of_products = (torch.cat(list(e.shifted(-1.5).all_logits())).sort().values for e in (pairs, products))
    torch.testing.assert_close(every, all_of_products)


def test_many_pairs_are_taken_in_parts_with_the_same_value_gradient_and_law(both, monkeypatch):
    z = torch.randn(12, 3, requires_grad=True)
    products, pairs = both(z)
    edge_index = random_graph(12, 0.4, seed=1, directed=products.directed).edge_index
    (expected,) = torch.autograd.grad(products.log_prob(edge_index).sum(), z, retain_graph=True)
    monkeypatch.setattr(module, "_PAIRS", 17)
    assert len(list(pairs.all_logits())) > 3
    torch.testing.assert_close(pairs.log_prob(edge_index), products.log_prob(edge_index), rtol=1e-12, atol=1e-12)
    (found,) = torch.autograd.grad(pairs.log_prob(edge_index).sum(), z)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    drawn = torch.stack([pairs.edge_sum(torch.ones(e.size(1)), e)[0] for e in (pairs.sample() for _ in range(400))])
    assert abs(drawn.mean() - pairs.expected_edges()[0]) < 4.5 * drawn.std() / 20


def test_places_are_a_case_of_scores_of_pairs():
    layout = Layout.of([3, 1, 4])
    fixed = FixedOrderEdges(torch.randn(3, 6), layout)
    edges = PairEdges(fixed.logits, layout)
    edge_index = as_batch([random_graph(n, 0.5, seed=n) for n in (3, 1, 4)]).edge_index
    torch.testing.assert_close(edges.log_prob(edge_index), fixed.log_prob(edge_index), rtol=1e-12, atol=1e-12)


def test_the_sum_over_pairs_can_be_estimated(both):
    products, pairs = both(torch.randn(9, 3))
    edge_index = random_graph(9, 0.4, seed=1, directed=products.directed).edge_index
    estimated = EstimatedEdges(pairs, SampledPairs(30))
    drawn = torch.cat([estimated.log_prob(edge_index) for _ in range(1000)])
    assert abs(drawn.mean() - pairs.log_prob(edge_index)[0]) < 4.5 * drawn.std() / 1000**0.5


def test_samples_of_pairs_are_simple_graphs(both):
    products, pairs = both(torch.zeros(14, 3), Layout.of([4, 1, 7, 2]))
    drawn = as_batch(batch_of(None, pairs.sample(), pairs.layout).to_data_list(), directed=products.directed)
    assert drawn.edge_index.size(1) > 0
    first, second = (pairs.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    full = pairs.shifted(60.0).sample()
    assert full.size(1) == sum(n * (n - 1) for n in (4, 1, 7, 2))


@pytest.mark.parametrize(("num_nodes", "types"), [(1, 2), (2, 3), (3, 1), (3, 2), (4, 2)])
def test_probabilities_of_all_typed_graphs_sum_to_one(num_nodes, types):
    edges = typed(Layout.single(num_nodes), types, scale=2.0)
    total = sum(edges.log_prob(*graph).exp() for graph in typed_graphs(num_nodes, types))
    torch.testing.assert_close(total, torch.ones(1), rtol=0, atol=1e-12)


def test_one_type_is_an_edge_without_a_type():
    layout = Layout.of([3, 1, 4])
    edges = typed(layout, 1)
    plain = PairEdges(lambda pairs: edges.logits(pairs).squeeze(1), layout)
    edge_index = as_batch([random_graph(n, 0.5, seed=n) for n in (3, 1, 4)]).edge_index
    types = torch.zeros_like(edge_index[0])
    torch.testing.assert_close(edges.log_prob(edge_index, types), plain.log_prob(edge_index))
    torch.testing.assert_close(edges.expected_edges()[:, 0], plain.expected_edges())


def test_typed_log_prob_is_that_of_independent_categorical_variables():
    edges, graph = typed(Layout.single(6), 3), random_graph(6, 0.5, seed=1)
    types = random_types(graph, 3)
    table = torch.zeros(6, 6, dtype=torch.long)
    table[tuple(graph.edge_index)] = types + 1
    pairs = all_pairs(edges.layout)
    logits = torch.cat([torch.zeros(15, 1), edges.logits(pairs)], 1)
    expected = torch.distributions.Categorical(logits=logits).log_prob(table[tuple(pairs)]).sum()
    torch.testing.assert_close(edges.log_prob(graph.edge_index, types)[0], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(edges.logits(pairs.flip(0)), edges.logits(pairs))


def test_a_batch_of_typed_graphs_equals_its_graphs():
    sizes = [4, 1, 7, 2]
    graphs = [random_graph(n, 0.5, seed=n) for n in sizes]
    types = [random_types(graph, 2) for graph in graphs]
    batch = as_batch(graphs)
    edges = typed(batch.layout, 2)
    parts = edges.scores.split([n * (n - 1) // 2 for n in sizes])
    alone = [CategoricalEdges(part, Layout.single(n)) for part, n in zip(parts, sizes, strict=True)]
    expected = [e.log_prob(g.edge_index, t) for e, g, t in zip(alone, graphs, types, strict=True)]
    torch.testing.assert_close(edges.log_prob(batch.edge_index, torch.cat(types)), torch.cat(expected))
    torch.testing.assert_close(edges.expected_edges(), torch.cat([e.expected_edges() for e in alone]))


def test_the_gradient_of_typed_edges_is_that_of_finite_differences():
    graph = random_graph(5, 0.6, seed=1)
    types = random_types(graph, 2)
    scores = torch.randn(10, 2, requires_grad=True)
    layout = Layout.single(5)
    assert torch.autograd.gradcheck(lambda s: CategoricalEdges(s, layout).log_prob(graph.edge_index, types), scores)


def test_typed_samples_follow_the_stated_law():
    copies, one = 20_000, typed(Layout.single(3), 2)
    support = list(typed_graphs(3, 2))
    expected = copies * torch.cat([one.log_prob(*graph) for graph in support]).exp()
    layout = Layout.of([3] * copies)
    many = CategoricalEdges(one.scores.repeat(copies, 1), layout)
    edge_index, edge_type = many.sample(torch.Generator().manual_seed(7))
    base = 3 ** one._every.index(edge_index % 3)
    graph_of = layout.batch[edge_index[0]]
    codes = torch.zeros(copies, dtype=torch.long).index_add(0, graph_of, base * (edge_type + 1)) // 2
    places = [int((3 ** one._every.index(e) * (t + 1)).sum()) // 2 for e, t in support]
    counts = torch.bincount(codes, minlength=27)[places]
    chi_square = ((counts - expected) ** 2 / expected).sum() / (len(support) - 1)
    assert chi_square < 2.0


def test_samples_and_mode_of_typed_edges_hold_both_directions_alike():
    edges = typed(Layout.of([4, 1, 6]), 3)
    for edge_index, edge_type in (edges.sample(), edges.mode()):
        forth = {(i, j): t for (i, j), t in zip(edge_index.T.tolist(), edge_type.tolist(), strict=True)}
        assert forth
        assert all(forth[j, i] == kind for (i, j), kind in forth.items())
    first, second = (edges.sample(torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_the_mode_is_the_most_probable_graph():
    edges = typed(Layout.single(3), 2)
    best = max(edges.log_prob(*graph) for graph in typed_graphs(3, 2))
    torch.testing.assert_close(edges.log_prob(*edges.mode()), best)


def test_expected_typed_edges_are_those_drawn_on_average():
    edges = typed(Layout.of([5, 1, 3]), 2)
    drawn = []
    for _ in range(2000):
        edge_index, edge_type = edges.sample()
        drawn.append(torch.stack([edges.edge_sum((edge_type == t).double(), edge_index) for t in range(2)], 1))
    drawn = torch.stack(drawn)
    error = drawn.std(0) / 2000**0.5 + 1e-9
    assert ((drawn.mean(0) - edges.expected_edges()).abs() / error).max() < 4.5


def test_graphs_without_pairs_have_no_typed_edges():
    edges = typed(Layout.of([1, 1]), 2)
    edge_index, edge_type = edges.sample()
    assert edge_index.shape == (2, 0)
    assert edge_type.shape == (0,)
    assert edges.log_prob(edge_index, edge_type).tolist() == [0, 0]
    assert edges.mode()[0].shape == (2, 0)
    plain = PairEdges(lambda pairs: torch.zeros(pairs.size(1)), edges.layout)
    assert plain.log_normalizer().tolist() == [0, 0]
    assert plain.sample().shape == (2, 0)


def test_half_precision_is_computed_in_float32_and_double_in_float64():
    layout = Layout.single(4)
    edges = CategoricalEdges(torch.randn(6, 2).bfloat16(), layout)
    assert edges.log_normalizer().dtype == torch.float32
    assert edges.double().log_normalizer().dtype == torch.float64
    plain = PairEdges(lambda pairs: torch.zeros(pairs.size(1), dtype=torch.bfloat16), layout)
    assert plain.log_normalizer().dtype == torch.float32
    assert plain.double().log_normalizer().dtype == torch.float64


def test_what_does_not_fit_is_said():
    for shape in ((3, 2), (7, 2), (6,), (6, 0)):
        with pytest.raises(ValueError, match="one row for each of the 6 pairs of 'layout' and at least one type"):
            CategoricalEdges(torch.zeros(shape), Layout.single(4))
    edges = typed(Layout.single(4), 2)
    graph = next(all_edge_sets(4, False))
    with pytest.raises(ValueError, match=r"'edge_type' must be \(0,\), one type >= 0 a column, got shape \(2,\)"):
        edges.log_prob(graph, torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("types", "error", "message"),
    [
        ([1, 0, 0, 0], ValueError, r"'edge_type' must be alike in both directions .*, it differs for \(4, 5\)"),
        ([0, 0, 2, 2], ValueError, "'edge_type' must be in 0 to 1, as the model has it, got 2"),
        ([0, 0, -1, -1], ValueError, r"'edge_type' must be \(4,\), one type >= 0 a column, got -1"),
        ([0.0, 0.0, 1.0, 1.0], TypeError, "'edge_type' must be an int64 tensor .*, got torch.float64; use"),
        (None, ValueError, "must have 'edge_type', int64 in 0 to 1"),
    ],
)
def test_types_that_are_none_are_told(types, error, message):
    edges = typed(Layout.of([4, 3]), 2)
    edge_index = torch.tensor([[4, 5, 1, 3], [5, 4, 3, 1]])
    assert edges.log_prob(edge_index, torch.tensor([1, 1, 0, 0])).shape == (2,)
    with pytest.raises(error, match=message):
        edges.log_prob(edge_index, None if types is None else torch.tensor(types))
