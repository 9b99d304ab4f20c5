"""The matching bound: below the exact sum over all places, invariant, a bound however good the matching."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GIN
from torch_geometric.nn.aggr import SumAggregation
from torch_geometric.transforms import OneHotDegree

from graphvae import GraphVAE, elbo, fit
from graphvae.bounds import image_bound, inner_bound, matching_bound
from graphvae.bounds.matched import matched_places
from graphvae.conventions import Convention
from graphvae.decoders import DenseGraph
from graphvae.encoders import NormalEncoder
from graphvae.evaluation.likelihood import every_order, every_placement, exact, quadrature
from graphvae.graphs import as_batch, permute
from graphvae.orderings import Uniform
from graphvae.placed import PlacedGraphs
from graphvae.priors import StandardNormal


def graph(size, *once):
    pairs = torch.tensor(once, dtype=torch.long).view(-1, 2).T
    found = OneHotDegree(3)(Data(edge_index=torch.cat([pairs, pairs.flip(0)], 1), num_nodes=size))
    found.x = found.x.double()
    return found


GRAPHS = [graph(4, (0, 1), (1, 2), (2, 3)), graph(4, (0, 1), (0, 2), (0, 3)), graph(4, (0, 1), (1, 2), (0, 2))]


def places_vae(places=4):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh())
    encoder = NormalEncoder(GIN(4, 8, 2), 8, 1, pool=SumAggregation())
    model = GraphVAE(StandardNormal(1), encoder, decoder=DenseGraph(places, 8, 0.4, network=network)).double()
    for parameter in model.decoder.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model


@pytest.fixture
def model(double):
    return places_vae()


def test_exact_likelihoods_of_classes_add_to_one(double):
    model = places_vae(places=3)
    classes = [graph(1), graph(2), graph(2, (0, 1)), graph(3), graph(3, (0, 1))]
    classes += [graph(3, (0, 1), (1, 2)), graph(3, (0, 1), (1, 2), (0, 2))]
    total = sum(exact(model, one, Convention.ISOMORPHISM_CLASS).exp() for one in classes)
    z = torch.linspace(-8, 8, 4001)
    empty = (-nn.functional.softplus(model.decoder(z[:, None]).existence.detach()).sum(1)).exp()
    density = torch.distributions.Normal(0.0, 1.0).log_prob(z).exp()
    assert float(total) + float(torch.trapezoid(empty * density, z)) == pytest.approx(1, abs=1e-6)


def test_labelled_likelihoods_of_all_numberings_add_to_the_sum(model):
    graphs = as_batch(GRAPHS[:1])
    numbered = [permute(graphs, order) for order in every_order(graphs)]
    labelled = torch.stack([exact(model, one, Convention.LABELLED) for one in numbered]).logsumexp(0)
    torch.testing.assert_close(labelled, exact(model, graphs, Convention.SUMMED))
    five = places_vae(places=5)
    numbered = torch.stack([exact(five, one, Convention.LABELLED) for one in numbered]).logsumexp(0)
    torch.testing.assert_close(numbered, exact(five, graphs, Convention.SUMMED))
    assert bool((quadrature(five, graphs) < exact(five, graphs, Convention.LABELLED)).all())


def test_the_matching_bound_lies_below_the_sum_over_all_places(model):
    found = matching_bound(model, GRAPHS * 400).view(400, 3)
    mean, error = found.mean(0), found.std(0) / 20
    assert bool((mean + 4 * error < exact(model, GRAPHS, Convention.SUMMED)).all())


def test_it_lies_between_one_order_and_all_of_them_for_the_same_latent(model):
    graphs = as_batch(GRAPHS)
    for noise in torch.randn(20, 3, 1):
        q = model.posterior(graphs)
        z = q.rsample(noise)
        log_ratio = model.prior(q.layout).log_prob(z) - q.log_prob(z)
        every = inner_bound(model, graphs, every_order(graphs), noise=noise[None])
        one = matching_bound(model, graphs, noise=noise) + q.kl(model.prior(q.layout)) + log_ratio
        assert bool((one < every).all())


def test_any_assignment_makes_a_bound_and_matching_a_better_one(model):
    fit(model, GRAPHS * 4, matching_bound, epochs=40, batch_size=12, progress=False)
    many = as_batch(GRAPHS * 300)
    matched = matching_bound(model, many).view(300, 3).mean(0)
    shuffled = elbo(model, permute(many, Uniform().sample(many, 1)[0])).view(300, 3).mean(0)
    total = exact(model, GRAPHS, Convention.SUMMED)
    assert bool((shuffled < matched).all())
    assert bool((matched < total).all())
    every = image_bound(model, GRAPHS, every_order(GRAPHS), particles=200)
    torch.testing.assert_close(every, exact(model, GRAPHS, Convention.ISOMORPHISM_CLASS), atol=0.5, rtol=0)


def test_it_does_not_see_the_numbering(model):
    graphs, noise = as_batch([graph(4, (0, 1), (1, 2), (1, 3), (2, 3))]), torch.randn(1, 1)
    found = matching_bound(model, graphs, noise=noise)
    for order in every_order(graphs):
        torch.testing.assert_close(matching_bound(model, permute(graphs, order), noise=noise), found)


def sure(wanted, kinds):
    """A decoder that is sure of a graph and of the kinds of its nodes."""
    size = wanted.num_nodes
    classes = torch.tensor([16.0, 0.0]).repeat(1, size * (size - 1) // 2, 1)
    for i, j in wanted.edge_index.T.tolist():
        if i < j:
            classes[0, j * (j - 1) // 2 + i] = torch.tensor([0.0, 16.0])
    return PlacedGraphs(torch.full((1, size), 16.0), classes, 16 * nn.functional.one_hot(kinds)[None].double())


def test_a_sure_decoder_of_nodes_that_differ_is_matched_exactly(double):
    wanted, kinds = graph(5, (0, 1), (1, 2), (2, 3), (1, 3)), torch.arange(5)
    wanted.x = torch.eye(5)
    decoded = sure(wanted, kinds)
    for order in torch.tensor([[4, 2, 0, 3, 1], [0, 1, 2, 3, 4], [1, 0, 4, 2, 3]]):
        batch = permute(as_batch(wanted), order)
        assert decoded.log_prob(batch, matched_places(decoded, batch)).item() > -0.001


def test_bare_graphs_are_matched_by_degrees(double):
    # Asymmetric: a triangle with tails of one and two nodes.
    wanted = graph(6, (0, 1), (1, 2), (0, 2), (0, 3), (1, 4), (4, 5))
    decoded = sure(wanted, torch.zeros(6).long())
    decoded.nodes = None
    for order in torch.tensor([[4, 2, 0, 3, 5, 1], [5, 0, 1, 4, 2, 3]]):
        batch = permute(as_batch(wanted), order)
        assert decoded.log_prob(batch, matched_places(decoded, batch)).item() > -0.001


def test_nodes_go_to_places_that_exist(double):
    existence = torch.tensor([[-8.0, -8, 8, 8]])
    decoded = PlacedGraphs(existence, torch.zeros(1, 6, 2), torch.zeros(1, 4, 2))
    pair = Data(x=torch.eye(2)[[0, 0]], edge_index=torch.tensor([[0, 1], [1, 0]]))
    assert sorted(matched_places(decoded, as_batch(pair)).tolist()) == [2, 3]


def test_beta_weighs_the_divergence(model):
    noise, q = torch.randn(3, 1), model.posterior(GRAPHS)
    expected = matching_bound(model, GRAPHS, 1.0, noise) - 1.5 * q.kl(model.prior(q.layout))
    torch.testing.assert_close(matching_bound(model, GRAPHS, 2.5, noise), expected)


def test_places_outnumber_nodes_and_graphs_without_edges_are_matched(double):
    model = places_vae(places=6)
    found = matching_bound(model, [graph(1), graph(3), graph(3, (0, 1))])
    assert bool(torch.isfinite(found).all())
    assert every_placement(as_batch(graph(3)), 6).shape == (120, 3)


def test_what_cannot_be_matched_is_refused(model):
    from graphvae.edges import InnerProduct

    with pytest.raises(ValueError, match="'model' must have a 'decoder'"):
        matching_bound(GraphVAE(model.prior, model.encoder, edges=InnerProduct(0.5)), GRAPHS)
    with pytest.raises(ValueError, match="'iterations' must be positive"):
        matching_bound(model, GRAPHS, iterations=0)
