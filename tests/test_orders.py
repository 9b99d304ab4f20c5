"""Distributions over orders, from classes and scores: closed forms, sums over all orders, frequencies."""

import itertools
import math

import pytest
import torch

from conftest import all_orders, assert_draws_match
from graphvae.layout import Layout
from graphvae.orders import BlockOrders, MixedOrders, PlackettLuceOrders, SortedOrders

pytestmark = pytest.mark.usefixtures("double")
THREE = Layout.of([3])


def test_sorted_orders_count_their_ties():
    classes = torch.tensor([7, 3, 7, 3, 3])
    distribution = SortedOrders(classes, Layout.of([5]))
    assert_draws_match(distribution, 5)
    log_prob = distribution.log_prob(torch.tensor([[4, 1, 3, 2, 0], [0, 2, 1, 3, 4]]))
    torch.testing.assert_close(log_prob, torch.tensor([[-math.log(12)], [-math.inf]]))


def test_classes_are_those_of_a_graph_even_where_they_recur_in_the_next():
    distribution = SortedOrders(torch.tensor([1, 0, 0, 1, 0, 1]), Layout.of([3, 1, 2]))
    orders = distribution.sample(200)
    assert {tuple(order) for order in orders.tolist()} == {(1, 2, 0, 3, 4, 5), (2, 1, 0, 3, 4, 5)}
    torch.testing.assert_close(distribution.log_prob(orders), torch.tensor([-math.log(2), 0, 0]).expand(200, 3))


def test_an_order_that_is_wrong_in_one_graph_is_possible_in_the_others():
    distribution = SortedOrders(torch.tensor([0, 1, 0, 1]), Layout.of([2, 2]))
    assert distribution.log_prob(torch.tensor([[1, 0, 2, 3]])).tolist() == [[-math.inf, 0]]


def test_blocks_are_in_every_order_that_their_classes_allow_and_some_are_reversed_by_a_coin():
    block, node_class = torch.tensor([0, 1, 1, 2, 1]), torch.tensor([5, 0, 1, 2, 1])
    classes, reversible = torch.tensor([1, 0, 1]), torch.tensor([True, True, False])
    distribution = BlockOrders(block, classes, node_class, reversible, Layout.of([5]))
    assert_draws_match(distribution, 5)
    possible = distribution.log_prob(all_orders(5)) > -math.inf
    assert int(possible.sum()) == 2 * 2 * 2  # Which end of block 1, its tie, and which of the single nodes is first.


def test_plackett_luce_is_sampling_without_replacement():
    scores = torch.tensor([0.3, -1.2, 2.0])
    weights = scores.exp()
    distribution = PlackettLuceOrders(scores, THREE)
    for order in itertools.permutations(range(3)):
        first, second, _ = order
        chance = weights[first] / weights.sum() * weights[second] / (weights.sum() - weights[first])
        torch.testing.assert_close(distribution.log_prob(torch.tensor([order]))[0, 0], chance.log())
    assert_draws_match(distribution, 3)
    assert_draws_match(PlackettLuceOrders(torch.randn(5), Layout.of([5])), 5)


def test_plackett_luce_is_differentiable_in_the_scores_of_graphs_of_several_sizes():
    scores = torch.randn(8, requires_grad=True)
    layout = Layout.of([1, 4, 3])
    orders = PlackettLuceOrders(scores, layout).sample(3)
    assert torch.autograd.gradcheck(lambda s: PlackettLuceOrders(s, layout).log_prob(orders), scores)


def test_the_score_function_has_mean_zero():
    scores = torch.randn(4, requires_grad=True)
    log_prob = PlackettLuceOrders(scores, Layout.of([4])).log_prob(all_orders(4))
    gradient = torch.autograd.grad((log_prob.detach().exp() * log_prob).sum(), scores)[0]
    torch.testing.assert_close(gradient, torch.zeros(4), rtol=0, atol=1e-12)


def test_scores_far_apart_give_finite_values_and_gradients():
    scores = torch.tensor([0.0, -5000.0, 3000.0, 1.0, 1.0], requires_grad=True)
    distribution = PlackettLuceOrders(scores, Layout.of([3, 2]))
    log_prob = distribution.log_prob(torch.tensor([[2, 0, 1, 3, 4], [1, 0, 2, 4, 3]]))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert scores.grad.isfinite().all()
    torch.testing.assert_close(log_prob[0, 0].item(), -math.log(2))  # Both are taken as 600 below the largest.


def test_single_precision_scores_are_scored_in_double_precision():
    scores = torch.randn(5, dtype=torch.float32)
    distribution = PlackettLuceOrders(scores, Layout.of([2, 3]))
    exact = PlackettLuceOrders(scores.double(), Layout.of([2, 3]))
    orders = distribution.sample(4)
    assert distribution.log_prob(orders).dtype == torch.float64
    torch.testing.assert_close(distribution.log_prob(orders), exact.log_prob(orders), rtol=1e-5, atol=1e-6)


def test_every_graph_of_every_draw_picks_its_component_of_a_mixture():
    layout = Layout.of([2, 2])
    parts = [SortedOrders(torch.tensor(classes), layout) for classes in ([0, 1, 0, 1], [1, 0, 1, 0])]
    mixture = MixedOrders(parts, torch.tensor([0.25, 0.75]).log(), layout)
    orders = mixture.sample(20_000)
    turned = (orders[:, [0, 2]] == torch.tensor([1, 3])).double()
    torch.testing.assert_close(turned.mean(0), torch.tensor([0.75, 0.75]), rtol=0, atol=0.02)
    assert abs(float(turned.prod(1).mean()) - 0.75**2) < 0.02  # Independently of one another.
    torch.testing.assert_close(mixture.log_prob(torch.tensor([[1, 0, 2, 3]])).exp(), torch.tensor([[0.75, 0.25]]))


def test_a_mixture_sums_to_one():
    layout = Layout.of([4])
    parts = [SortedOrders(torch.tensor([0, 1, 1, 1]), layout), PlackettLuceOrders(torch.randn(4), layout)]
    assert_draws_match(MixedOrders(parts, torch.tensor([0.4, 0.6]).log(), layout), 4)


def test_the_generator_decides():
    distribution = PlackettLuceOrders(torch.randn(30), Layout.of([10, 20]))
    one, other = (distribution.sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, distribution.sample(5))
