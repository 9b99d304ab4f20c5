"""What runs on a GPU gives what it gives on a CPU; skipped without one."""

import copy

import pytest
import torch
from torch import nn
from torch_geometric.nn import GIN, RGCNConv
from torch_geometric.nn.aggr import SumAggregation

from conftest import random_graph, random_types
from graphvae import GraphVAE, as_batch, elbo, fit, importance_bound
from graphvae.backbones import GatedSum, GraphConvolution, Propagation, Stack
from graphvae.bounds import (
    Gradient,
    expected_elbo,
    image_bound,
    joint_bound,
    masked_elbo,
    matching_bound,
    permutation_bound,
)
from graphvae.decoders import DenseGraph
from graphvae.edges import DenseEdges, Estimated, HadamardMLP, InnerProduct
from graphvae.encoders import BernoulliEncoder, NormalEncoder
from graphvae.estimates import Clustered, Quadratic, SampledPairs
from graphvae.expectations import Enumeration, Relaxation, ScoreFunction
from graphvae.graphs import Selector
from graphvae.hierarchy import GraphLevelPrior, SharedMixture
from graphvae.masking import LinkBatches, MaskedGraphs
from graphvae.objectives import ValencePenalty, masked_edges, relaxed
from graphvae.orderings import BreadthFirst, Degree, DepthFirst, KCore, PlackettLuce, Spectral, Uniform
from graphvae.priors import BernoulliPrior, StandardNormal

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def _model():
    torch.manual_seed(0)
    backbone = Stack(GraphConvolution(5, 8), nn.ReLU(), Propagation())
    return GraphVAE(StandardNormal(3), NormalEncoder(backbone, 8, 3), InnerProduct(0.2))


@pytest.mark.parametrize("sizes", [(700,), (9, 5, 1, 30)])
def test_elbo_and_gradient(sizes):
    batch, noise = as_batch([random_graph(n, 0.1, seed=n) for n in sizes]), torch.randn(sum(sizes), 3)
    here, there = _model(), _model().cuda()
    values = elbo(here, batch, noise=noise), elbo(there, copy.copy(batch).to("cuda"), noise=noise.cuda())
    torch.testing.assert_close(values[0], values[1].cpu(), rtol=1e-4, atol=1e-3)
    for value in values:
        value.sum().backward()
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad.cpu(), rtol=1e-3, atol=1e-3)


def test_discrete_latents():
    batch = as_batch([random_graph(n, 0.5, seed=n) for n in (2, 1, 3)])
    torch.manual_seed(0)
    here = GraphVAE(BernoulliPrior(3), BernoulliEncoder(GraphConvolution(5, 8), 8, 3), InnerProduct(0.2))
    there = copy.deepcopy(here).cuda()
    exact = [expected_elbo(model, batch, Enumeration()) for model in (here, there)]
    torch.testing.assert_close(exact[0], exact[1].cpu(), rtol=1e-4, atol=1e-4)
    for value in (
        expected_elbo(there, batch, ScoreFunction(3)),
        importance_bound(there, batch, 3, gradient=Gradient.VIMCO),
        relaxed(there, batch, Relaxation(0.5)),
    ):
        there.zero_grad()
        value.sum().backward()
        assert there.encoder.logits.weight.grad.isfinite().all()


def test_sparse_features_and_selected_batches():
    graph = random_graph(60, 0.1, seed=1)
    dense = _model().cuda().posterior(copy.copy(graph).to("cuda")).mean
    graph.x = graph.x.to_sparse_csr()
    torch.testing.assert_close(_model().cuda().posterior(graph.to("cuda")).mean, dense, rtol=1e-4, atol=1e-5)
    whole = as_batch([random_graph(n, 0.3, seed=n) for n in (4, 9, 6)]).to("cuda")
    assert _model().cuda().posterior(Selector(whole)([2, 0])).mean.shape == (10, 3)


@pytest.mark.parametrize("estimator", [SampledPairs(500, control=Quadratic()), SampledPairs(500, 2, Clustered(8))])
def test_estimates(estimator):
    graph = random_graph(80, 0.1, seed=1).to("cuda")
    model = _model().cuda()
    model.edges = Estimated(model.edges, estimator.cuda())
    value = elbo(model, graph)
    value.sum().backward()
    assert value.isfinite().all()


def test_training_on_sampled_batches():
    graph = random_graph(80, 0.1, seed=1)
    assert fit(_model(), LinkBatches(graph, 40), masked_edges, epochs=2, progress=False).objective
    assert fit(_model(), MaskedGraphs(graph), masked_elbo, epochs=2, progress=False).objective


@pytest.mark.parametrize(
    "ordering",
    [Uniform(), Degree(True), KCore(), Spectral(), BreadthFirst(True), DepthFirst(), PlackettLuce(GIN(5, 8, 1), 8)],
)
def test_orderings_have_the_same_law_and_bounds_a_gradient(ordering):
    batch = as_batch([random_graph(n, 0.4, seed=n) for n in (4, 6, 5)])
    orders = ordering.sample(batch, 8)
    with torch.no_grad():
        here = ordering.log_prob(batch, orders)
        there, ordering = copy.copy(batch).to("cuda"), copy.deepcopy(ordering).cuda()
        torch.testing.assert_close(ordering.log_prob(there, orders.cuda()).cpu(), here, rtol=1e-4, atol=1e-4)
    encoder = NormalEncoder(GIN(5, 8, 1), 8, 2, pool=SumAggregation())
    model = GraphVAE(StandardNormal(2), encoder, DenseEdges(6, 2, 0.4), orderings=ordering).cuda()
    value = permutation_bound(model, there, model.orderings, 4, 3) + joint_bound(model, there, model.orderings, 4)
    value.sum().backward()
    with torch.no_grad():
        distinct = permutation_bound(model, there, model.orderings, 4, replace=False)
    for found in (value, distinct, image_bound(model, there, ordering.sample(there, 4))):
        assert found.isfinite().all()


def test_typed_graphs_at_places_are_matched_penalised_and_sampled():
    torch.manual_seed(0)
    graphs, columns = [random_graph(n, 0.5, seed=n) for n in (4, 3, 5)], 3
    for graph in graphs:
        graph.x = nn.functional.one_hot(torch.randint(columns, (graph.num_nodes,)), columns).float()
        graph.edge_type = random_types(graph, 2)
    batch = as_batch(graphs)
    encoder = NormalEncoder(RGCNConv(columns, 8, 2), 8, 3, pool=GatedSum(8, 8))
    here = GraphVAE(StandardNormal(3), encoder, decoder=DenseGraph(6, 3, 0.4, columns, 2))
    there, noise = copy.deepcopy(here).cuda(), torch.randn(3, 3)
    values = matching_bound(here, batch, noise=noise), matching_bound(there, batch, noise=noise.cuda())
    torch.testing.assert_close(values[0], values[1].cpu(), rtol=1e-3, atol=1e-3)
    ValencePenalty([2] * columns, (1, 2), 1.0)(there, batch).sum().backward()
    assert there.decoder.edges.weight.grad.isfinite().all()
    for settings in ({}, {"most_likely": True, "spanning": True}):
        assert there.sample(10, 0, **settings).edge_type.is_cuda


@pytest.mark.parametrize("make", [lambda: SharedMixture(3, 4, groups=2), lambda: GraphLevelPrior(3, 2)])
def test_priors_above_the_nodes(make):
    batch = as_batch([random_graph(n, 0.5, seed=n) for n in (4, 3)])
    torch.manual_seed(0)
    model = GraphVAE(make(), NormalEncoder(GraphConvolution(5, 8), 8, 3), HadamardMLP(3, 8, 0.2)).cuda()
    elbo(model, batch).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
