import itertools
import math

import pytest
import torch
from torch_geometric.data import Data

from conftest import random_graph
from graphvae import as_batch
from graphvae.evaluation.likelihood import every_order
from graphvae.graphs import relabelled, without_features
from graphvae.order_sets import (
    drawn_without_replacement,
    image_hashes,
    log_inclusion_weights,
    order_hashes,
)
from graphvae.orderings import BreadthFirst, Uniform
from graphvae.orders import OrderDistribution
from graphvae.sort_keys import first_of_each

pytestmark = pytest.mark.usefixtures("double")


class Table(OrderDistribution):
    """Orders of one graph with the probabilities of a table."""

    def __init__(self, orders, chances):
        self.orders, self.chances = orders, chances

    def sample(self, num_orders, generator=None):
        return self.orders[torch.multinomial(self.chances, num_orders, replacement=True, generator=generator)]

    def log_prob(self, orders):
        same = (orders[:, None] == self.orders).all(2)
        return (same * self.chances).sum(1, keepdim=True).log()


@pytest.mark.parametrize("skew", [0.0, 1.0, 4.0])
def test_inclusion_weights_are_unbiased_for_every_set_size(skew):
    """By enumeration of all sequences drawn without replacement, for equal and very unequal probabilities."""
    r = (skew * torch.randn(5)).softmax(0)
    f = torch.rand(5)
    for count in range(1, 6):
        total = 0.0
        for chosen in itertools.permutations(range(5), count):
            chosen = torch.tensor(chosen)
            # Summed from the right, the rest keeps its digits beside a probability of nearly one.
            left = torch.stack([r[[k for k in range(5) if k not in chosen[:t].tolist()]].sum() for t in range(count)])
            chance = (r[chosen] / left).prod()
            weights = log_inclusion_weights(r[chosen].log()[:, None], torch.ones(count, 1, dtype=torch.bool))
            total = total + chance * (weights[:, 0].exp() * f[chosen]).sum()
        torch.testing.assert_close(total, f.sum(), rtol=1e-9, atol=0)


@pytest.mark.parametrize(("possible", "count"), [(6, 1), (6, 5), (120, 64), (10**6, 16), (math.factorial(20), 64)])
def test_inclusion_weights_of_equal_chances_are_their_number_over_the_size_of_the_set(possible, count):
    log_r = torch.full((count, 1), -math.log(possible))
    found = log_inclusion_weights(log_r, torch.ones(count, 1, dtype=torch.bool))
    torch.testing.assert_close(found, torch.full_like(found, math.log(possible / count)), rtol=0, atol=1e-8)


def test_what_is_missing_has_no_weight_and_makes_the_others_one():
    log_r = torch.tensor([[0.3], [0.2], [0.1]]).log()
    found = log_inclusion_weights(log_r, torch.tensor([[True], [True], [False]]))
    assert found[:, 0].tolist() == [0, 0, -math.inf]
    all_there_is = torch.tensor([[0.7], [0.2], [0.1]]).log()
    assert log_inclusion_weights(all_there_is, torch.ones(3, 1, dtype=torch.bool))[:, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_draws_are_distinct_and_end_where_there_are_no_more(dtype):
    torch.set_default_dtype(dtype)
    graphs = as_batch([random_graph(n, 0.5, seed=n) for n in (3, 1, 6)])
    orders, log_r, present = drawn_without_replacement(Uniform()(graphs), graphs.layout, 9)
    assert present.sum(0).tolist() == [6, 1, 9]
    assert (graphs.layout.batch[orders] == graphs.layout.batch).all()
    for graph in range(3):
        rows = orders[present[:, graph]][:, graphs.layout.batch == graph]
        assert len(rows.unique(dim=0)) == len(rows)
    torch.testing.assert_close(log_r, Uniform()(graphs).log_prob(orders))
    assert first_of_each(order_hashes(orders, graphs.layout))[present].all()


def test_few_rounds_are_needed_for_what_has_few_orders(monkeypatch):
    """Breadth first, a star has its leaves in any order; in float32 too the 6 of 4 nodes are known to be all."""
    torch.set_default_dtype(torch.float32)
    star = as_batch(Data(x=torch.ones(4, 1), edge_index=torch.tensor([[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]])))
    r, calls = BreadthFirst()(star), []
    monkeypatch.setattr(r, "sample", lambda *given, draw=r.sample: calls.append(1) or draw(*given))
    present = drawn_without_replacement(r, star.layout, 64)[2]
    assert present.sum() == 6
    assert len(calls) < 5


def test_sequences_have_the_law_of_drawing_without_replacement():
    graph = as_batch(random_graph(3, 0.5, seed=0))
    every, chances = every_order(graph)[:4], torch.tensor([0.5, 0.3, 0.15, 0.05])
    counts, num_draws = torch.zeros(4, 4), 3000
    for _ in range(num_draws):
        orders = drawn_without_replacement(Table(every, chances), graph.layout, 2)[0]
        a, b = ((order == every).all(1).nonzero().item() for order in orders)
        counts[a, b] += 1
    expected = chances[:, None] * chances / (1 - chances[:, None])
    expected.fill_diagonal_(0)
    assert ((counts / num_draws - expected).abs() < 4.5 * (expected / num_draws).sqrt() + 1e-9).all()


def test_images_are_equal_exactly_where_relabelled_graphs_are():
    graphs = as_batch([random_graph(4, 0.5, seed=3), random_graph(4, 1.0, seed=4), random_graph(4, 0.0, seed=5)])
    graphs.x[:] = torch.tensor([0.0, 1.0, 1.0, 0.0] * 3)[:, None]
    graphs.x[0] = -0.0
    every = every_order(graphs)
    for given in (graphs, without_features(graphs)):
        found = image_hashes(given, every)
        moved = relabelled(given, every).to_data_list()
        for graph in range(3):
            alone = [moved[3 * k + graph] for k in range(24)]
            keys = []
            for g in alone:
                edges = torch.zeros(4, 4).index_put((g.edge_index[0], g.edge_index[1]), torch.ones(()))
                keys.append((edges.flatten().tolist(), [] if g.x is None else g.x.abs().flatten().tolist()))
            same = torch.tensor([[a == b for b in keys] for a in keys])
            assert torch.equal(found[:, None, graph] == found[None, :, graph], same)


def test_the_first_of_each_in_every_column():
    hashes = torch.tensor([[5, 1], [5, 2], [-7, 1], [5, 2]])
    assert first_of_each(hashes).tolist() == [[True, True], [False, True], [True, False], [False, False]]
