import math

import pytest
import torch

from conftest import all_edge_sets, random_graph
from graphvae.distributions import EstimatedEdges
from graphvae.edges import InnerProduct
from graphvae.estimates import SampledPairs
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import as_batch, batch_of, relabelled
from graphvae.layout import Layout

pytestmark = pytest.mark.usefixtures("double")
SIZES = [4, 1, 7, 2, 3]


def mixed():
    """A batch of mixed sizes with random scores for up to 8 places."""
    batch = as_batch([random_graph(n, 0.5, seed=n) for n in SIZES])
    return batch, torch.randn(len(SIZES), 28)


def random_orders(layout, number):
    """`(K, N)` random orders, from keys that sort graph by graph."""
    keys = torch.rand(number, layout.num_rows) + layout.batch
    return keys.argsort(1)


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4])
def test_probabilities_of_all_graphs_sum_to_one(num_nodes):
    edges = FixedOrderEdges(2 * torch.randn(1, 10), Layout.single(num_nodes))
    total = sum(edges.log_prob(graph).exp() for graph in all_edge_sets(num_nodes, False))
    torch.testing.assert_close(total, torch.ones(1), rtol=0, atol=1e-12)


def test_scores_are_numbered_so_that_smaller_graphs_take_the_first():
    edges = FixedOrderEdges(torch.arange(12.0).view(2, 6), Layout.of([4, 3]))
    pairs = [(i, j) for j in range(4) for i in range(j)]
    assert edges.logits(torch.tensor(pairs).T).tolist() == [0, 1, 2, 3, 4, 5]
    assert edges.logits(torch.tensor([(6, 4), (5, 6), (4, 5)]).T).tolist() == [7, 8, 6]


def test_log_prob_is_that_of_independent_bernoullis():
    graph = random_graph(5, 0.5, seed=1)
    edges = FixedOrderEdges(torch.randn(1, 15), Layout.single(5))
    every = torch.tensor([(i, j) for i in range(5) for j in range(i + 1, 5)]).T
    present = torch.zeros(5, 5)
    present[tuple(graph.edge_index)] = 1
    expected = torch.distributions.Bernoulli(logits=edges.logits(every)).log_prob(present[tuple(every)]).sum()
    torch.testing.assert_close(edges.log_prob(graph.edge_index)[0], expected, rtol=1e-12, atol=1e-12)


def test_a_batch_equals_its_graphs():
    batch, scores = mixed()
    together = FixedOrderEdges(scores, batch.layout)
    alone = [FixedOrderEdges(row[None], Layout.single(n)) for row, n in zip(scores, SIZES, strict=True)]
    graphs = batch.to_data_list()
    log_probs = [edges.log_prob(graph.edge_index) for edges, graph in zip(alone, graphs, strict=True)]
    torch.testing.assert_close(together.log_prob(batch.edge_index), torch.cat(log_probs), rtol=1e-12, atol=1e-12)
    for method in ("log_normalizer", "expected_edges"):
        expected = torch.cat([getattr(edges, method)() for edges in alone])
        torch.testing.assert_close(getattr(together, method)(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("number", [1, 3, 16])
def test_log_probs_are_those_of_the_relabelled_graphs(number):
    batch, scores = mixed()
    orders, weights = random_orders(batch.layout, number), torch.randn(number, len(SIZES))
    found, expected = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    log_probs = FixedOrderEdges(found, batch.layout).log_probs(batch.edge_index, orders)
    copies = relabelled(batch, orders)
    reference = FixedOrderEdges(expected.repeat(number, 1), copies.layout).log_prob(copies.edge_index)
    reference = reference.view(number, len(SIZES))
    torch.testing.assert_close(log_probs, reference, rtol=1e-12, atol=1e-12)
    (log_probs * weights).sum().backward()
    (reference * weights).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-12, atol=1e-12)


def test_log_probs_in_the_order_given_are_log_prob_and_other_orders_differ():
    batch, scores = mixed()
    edges = FixedOrderEdges(scores, batch.layout)
    orders = torch.cat([torch.arange(batch.layout.num_rows)[None], random_orders(batch.layout, 5)])
    log_probs = edges.log_probs(batch.edge_index, orders)
    torch.testing.assert_close(log_probs[0], edges.log_prob(batch.edge_index), rtol=1e-12, atol=1e-12)
    assert (log_probs - log_probs[0]).abs().amax(0)[0] > 1e-2


def test_log_probs_do_not_need_columns_in_the_order_of_the_graphs():
    batch, scores = mixed()
    edges, orders = FixedOrderEdges(scores, batch.layout), random_orders(batch.layout, 4)
    shuffled = batch.edge_index[:, torch.randperm(batch.edge_index.size(1))]
    torch.testing.assert_close(edges.log_probs(shuffled, orders), edges.log_probs(batch.edge_index, orders))


def test_log_probs_of_graphs_without_edges():
    edges = FixedOrderEdges(torch.randn(3, 10), Layout.of([3, 1, 5]))
    orders = random_orders(edges.layout, 4)
    log_probs = edges.log_probs(torch.empty(2, 0, dtype=torch.long), orders)
    torch.testing.assert_close(log_probs, -edges.log_normalizer().expand(4, 3))


def test_the_gradient_of_log_probs_is_that_of_finite_differences():
    batch, scores = mixed()
    orders = random_orders(batch.layout, 3)
    probe = scores[:, :21].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: FixedOrderEdges(s, batch.layout).log_probs(batch.edge_index, orders), probe
    )


def test_a_call_without_gradient_does_not_take_it_from_later_ones():
    batch, scores = mixed()
    edges, orders = FixedOrderEdges(scores.requires_grad_(), batch.layout), random_orders(batch.layout, 3)
    with torch.inference_mode():
        edges.log_probs(batch.edge_index, orders)
    edge_sum = edges.log_probs(batch.edge_index, orders) + edges.log_normalizer()
    (gradient,) = torch.autograd.grad(edge_sum.sum(), scores)
    assert gradient.sum() == 3 * batch.edge_index.size(1) / 2


def test_half_precision_is_computed_in_float32():
    batch, scores = mixed()
    half = FixedOrderEdges(scores.bfloat16(), batch.layout)
    single = FixedOrderEdges(scores.bfloat16().float(), batch.layout)
    orders = random_orders(batch.layout, 4)
    assert half.log_prob(batch.edge_index).dtype == half.log_probs(batch.edge_index, orders).dtype == torch.float32
    assert torch.equal(half.log_probs(batch.edge_index, orders), single.log_probs(batch.edge_index, orders))


def test_samples_follow_the_stated_law():
    scores, copies = torch.randn(1, 6), 20000
    edges = FixedOrderEdges(scores, Layout.single(3))
    support = list(all_edge_sets(3, False))
    expected = copies * torch.cat([edges.log_prob(graph) for graph in support]).exp()
    code = {frozenset(map(tuple, graph.T.tolist())): k for k, graph in enumerate(support)}
    layout = Layout.of([3] * copies)
    drawn = FixedOrderEdges(scores.expand(copies, 6), layout).sample(torch.Generator().manual_seed(7))
    counts = torch.zeros(len(support))
    for graph in batch_of(None, drawn, layout).to_data_list():
        counts[code[frozenset(map(tuple, graph.edge_index.T.tolist()))]] += 1
    chi_square = ((counts - expected) ** 2 / expected).sum() / (len(support) - 1)
    assert chi_square < 2.0


def test_samples_of_mixed_sizes_stay_in_their_graphs():
    edges = FixedOrderEdges(torch.full((4, 10), 40.0), Layout.of([4, 1, 5, 2]))
    drawn = edges.sample()
    complete = as_batch(batch_of(None, drawn, edges.layout).to_data_list())
    assert [graph.edge_index.size(1) for graph in complete.to_data_list()] == [12, 0, 20, 2]


def test_expected_edges_logits_double_and_shift():
    batch, scores = mixed()
    edges = FixedOrderEdges(scores, batch.layout)
    (every,) = edges.all_logits()
    assert every.numel() == int(batch.layout.num_pairs.sum())
    torch.testing.assert_close(edges.expected_edges().sum(), every.sigmoid().sum())
    (shifted,) = edges.shifted(-1.5).all_logits()
    torch.testing.assert_close(shifted, every - 1.5)
    assert FixedOrderEdges(scores.float(), batch.layout).double().scores.dtype == torch.float64


def test_its_sum_over_pairs_can_be_estimated():
    layout, scores = Layout.of([5, 6, 4]), torch.randn(3, 15)
    edges, none = FixedOrderEdges(scores, layout), torch.empty(2, 0, dtype=torch.long)
    estimated = EstimatedEdges(edges, SampledPairs(40))
    draws = torch.stack([estimated.log_prob(none) for _ in range(2000)])
    error = (draws.mean(0) - edges.log_prob(none)) / (draws.std(0) / math.sqrt(2000))
    assert error.abs().max() < 4


def test_scores_must_be_one_row_per_graph():
    with pytest.raises(ValueError, match=r"one row for each of the 2 graphs of 'layout', got shape \(3, 6\)"):
        FixedOrderEdges(torch.zeros(3, 6), Layout.of([2, 3]))


def test_a_product_is_no_fixed_order():
    """The control of the tests above: for an equivariant decoder every order has the same probability."""
    batch, _ = mixed()
    orders, z = random_orders(batch.layout, 4), torch.randn(batch.layout.num_rows, 3)
    copies = relabelled(batch, orders)
    log_probs = InnerProduct(0.3)(z[orders.flatten()], copies.layout).log_prob(copies.edge_index).view(4, -1)
    torch.testing.assert_close(log_probs, log_probs[:1].expand(4, -1), rtol=1e-12, atol=1e-12)
