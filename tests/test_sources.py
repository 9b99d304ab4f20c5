"""Batches of vectors, and what a training makes of them, against a loop written by hand."""

import copy

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import BatchNorm1d
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from conftest import random_graph
from graphvae import GraphVAE, edgeless, elbo, fit
from graphvae.backbones import Nodewise
from graphvae.encoders import NormalEncoder
from graphvae.features import BernoulliFeatures
from graphvae.priors import StandardNormal
from graphvae.sources import batch_sizes, epochs_of, read

pytestmark = pytest.mark.usefixtures("double")


def _model(features=6):
    torch.manual_seed(0)
    encoder = NormalEncoder(Nodewise(nn.Sequential(nn.Linear(features, 8), nn.ReLU())), 8, 3)
    decoder = Nodewise(nn.Sequential(nn.Linear(3, 8), nn.ReLU()))
    return GraphVAE(StandardNormal(3), encoder, None, BernoulliFeatures(decoder, 8, features))


def _bits(count=23, features=6):
    return (torch.rand(count, features) < 0.4).double()


def _by_hand(model, x, epochs, batch_size, optimizer, seed):
    """The training of a variational autoencoder as one writes it, with the weights of `model`: means by epoch."""
    encoder, decoder, means = model.encoder, model.features, []
    torch.manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(int(torch.randint(2**62, ()))))
        total = 0.0
        for rows in order.split(batch_size):
            hidden = encoder.backbone.network(x[rows])
            loc, log_scale = encoder.loc(hidden), encoder.log_scale(hidden)
            z = loc + log_scale.exp() * torch.randn_like(loc)
            logits = decoder.logits(decoder.backbone.network(z))
            nats = binary_cross_entropy_with_logits(logits, x[rows], reduction="sum")
            kl = 0.5 * (loc**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
            optimizer.zero_grad()
            ((nats + kl) / len(rows)).backward()
            optimizer.step()
            total -= (nats + kl).item()
        means.append(total / len(x))
    return means


@pytest.mark.parametrize("batch_size", [5, 23, 100])
def test_fit_follows_a_loop_by_hand_to_rounding(batch_size):
    x, mine, theirs = _bits(), _model(), _model()
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01, fused=True) for model in (mine, theirs)]
    expected = _by_hand(theirs, x, 4, batch_size, optimizers[1], seed=7)
    history = fit(mine, x, epochs=4, batch_size=batch_size, optimizer=optimizers[0], seed=7, progress=False)
    assert history.objective == pytest.approx(expected, rel=1e-12)
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_the_elbo_of_vectors_has_the_bits_of_a_network_on_vectors():
    x, model, noise = _bits().float(), _model().float(), torch.randn(23, 3).float()
    hidden = model.encoder.backbone.network(x)
    loc, scale = model.encoder.loc(hidden), model.encoder.log_scale(hidden).exp()
    logits = model.features.logits(model.features.backbone.network(loc + scale * noise))
    kl = 0.5 * (scale**2 + loc**2 - 1 - (scale**2).log()).sum(1)
    expected = -binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1) - kl
    assert torch.equal(elbo(model, edgeless(x), noise=noise), expected)
    by_softplus = (x * logits - softplus(logits)).sum(1) - kl
    torch.testing.assert_close(expected, by_softplus, rtol=1e-5, atol=1e-5)


def _epochs(x, batch_size, count=2):
    reading = read(_model(x.size(1)), x, batch_size, torch.Generator().manual_seed(3), Accelerator(cpu=True))
    return [list(reading.batches) for _ in range(count)]


@pytest.mark.parametrize("gathered", [1, 60, 10**6])  # Numbers gathered at once: a batch, some, or all.
def test_every_vector_comes_once_an_epoch_in_batches_that_share_layouts(gathered, monkeypatch):
    monkeypatch.setattr("graphvae.sources._GATHERED", gathered)
    x = torch.cat([torch.eye(5), torch.zeros(18, 5)])
    x[5:] = ((torch.arange(5, 23)[:, None] >> torch.arange(5)) & 1).double()
    first, second = _epochs(x, 5)
    for batches in (first, second):
        assert [batch.num_graphs for batch in batches] == [5, 5, 5, 5, 3]
        rows = torch.cat([batch.x for batch in batches])
        assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, x.tolist()))
    assert not torch.equal(torch.cat([b.x for b in first]), torch.cat([b.x for b in second]))
    assert len({id(batch.layout) for batch in first + second}) == 2
    expected = edgeless(first[0].x)
    for key in ("x", "edge_index", "batch", "ptr"):
        assert torch.equal(first[0][key], expected[key])
    assert [graph.x.tolist() for graph in first[0].to_data_list()] == [[row] for row in first[0].x.tolist()]


def test_a_batch_may_be_kept_and_changed():
    batches, *_ = _epochs(_bits(), 5)
    kept = copy.copy(batches[0])
    kept.x, kept.mark = torch.zeros(5, 6), 1
    assert "mark" not in batches[1]
    assert batches[0].x.any()
    assert not torch.equal(batches[0].x, batches[1].x)


def _graphs(count=23):
    graphs = [random_graph(2 + k % 5, 0.5, k, features=6) for k in range(count)]
    for number, graph in enumerate(graphs):
        graph.x[:] = torch.tensor([number >> bit & 1 for bit in range(6)])
    return graphs


def _number(graph):
    return int((graph.x[0] * 2 ** torch.arange(6)).sum())


def test_every_graph_comes_once_an_epoch_in_an_order_that_the_generator_draws():
    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = read(_model(), _graphs(), 5, generator, Accelerator(cpu=True)).batches
        assert len(batches) == 5
        return [[_number(graph) for batch in batches for graph in batch.to_data_list()] for _ in range(2)]

    first, second = epochs(0)
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert epochs(0) == [first, second]
    assert epochs(1)[0] != first


def test_a_mini_batch_is_the_graphs_as_they_were_given():
    graphs = _graphs()
    batches = read(_model(), graphs, 5, torch.Generator(), Accelerator(cpu=True)).batches
    for batch in batches:
        for found in batch.to_data_list():
            given = graphs[_number(found)]
            assert torch.equal(found.x, given.x)
            assert torch.equal(found.edge_index, given.edge_index)


@pytest.mark.parametrize(
    ("count", "batch_size", "expected"),
    [
        (23, 5, [5, 5, 5, 5, 3]),
        (20, 5, [5, 5, 5, 5]),
        (21, 5, [5, 5, 5, 6]),
        (6, 5, [6]),
        (5, 5, [5]),
        (1, 5, [1]),
        (3, 2, [3]),
        (2, 1, [1, 1]),
        (1, 1, [1]),
    ],
)
def test_one_left_over_is_joined_to_the_batch_before_it(count, batch_size, expected, monkeypatch):
    monkeypatch.setattr("graphvae.sources._GATHERED", 60)
    assert batch_sizes(count, batch_size) == expected
    for data in (_bits(count), _graphs(count)):
        batches = read(_model(), data, batch_size, torch.Generator(), Accelerator(cpu=True)).batches
        assert len(batches) == len(expected)
        found = list(batches)
        assert [batch.num_graphs for batch in found] == expected
        rows = torch.cat([batch.x for batch in found]).tolist()
        given = data if isinstance(data, torch.Tensor) else torch.cat([graph.x for graph in data])
        assert sorted(rows) == sorted(given.tolist())


@pytest.mark.parametrize(
    ("steps", "count", "batch_size", "expected"),
    [(600, 100, 32, 150), (10, 33, 32, 10), (10, 34, 32, 5), (1, 100, 10, 1), (16, 100, 10, 2)],
)
def test_epochs_are_those_that_come_nearest_to_a_number_of_steps(steps, count, batch_size, expected):
    """One left over makes no step of its own, and one epoch is the least there is."""
    assert epochs_of(steps, count, batch_size) == expected


def test_batch_normalisation_trains_where_one_is_left_over():
    model, x = _model(), _bits(21)
    model.features.backbone.network.append(BatchNorm1d(8))
    history = fit(model, x, epochs=2, batch_size=5, progress=False, accelerator=Accelerator(cpu=True))
    assert len(history.objective) == 2
