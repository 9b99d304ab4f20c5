import pytest
import torch
from torch_geometric.nn import GCN
from torch_geometric.nn.aggr import SumAggregation

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo
from graphvae.backbones import Nodewise
from graphvae.corruptions import GaussianNoise, MaskingNoise
from graphvae.edges import Bilinear, DenseEdges, InnerProduct
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures
from graphvae.layout import Layout
from graphvae.masking import LinkBatches
from graphvae.nonedges import NonEdges
from graphvae.objectives import denoising, kipf_welling, masked_edges, reconstruction
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


def _log_sigmoid(scores):
    return torch.nn.functional.logsigmoid(scores)


def test_masked_edges_scores_the_targets_on_the_graph_without_them():
    graph = random_graph(14, 0.4, seed=1)
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    batches = LinkBatches(graph, 6, (-1, -1, -1), negatives=2.0)
    for batch in batches.epoch(torch.Generator().manual_seed(0)):
        targets, non_edges = batch.n_id[batch.targets], batch.n_id[batch.non_edges]
        adjacency = torch.zeros(14, 14)
        adjacency[tuple(graph.edge_index)] = 1
        num_edges, num_pairs = int(adjacency.sum()) // 2, 14 * 13 // 2
        adjacency[tuple(torch.cat([targets, targets.flip(0)], 1))] = 0
        z = model.encoder(graph.x, adjacency.nonzero().T).mean
        scores = z @ z.T * model.edges.log_scale.exp() + model.edges.bias
        present = _log_sigmoid(scores[tuple(targets)]).mean() * num_edges
        absent = _log_sigmoid(-scores[tuple(non_edges)]).mean() * (num_pairs - num_edges)
        torch.testing.assert_close(masked_edges(model, batch), (present + absent)[None], rtol=1e-10, atol=0)


def _mean_and_error(values):
    values = torch.stack(values)
    return values.mean().item(), values.std().item() / len(values) ** 0.5


@torch.no_grad()
def test_masked_edges_is_unbiased_for_the_likelihood_where_the_encoder_sees_no_edges():
    """Then the message graph does not matter, and the sum over edges and non-edges is log p(A | z)."""
    for directed, edges in ((False, InnerProduct(0.3)), (True, Bilinear(3, 0.2))):
        graph = random_graph(12, 0.3, seed=2, directed=directed)
        model = GraphVAE(StandardNormal(3), PointEncoder(Nodewise(torch.nn.Linear(5, 8)), 8, 3), edges)
        expected = model.edges(model.posterior(graph).mean).log_prob(graph.edge_index).item()
        batches, generator = LinkBatches(graph, 5, (1,), 20.0, directed), torch.Generator().manual_seed(0)
        epochs = [
            torch.stack([masked_edges(model, batch)[0] for batch in batches.epoch(generator)]).mean() for _ in range(40)
        ]
        mean, error = _mean_and_error(epochs)
        assert abs(mean - expected) < 4 * error
        assert error < 0.03 * abs(expected)


@torch.no_grad()
def test_masked_edges_is_unbiased_for_edges_each_predicted_without_itself():
    graph = random_graph(9, 0.4, seed=3)
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    once = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    non_edges = NonEdges(graph.edge_index, Layout.single(9))
    absent = non_edges.at(torch.arange(non_edges.count))
    expected = 0.0
    for removed in once.T:
        kept = graph.edge_index[:, ~(graph.edge_index.sort(0).values == removed[:, None]).all(0)]
        p = model.edges(model.encoder(graph.x, kept).mean)
        expected += _log_sigmoid(p.logits(removed[:, None])).sum().item()
        expected += _log_sigmoid(-p.logits(absent)).sum().item() / once.size(1)
    batches, generator = LinkBatches(graph, 1, (-1, -1, -1), 50.0), torch.Generator().manual_seed(0)
    values = [
        torch.stack([masked_edges(model, batch)[0] for batch in batches.epoch(generator)]).mean() for _ in range(20)
    ]
    mean, error = _mean_and_error(values)
    assert abs(mean - expected) < 4 * error
    assert error < 0.03 * abs(expected)


def test_masked_edges_wants_link_batches_and_an_edge_factor():
    graph = random_graph(9, 0.4, seed=3)
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    with pytest.raises(ValueError, match=r"'graphs' be a batch of masking\.LinkBatches"):
        masked_edges(model, as_batch(graph))
    with pytest.raises(ValueError, match=r"LinkBatches\(\.\.\., directed=False\) for this model"):
        masked_edges(model, LinkBatches(graph, 5, directed=True).few())
    model.edges = None
    with pytest.raises(ValueError, match="'model' must have an edge factor"):
        masked_edges(model, LinkBatches(graph, 5).few())


def test_kipf_welling_refuses_a_decoder_without_scores_for_self_loops():
    encoder = NormalEncoder(GCN(5, 4, 1), 4, 2, pool=SumAggregation())
    model = GraphVAE(StandardNormal(2), encoder, DenseEdges(6, 2, 0.4))
    with pytest.raises(TypeError, match="must score self loops"):
        kipf_welling(model, random_graph(6, 0.4, seed=0))


def _mlp(*widths):
    return torch.nn.Sequential(torch.nn.Linear(widths[0], widths[1]), torch.nn.Tanh(), torch.nn.Linear(*widths[1:]))


def test_denoising_on_edgeless_graphs_is_the_vector_autoencoder_bitwise():
    encode, decode = _mlp(5, 8, 8), _mlp(3, 8, 8)
    features = GaussianFeatures(Nodewise(decode), 8, 5, FixedScale(0.3))
    model = GraphVAE(StandardNormal(3), PointEncoder(Nodewise(encode), 8, 3), features=features)
    x = torch.randn(20, 5)
    torch.manual_seed(1)
    found = denoising(model, edgeless(x), GaussianNoise(0.3))
    torch.manual_seed(1)
    z = model.encoder.loc(encode(x + 0.3 * torch.randn(20, 5)))
    expected = torch.distributions.Normal(features.loc(decode(z)), 0.3).log_prob(x).sum(1)
    assert torch.equal(found, expected)
    gradients = [
        torch.autograd.grad(value.sum(), [*encode.parameters(), *decode.parameters()]) for value in (found, expected)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_denoising_encodes_the_corrupted_and_scores_the_clean():
    batch = as_batch([random_graph(n, 0.4, seed=n) for n in (6, 1, 9)])
    batch.x = (batch.x > 0).double()
    features = BernoulliFeatures(GCN(3, 6, 1), 6, 5)
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3), features)
    torch.manual_seed(1)
    found = denoising(model, batch, GaussianNoise(0.5))
    torch.manual_seed(1)
    z = model.encoder(batch.x + 0.5 * torch.randn(16, 5), batch.edge_index).mean
    torch.testing.assert_close(found, model.log_likelihood(batch, z))


def test_denoising_with_a_density_is_the_elbo_with_the_corrupted_posterior():
    """With the posterior of the corrupted graph in place of that of the clean one it is an ELBO, KL and all."""
    batch = as_batch([random_graph(n, 0.4, seed=n) for n in (6, 1, 9)])
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    noise = torch.randn(16, 3)
    torch.testing.assert_close(
        denoising(model, batch, lambda graphs: graphs, noise=noise), elbo(model, batch, 1, noise)
    )
    torch.manual_seed(1)
    found = denoising(model, batch, MaskingNoise(0.5), beta=2.0, noise=noise)
    torch.manual_seed(1)
    q = model.posterior(MaskingNoise(0.5)(batch))
    expected = model.log_likelihood(batch, q.rsample(noise)) - 2 * q.kl(model.prior(q.layout))
    torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_denoising_with_a_density_is_below_the_likelihood():
    """Linear-Gaussian: x = z + 0.5 noise, so log p(x) is known; the encoder is the exact posterior of clean x."""
    features = GaussianFeatures(Nodewise(torch.nn.Identity()), 1, 1, FixedScale(0.5))
    model = GraphVAE(StandardNormal(1), NormalEncoder(Nodewise(torch.nn.Identity()), 1, 1), features=features)
    features.loc.weight.fill_(1.0), features.loc.bias.zero_()
    model.encoder.loc.weight.fill_(0.8)
    model.encoder.log_scale.weight.zero_(), model.encoder.log_scale.bias.fill_(0.5 * torch.tensor(0.2).log())
    x = torch.full((100_000, 1), 0.7)
    exact = torch.distributions.Normal(0.0, 1.25**0.5).log_prob(x[0])
    torch.testing.assert_close(elbo(model, edgeless(x)).mean(), exact[0], rtol=0, atol=0.02)
    values = denoising(model, edgeless(x), GaussianNoise(0.4))
    gap = (0.8 * 0.4) ** 2 / 2 / 0.2  # KL of N(m + 0.8 * 0.4 ε, 0.2) to N(m, 0.2), in expectation.
    assert abs(exact[0] - gap - values.mean()) < 4 * values.std() / len(x) ** 0.5
