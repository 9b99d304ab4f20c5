import math
import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from graphvae.datasets import LinkSplit, citation, standard_library
from graphvae.recipes import link_prediction
from graphvae.recipes.link_prediction import METHODS, Task, run, summarise

SHARED = Path(os.environ.get("GRAPHVAE_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_cora = pytest.mark.skipif(not (SHARED / "planetoid" / "Cora").is_dir(), reason="needs Cora in GRAPHVAE_DATA")


@pytest.fixture(scope="module")
def data():
    return standard_library()


def task_of(data, seed=0):
    split = LinkSplit.random(data, seed=seed)
    return Task(split.graph(data), split, seed, Accelerator(cpu=True))


@pytest.mark.parametrize("method", METHODS)
def test_methods_are_reproducible_and_see_no_held_out_edge(method, data, monkeypatch):
    monkeypatch.setattr(link_prediction, "EPOCHS", 4)
    task = task_of(data)
    state = torch.get_rng_state()
    first, second = (run(method, task).metrics for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name in first.keys() - {"seconds", "peak_mib"}:
        assert first[name] == second[name] or math.isnan(first[name])
    # Test edges elsewhere, same visible graph: the scores a method gives must not move.
    split = task.split
    moved = LinkSplit(**vars(split) | {"test_edges": split.test_non_edges, "test_non_edges": split.test_edges})
    pairs = torch.cat([split.test_edges, split.test_non_edges], 1)
    scores = METHODS[method](task).scores(pairs)
    assert torch.equal(scores, METHODS[method](Task(task.visible, moved, 0, task.accelerator)).scores(pairs))


def test_erdos_renyi_is_the_density(data):
    outcome = run("erdos-renyi", task_of(data))
    assert outcome.metrics["auc"] == 0.5
    density, pairs = outcome.calibration.density, outcome.calibration.pairs.sum()
    entropy = density * math.log(density) + (1 - density) * math.log1p(-density)
    assert outcome.metrics["nats_per_pair"] == pytest.approx(entropy, rel=1e-3)
    assert pairs > 100_000


def test_training_beats_chance_and_the_bound_beats_erdos_renyi(data):
    task = task_of(data)
    baseline, kipf, bound = (run(method, task).metrics for method in ("erdos-renyi", "vgae", "vgae-elbo"))
    assert kipf["auc"] > 0.85
    assert bound["auc"] > 0.85
    assert bound["nats_per_pair"] > baseline["nats_per_pair"]
    assert bound["ece"] < 0.02 * kipf["ece"]
    # Re-weighted edges are no probabilities; with the known weight undone they are.
    assert kipf["nats_per_pair"] < 10 * baseline["nats_per_pair"]
    assert kipf["nats_per_pair_unweighted"] > baseline["nats_per_pair"]
    assert bound["nats_per_pair_unweighted"] == bound["nats_per_pair"]


@needs_cora
def test_published_level_on_one_split_of_cora():
    task = task_of(citation("cora", SHARED))
    assert run("floor", task).metrics["auc"] > 0.92
    for method in ("gae", "vgae"):
        metrics = run(method, task).metrics
        assert metrics["auc"] > 0.89
        assert metrics["ap"] > 0.90


@needs_cora
def test_the_joint_bound_trains_on_cora(monkeypatch):
    monkeypatch.setattr(link_prediction, "EPOCHS", 60)
    task = task_of(citation("cora", SHARED))
    baseline, bound = (run(method, task).metrics for method in ("erdos-renyi", "vgae-elbo"))
    assert bound["nats_per_pair"] > baseline["nats_per_pair"]
    assert bound["auc"] > 0.7


def test_summary_has_mean_and_spread_and_says_what_is_undefined(data):
    outcomes = [run("floor", task_of(data, seed)) for seed in range(3)]
    row = summarise("floor", outcomes)
    values = [outcome.metrics["auc"] for outcome in outcomes]
    assert row["auc"]["mean"] == pytest.approx(sum(values) / 3)
    assert row["auc"]["std"] == pytest.approx(torch.tensor(values, dtype=torch.float64).std().item())
    assert row["ece"] == {"mean": None, "std": None}
    assert [part["auc"] for part in row["per_split"]] == values
    assert summarise("floor", outcomes[:1])["auc"]["std"] is None
