"""Penalties on decoded graphs are those of an enumeration; training with them keeps more atoms to their limits."""

import math
from itertools import product

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn.aggr import SumAggregation

from graphvae import GraphVAE, elbo, fit
from graphvae.backbones import Nodewise
from graphvae.decoders import DenseGraph
from graphvae.encoders import NormalEncoder
from graphvae.layout import Layout
from graphvae.objectives import ValencePenalty, WarmUp
from graphvae.objectives.valences import connection_penalty, valence_penalty
from graphvae.placed import PlacedGraphs
from graphvae.priors import StandardNormal

LIMITS, ORDERS = (1, 3), (1, 2)
PAIRS = [(0, 1), (0, 2), (1, 2)]


def enumerated(p):
    """For each place the probability that it breaks its limit, and that it is joined to no earlier one."""
    broken, apart = torch.zeros(3), torch.zeros(3)
    exists, nodes, edges = p.existence[0].sigmoid(), p.nodes[0].exp(), p.edges[0].exp()
    for there in product((0, 1), repeat=3):
        chance = torch.stack([exists[a] if there[a] else 1 - exists[a] for a in range(3)]).prod()
        for kinds, classes in product(product((0, 1), repeat=3), product((0, 1, 2), repeat=3)):
            weight = chance * torch.stack([nodes[a, kinds[a]] for a in range(3)]).prod()
            weight = weight * torch.stack([edges[n, c] for n, c in enumerate(classes)]).prod()
            bonds, earlier = [0, 0, 0], [False, False, False]
            for (a, b), c in zip(PAIRS, classes, strict=True):
                if c and there[a] and there[b]:
                    bonds[a] += ORDERS[c - 1]
                    bonds[b] += ORDERS[c - 1]
                    earlier[b] = True
            for a in range(3):
                broken[a] += weight * (there[a] and bonds[a] > LIMITS[kinds[a]])
                apart[a] += weight * (there[a] and not earlier[a])
    return broken, apart


def test_penalties_are_those_of_an_enumeration(double):
    torch.manual_seed(0)
    p = PlacedGraphs(torch.randn(1, 3), torch.randn(1, 3, 3), torch.randn(1, 3, 2))
    broken, apart = enumerated(p)
    torch.testing.assert_close(valence_penalty(p, LIMITS, ORDERS)[0], -(1 - broken).log().sum())
    torch.testing.assert_close(connection_penalty(p)[0], -(1 - apart[1:]).log().sum())


def test_what_keeps_all_rules_costs_nothing_and_what_breaks_one_is_finite(double):
    chain = torch.tensor([[[0.0, 60, 0], [60, 0, 0], [0, 60, 0]]])  # Pairs 01, 02 and 12: a chain 0 - 1 - 2.
    ends = torch.tensor([[[60.0, 0], [0, 60], [60, 0]]])
    fine = PlacedGraphs(torch.full((1, 3), 60.0), chain, ends)
    assert valence_penalty(fine, LIMITS, ORDERS).item() == pytest.approx(0, abs=1e-12)
    assert connection_penalty(fine).item() == pytest.approx(0, abs=1e-12)
    wrong = PlacedGraphs(torch.full((1, 3), 60.0), chain.flip(2), ends.flip(2))
    assert valence_penalty(wrong, LIMITS, ORDERS).item() > 9


def test_graphs_that_are_surely_wrong_are_pushed_back(double):
    for sure in (8.0, 12.0, 30.0):
        edges = torch.full((1, 3, 3), 0.0)
        edges[..., 2] = sure  # Double bonds everywhere.
        edges.requires_grad_()
        places, nodes = torch.full((1, 3), 60.0), torch.tensor([[[60.0, 0]] * 3])
        found = valence_penalty(PlacedGraphs(places, edges, nodes), LIMITS, ORDERS)
        found.sum().backward()
        assert 9 < found.item() <= 3 * (1 - math.log(1e-4)) + 1e-9
        assert bool((edges.grad[..., 2] > 0).all())
        none = torch.zeros(1, 3, 3)
        none[..., 0] = sure
        none.requires_grad_()
        connection_penalty(PlacedGraphs(places, none, nodes)).sum().backward()
        assert bool((none.grad[..., 0] > 0).all())


def test_the_penalty_is_a_mean_over_latents(double):
    x = nn.functional.one_hot(torch.tensor([0, 1]), 2).double()
    graph = Data(x=x, edge_index=torch.tensor([[0, 1], [1, 0]]), edge_type=torch.tensor([1, 1]))
    model = model_of([graph]).double()
    torch.manual_seed(1)
    found = ValencePenalty(LIMITS, ORDERS, 2.0, latents=64)(model, graph)
    torch.manual_seed(1)
    decoded = model.decoder(model.prior(Layout.singles(64)).sample())
    penalty = (valence_penalty(decoded, LIMITS, ORDERS) + connection_penalty(decoded)).mean()
    torch.testing.assert_close(found, elbo(model, graph) - 2 * penalty)


def model_of(graphs):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 32), nn.ReLU())
    encoder = NormalEncoder(Nodewise(nn.Linear(2, 16)), 16, 2, pool=SumAggregation())
    return GraphVAE(StandardNormal(2), encoder, decoder=DenseGraph(3, 32, 0.5, 2, 2, network))


def test_training_with_the_penalty_lowers_it(double):
    x = nn.functional.one_hot(torch.tensor([0, 1, 0]), 2).double()
    edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    graphs = [Data(x=x, edge_index=edges, edge_type=torch.tensor([t, t, 0, 0])) for t in (0, 1)] * 10
    found = []
    for weight in (0.0, 5.0):
        model = model_of(graphs).double()
        objective = WarmUp(5, ValencePenalty(LIMITS, ORDERS, weight, latents=64))
        fit(model, graphs, objective, epochs=40, batch_size=20, progress=False)
        decoded = model.decoder(torch.randn(500, 2, generator=torch.Generator().manual_seed(0)))
        found.append(valence_penalty(decoded, LIMITS, ORDERS).mean().item())
    assert found[1] < 0.5 * found[0]


def test_without_weight_it_is_the_objective_and_what_does_not_fit_is_refused(double):
    x = nn.functional.one_hot(torch.tensor([0, 1]), 2).double()
    graph = Data(x=x, edge_index=torch.tensor([[0, 1], [1, 0]]), edge_type=torch.tensor([1, 1]))
    model = model_of([graph]).double()
    torch.manual_seed(1)
    plain = elbo(model, graph)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.randn(64, 2)  # The latents of the penalty are drawn first.
        expected = elbo(model, graph)
    torch.manual_seed(1)
    assert ValencePenalty(LIMITS, ORDERS, 0.0, latents=64)(model, graph).item() == pytest.approx(expected.item())
    assert plain.item() != expected.item()
    with pytest.raises(ValueError, match="'decoder' with 3 node types and 2 edge types"):
        ValencePenalty((1, 2, 3), ORDERS, 1.0)(model, graph)
    with pytest.raises(ValueError, match="'weight' must not be negative"):
        ValencePenalty(LIMITS, ORDERS, -1.0)
