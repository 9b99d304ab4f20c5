"""Generating small graphs: tasks, the comparison of methods, and the methods themselves."""

import math
from dataclasses import replace
from statistics import stdev

import networkx as nx
import pytest
import torch
from accelerate import Accelerator

from conftest import graph_from
from graphvae.datasets import graphs_from, write_graphs
from graphvae.datasets.graph_lists import GraphSplits
from graphvae.datasets.small import atlas
from graphvae.evaluation.graphs import EARTH_MOVERS, wilson
from graphvae.graphs import as_batch
from graphvae.isomorphism import isomorphism_classes
from graphvae.recipes.comparison import (
    Run,
    compare,
    drawn,
    finite,
    graphs_per_second,
    judged,
    pooled,
)
from graphvae.recipes.generation import RULES, GraphTask, structure, task, task_of
from graphvae.recipes.graph_generators import METHODS, erdos_renyi, unsuitable
from graphvae.recipes.node_latents import with_structure


def running(steps=None, seed=0):
    return Run(seed, Accelerator(cpu=True), steps=steps)


@pytest.fixture(scope="module")
def trees():
    """33 trees for training, one more than a mini-batch, 4 of them of 3 nodes, which samples will rarely be."""
    found = [nx.random_labeled_tree(n, seed=k) for k, n in enumerate([3] * 4 + [6, 7, 8] * 15)]
    graphs = graphs_from(found)
    return GraphTask("trees", graphs[:33], graphs[33:41], graphs[41:], "tree")


def test_sets_say_which_graphs_are_valid(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAPHVAE_DATA", str(tmp_path))
    for name, rule in {"lobster": "lobster", "tree-procedural": "tree", "planar_procedural": "planar"}.items():
        found = task(name)
        assert found.rule == rule
        assert (len(found.train), len(found.val), len(found.test)) == (128, 32, 40)
        assert RULES[rule](found.test).all()
    assert task("atlas-5").rule == "connected"
    assert task("erdos-renyi").rule == "any"
    assert task("atlas-5", rule="tree").rule == "tree"
    assert task("lobster").oracle is not None
    assert task("atlas-5").oracle is None


def test_only_edges_count(tmp_path):
    path = tmp_path / "typed.npz"
    graph = graph_from(nx.path_graph(4), x=torch.eye(4))
    graph.edge_type = torch.zeros(6, dtype=torch.long)
    write_graphs(path, GraphSplits([graph] * 3, [graph], [graph]))
    found = task(path)
    assert found.name == "typed"
    for part in (found.train, found.val, found.test):
        assert all(one.x is None and one.get("edge_type") is None for one in part)
    assert structure(graph).get("edge_type") is None
    row = found.evaluate(as_batch(graph), torch.Generator())
    assert (row["novel"], row["valid"], row["vun"]) == (0, 1, 0)


def test_what_cannot_be_a_task_is_told():
    graph = graph_from(nx.path_graph(4))
    with pytest.raises(ValueError, match="'mine' must have graphs for training and for testing, it has none in 'test'"):
        task_of("mine", [graph], [], [])
    with pytest.raises(ValueError, match=r"'rule' must be one of planar, .*, got 'round'"):
        task_of("mine", [graph], [], [graph], "round")


@pytest.mark.parametrize(
    ("net", "found"), [(nx.complete_graph(4), "all 12 pairs of nodes"), (nx.empty_graph(4), "no two nodes")]
)
def test_sets_of_all_edges_or_none_cannot_be_generated(net, found, tmp_path):
    write_graphs(tmp_path / "mine.npz", GraphSplits([graph_from(net)] * 2, [], [graph_from(net)]))
    with pytest.raises(ValueError, match=f"'mine' must have both pairs .*, {found} are joined in its training graphs"):
        task(tmp_path / "mine.npz")
    # Samples can be judged against them.
    given = task_of("mine", [graph_from(net)] * 2, [], [graph_from(net)])
    assert given.evaluate(given.test, torch.Generator())["valid"] == 1
    with pytest.raises(ValueError, match=r"'density' must lie strictly between 0 and 1, got [01]\.0; "):
        erdos_renyi(given, running())


def test_honest_rows(trees):
    honesty = replace(trees, oracle=lambda n, seed: trees.train[:n]).honesty(2, 5, 0)
    whole, copied, oracle = honesty.rows
    assert [row["method"] for row in honesty.rows] == ["train set", "train set copied", "oracle"]
    assert whole["num_graphs"] == 33
    assert copied["num_graphs"] == oracle["num_graphs"] == 10
    for row in honesty.rows:
        assert (row["valid"], row["novel"], row["vun"]) == (1, 0, 0)
        assert row["intervals"]["vun"] == pytest.approx(wilson(0, row["num_graphs"]))
    assert whole["ratios"]["autograph"] == 1
    assert copied["mmd"]["degree"] > whole["mmd"]["degree"], "fewer graphs, larger discrepancies"
    own, known = isomorphism_classes(as_batch(trees.test), as_batch(trees.train))
    assert honesty.test_in_train == pytest.approx(torch.isin(own, known).double().mean())
    # The kernels are those of the task.
    other = replace(trees, kernels=EARTH_MOVERS).honesty(1, 5, 0).rows[0]
    assert other["mmd"]["orbit"] != whole["mmd"]["orbit"]


def test_draws_are_pooled():
    rows = [
        {"num_graphs": 4, "valid": 0.25, "note": "n", "mmd": {"degree": 1.0}, "intervals": {"degree": [0, 1]}},
        {"num_graphs": 4, "valid": 0.75, "note": "n", "mmd": {"degree": 2.0}, "intervals": {"degree": [1, 4]}},
        {"num_graphs": 4, "valid": 1.0, "note": "n", "mmd": {"degree": None}, "intervals": {"degree": [2, 4]}},
    ]
    found = pooled(rows, ["valid"])
    assert (found["num_graphs"], found["draws"], found["note"]) == (12, 3, "n")
    assert found["valid"] == pytest.approx(8 / 12)
    assert found["mmd"] == {"degree": 1.5}
    assert found["intervals"]["degree"] == [1, 3]
    assert found["intervals"]["valid"] == pytest.approx(wilson(8, 12))
    assert found["spread"] == pytest.approx({"valid": stdev([0.25, 0.75, 1]), "mmd.degree": stdev([1, 2])})
    assert pooled(rows[:1], ["valid"])["spread"] == {"valid": None, "mmd.degree": None}


def test_json_has_no_infinities():
    assert finite({"a": [1.0, math.nan, (math.inf, "b")], "c": None, "d": 2}) == {
        "a": [1.0, None, [None, "b"]],
        "c": None,
        "d": 2,
    }


def test_independent_edges_have_the_density_and_the_likelihood_of_a_coin(double):
    square, path = graph_from(nx.cycle_graph(4)), graph_from(nx.path_graph(4))
    found = erdos_renyi(task_of("mine", [square, path], [], [path]), running())
    share = 7 / 12
    smoothed = 1e-3 * 2 / 4  # A thousandth of the two graphs, shared by the sizes 1 to 4.
    expected = 3 * math.log(share) + 3 * math.log(1 - share) + math.log((2 + smoothed) / (2 + 4 * smoothed))
    assert found.numbers["bound"] == pytest.approx(expected)
    samples = drawn(found.sample, 4000, torch.Generator().manual_seed(0))
    edges = samples.edge_index.size(1) / 2 / samples.layout.num_pairs.sum().item()
    assert abs(edges - share) < 4 * (share * (1 - share) / 24000) ** 0.5


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_samples_and_says_what_it_did(method, trees):
    outcome = compare(method, METHODS[method], trees, running(steps=8), 2, 5, timed=20)
    row = outcome.row
    assert row["method"] == method
    assert outcome.samples.num_graphs == row["num_graphs"] == 10
    assert int(outcome.samples.ptr.diff().max()) <= 8
    assert row["seconds"] > 0
    assert row["graphs_per_second"] > 0
    assert math.isfinite(row["bound"])
    again = judged(outcome.fitted.sample, trees, 2, 5, 0)[1]
    assert again["mmd"] == row["mmd"], "samples are those of the seed"
    if outcome.fitted.model is not None:
        assert row["epochs"] == 8
        assert 1 <= row["best_epoch"] <= 8
        assert 0 <= row["active_units"] <= row["latent"]
        assert row["kl"] > 0


def test_a_training_never_sees_test_graphs_and_learns(trees):
    other = replace(trees, test=atlas(4))
    short, same, long = (
        METHODS["graphvae-bfs"](given, running(steps)) for given, steps in ((trees, 8), (other, 8), (trees, 120))
    )
    for one, two in zip(short.model.parameters(), same.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    assert long.numbers["bound"] > short.numbers["bound"] + 0.2


def test_without_validation_graphs_some_are_held_out(trees):
    found = METHODS["node-latents"](replace(trees, val=[]), running(steps=4))
    assert found.numbers["best_epoch"] is not None


@pytest.mark.parametrize("method", ["graphvae", "graphvae-bfs", "node-latents"])
def test_graphs_larger_than_all_for_training_are_no_failure(method, trees):
    large = graphs_from([nx.path_graph(12)])
    found = METHODS[method](replace(trees, val=trees.val + large, test=trees.test + large), running(steps=2))
    assert found.numbers["bound"] == -math.inf, "there is no chance of so large a graph"


def test_matching_is_for_small_graphs(trees):
    assert unsuitable("graphvae", trees) is None
    large = replace(trees, train=graphs_from([nx.path_graph(21)]))
    assert "at most 20, and trees has graphs of 21" in unsuitable("graphvae", large)
    assert all(unsuitable(method, large) is None for method in METHODS if method != "graphvae")


def test_many_samples_are_drawn_some_at_a_time(trees):
    asked = []

    def sample(num_graphs, generator):
        asked.append(num_graphs)
        return as_batch(trees.train[:1] * num_graphs)

    assert drawn(sample, 600, torch.Generator()).num_graphs == 600
    assert asked == [250, 250, 100]
    asked.clear()
    assert graphs_per_second(sample, 300, torch.device("cpu")) > 0
    assert asked == [250, 250, 50], "one batch before the clock starts"
    with pytest.raises(ValueError, match="'size'"):
        judged(sample, trees, 1, 0, 0)


def test_the_noise_of_scores_is_not_what_a_prior_began_as():
    """Else it is where the components are, and divergences estimated there are too low."""
    given = task("atlas-5")
    fitted = METHODS["node-mixture"](given, running(steps=30))
    test = with_structure(given.test, 4, steps=8)
    with torch.no_grad():
        q = fitted.model.posterior(test)
        fresh = torch.stack([q.kl(fitted.model.prior(q.layout), q.rsample()).mean() for _ in range(100)])
    assert abs(fitted.numbers["kl"] - fresh.mean()) < 4 * fresh.std()
