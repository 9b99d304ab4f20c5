import math

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torch_geometric.nn import GCN

from conftest import random_graph
from graphvae import GraphVAE
from graphvae.datasets import LinkSplit
from graphvae.distributions import BernoulliEdges
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.evaluation.links import calibration, predict, ranking, score_pairs
from graphvae.priors import StandardNormal

GRAPH = random_graph(80, 0.15, seed=3)
SPLIT = LinkSplit.random(GRAPH, (70, 10, 20), seed=1)


def random_edges(dim=3, bias=-2.0):
    h = torch.randn(80, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return BernoulliEdges(h, h, torch.tensor(bias, dtype=torch.float64))


@pytest.mark.parametrize("part", ["test", "val"])
@pytest.mark.parametrize("rounded", [False, True], ids=["no ties", "many ties"])
def test_ranking_equals_definitions(part, rounded):
    edges = random_edges()

    def scores(pairs):
        return edges.logits(pairs).round() if rounded else edges.logits(pairs)

    found = ranking(scores, SPLIT, part)
    positive, negative = (scores(pairs).numpy() for pairs in SPLIT.held_out(part))
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    assert found["auc"] == pytest.approx(wins, abs=1e-12)
    ranks = 1 + (negative >= positive[:, None]).sum(1)
    assert found["mrr"] == pytest.approx((1 / ranks).mean(), abs=1e-12)
    for k in (20, 50, 100):
        if len(negative) < k:
            assert math.isnan(found[f"hits@{k}"])
        else:
            threshold = sorted(negative)[-k]
            assert found[f"hits@{k}"] == pytest.approx(sum(p > threshold for p in positive) / len(positive), abs=1e-12)


def test_perfect_and_useless_scores():
    truth = {tuple(pair) for pair in SPLIT.test_edges.T.tolist()}
    perfect = ranking(lambda pairs: torch.tensor([float(tuple(p) in truth) for p in pairs.T.tolist()]), SPLIT)
    assert {name: value for name, value in perfect.items() if not math.isnan(value)} == pytest.approx(
        dict.fromkeys([name for name, value in perfect.items() if not math.isnan(value)], 1.0)
    )
    constant = ranking(lambda pairs: torch.zeros(pairs.size(1)), SPLIT)
    assert constant["auc"] == 0.5
    assert constant["hits@20"] == 0.0


def test_a_visible_pair_is_not_scored():
    with pytest.raises(ValueError, match="'pairs' must not be in the message graph, 3 are"):
        score_pairs(random_edges().logits, torch.cat([SPLIT.test_edges, SPLIT.message[:, :3].flip(0)], 1), SPLIT)


def test_a_graph_with_held_out_edges_is_not_encoded():
    """The classic leak: to encode the whole graph and score its own edges."""
    model = GraphVAE(StandardNormal(2), NormalEncoder(GCN(5, 8, 2), 8, 2), InnerProduct(0.1))
    held_out = SPLIT.val_edges.size(1) + SPLIT.test_edges.size(1)
    with pytest.raises(ValueError, match=f"'graphs' must not hold held-out edges, got {held_out}; encode split.graph"):
        predict(model, GRAPH, SPLIT)
    visible = SPLIT.graph(GRAPH)
    expected = model.edges(model.posterior(visible).mean).logits(SPLIT.test_edges)
    torch.testing.assert_close(predict(model, visible, SPLIT).logits(SPLIT.test_edges), expected.detach())


def test_directed_edges_are_not_calibrated():
    h = torch.zeros(80, 1)
    with pytest.raises(ValueError, match="'edges' must be undirected"):
        calibration(BernoulliEdges(h, h, torch.tensor(0.0), directed=True), SPLIT)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="scores must be finite, got 2 of 4"):
        score_pairs(lambda pairs: torch.tensor([0.0, torch.nan, torch.inf, 1.0]), SPLIT.test_edges[:, :4], SPLIT)


@pytest.mark.parametrize("part", ["test", "val"])
def test_calibration_is_over_every_hidden_pair(part):
    edges = random_edges()
    found = calibration(edges, SPLIT, part)
    shares = {"test": 20, "val": 10}
    every = torch.triu_indices(80, 80, 1)
    other = SPLIT.val_edges if part == "test" else SPLIT.test_edges
    hidden = ~torch.isin(SPLIT.keys(every), SPLIT.keys(torch.cat([SPLIT.message, other], 1)))
    pairs = every[:, hidden]
    logits = edges.logits(pairs) + math.log(shares[part] / 70)
    truth = torch.isin(SPLIT.keys(pairs), SPLIT.keys(SPLIT.held_out(part)[0])).double()
    log_likelihood = torch.distributions.Bernoulli(logits=logits).log_prob(truth).mean()
    assert found.nats_per_pair == pytest.approx(log_likelihood.item(), rel=1e-10)
    assert found.pairs.sum() == pairs.size(1)
    assert found.density == pytest.approx(truth.mean().item(), rel=1e-12)
    assert found.expected_edges_ratio == pytest.approx((logits.sigmoid().sum() / truth.sum()).item(), rel=1e-10)
    assert (found.observed * found.pairs).sum() == pytest.approx(truth.sum().item())
    assert found.ece == pytest.approx(np.average(np.abs(found.predicted - found.observed), weights=found.pairs))


def test_the_reliability_curve_is_scikit_learns_where_bins_agree():
    """Logits that take a few far-apart values make our bins and any other the same."""
    h = torch.zeros(80, 2, dtype=torch.float64)
    h[:20, 0], h[20:40, 1] = 1.3, 1.0
    edges = BernoulliEdges(h, h, torch.tensor(-2.0, dtype=torch.float64))
    found = calibration(edges, SPLIT)
    every = torch.triu_indices(80, 80, 1)
    hidden = ~torch.isin(SPLIT.keys(every), SPLIT.keys(torch.cat([SPLIT.message, SPLIT.val_edges], 1)))
    pairs = every[:, hidden]
    probability = (edges.logits(pairs) + math.log(20 / 70)).sigmoid().numpy()
    truth = torch.isin(SPLIT.keys(pairs), SPLIT.keys(SPLIT.test_edges)).numpy()
    observed, predicted = calibration_curve(truth, probability, n_bins=1000)
    np.testing.assert_allclose(found.predicted, predicted, rtol=1e-10)
    np.testing.assert_allclose(found.observed, observed, rtol=1e-10)


def test_the_generating_model_is_calibrated_and_a_shifted_one_is_not():
    """Edges drawn from a known model, split at random: the stated shift makes the truth calibrated on hidden pairs."""
    torch.manual_seed(0)
    h = torch.randn(700, 2, dtype=torch.float64)
    truth = BernoulliEdges(0.7 * h, h, torch.tensor(-4.0, dtype=torch.float64))
    graph = random_graph(700, 0.0, seed=0)
    graph.edge_index = truth.sample(torch.Generator().manual_seed(1))
    split = LinkSplit.random(graph, (70, 10, 20), seed=0)
    visible = truth.shifted(math.log(0.7))  # The odds of a visible edge, to first order.
    right, wrong = calibration(visible, split), calibration(visible.shifted(2.0), split)
    assert 0.93 < right.expected_edges_ratio < 1.07
    assert right.ece < 0.15 * right.density
    assert wrong.expected_edges_ratio > 4
    assert wrong.ece > right.ece * 10
    assert right.nats_per_pair > wrong.nats_per_pair
