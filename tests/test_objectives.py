import pytest
import torch
from torch_geometric.nn import GCN

from conftest import random_graph
from graphvae import GraphVAE, as_batch
from graphvae.edges import Bilinear, InnerProduct
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.objectives import kipf_welling, reconstruction
from graphvae.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")


def published_loss(logits, adjacency, mean, log_std):
    """The authors' dense loss, as their code computes it, on one graph."""
    nodes = len(adjacency)
    ones = adjacency.sum()
    weight = (nodes**2 - ones) / ones
    norm = nodes**2 / ((nodes**2 - ones) * 2)
    labels = adjacency + torch.eye(nodes)
    cost = norm * torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight)
    kl = (0.5 / nodes) * (1 + 2 * log_std - mean**2 - (2 * log_std).exp()).sum(1).mean()
    return cost - kl


@pytest.mark.parametrize("sizes", [[12], [12, 5, 2]])
def test_kipf_welling_is_the_published_loss(sizes):
    graphs = [random_graph(n, 0.7, seed=n) for n in sizes]
    batch = as_batch(graphs)
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.5))
    noise = torch.randn(sum(sizes), 3)
    found = kipf_welling(model, batch, noise)
    for k, (graph, eps) in enumerate(zip(graphs, noise.split(sizes), strict=True)):
        q = model.encoder(graph.x, graph.edge_index)
        z = q.mean + q.stddev * eps
        adjacency = torch.zeros(sizes[k], sizes[k])
        adjacency[tuple(graph.edge_index)] = 1
        expected = -published_loss(z @ z.T, adjacency, q.mean, q.stddev.log())
        torch.testing.assert_close(found[k], expected, rtol=1e-12, atol=1e-12)


def test_the_plain_autoencoder_has_no_kl_term():
    graph = as_batch(random_graph(12, 0.3, seed=1))
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.5))
    z = model.posterior(graph).mean
    adjacency = torch.zeros(12, 12)
    adjacency[tuple(graph.edge_index)] = 1
    nothing = published_loss(z @ z.T, adjacency, torch.zeros(12, 1), torch.zeros(12, 1))
    torch.testing.assert_close(kipf_welling(model, graph)[0], -nothing)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_kipf_welling_is_finite_on_empty_and_complete_graphs(probability):
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.5))
    value = kipf_welling(model, [random_graph(n, probability, seed=1) for n in (1, 4)])
    value.sum().backward()
    assert value.isfinite().all()
    assert model.encoder.loc.weight.grad.isfinite().all()


def test_kipf_welling_refuses_directed_edges():
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), Bilinear(3, 0.2))
    with pytest.raises(ValueError, match="'model' must have an undirected edge factor"):
        kipf_welling(model, random_graph(5, 0.5, seed=0))


def test_reconstruction_is_the_likelihood_at_the_mean():
    graph = as_batch(random_graph(12, 0.3, seed=1))
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    expected = model.edges(model.posterior(graph).mean).log_prob(graph.edge_index)
    torch.testing.assert_close(reconstruction(model, graph), expected)
