import dataclasses
import pickle

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal
from torch_geometric.nn import GCN
from torch_geometric.nn.aggr import SumAggregation

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo, fit
from graphvae.backbones import Nodewise
from graphvae.corruptions import GaussianNoise, MaskingNoise
from graphvae.distributions import PerGraph
from graphvae.edges import Bilinear, DenseEdges, InnerProduct
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures, LearnedScale
from graphvae.layout import Layout
from graphvae.masking import LinkBatches
from graphvae.nonedges import NonEdges
from graphvae.objectives import (
    WarmUp,
    denoising,
    fix_optimal_scale,
    free_bits,
    kipf_welling,
    masked_edges,
    optimal_scale,
    reconstruction,
)
from graphvae.priors import EmpiricalSizes, NormalMixture, StandardNormal

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


def gaussian_model(scale=None, latent=3, edges=True):
    """Latents of nodes, edges and Gaussian features, for graphs with 5 features."""
    features = GaussianFeatures(Nodewise(nn.Linear(latent, 8)), 8, 5, scale or FixedScale())
    encoder = NormalEncoder(GCN(5, 8, 1), 8, latent)
    sizes = EmpiricalSizes([6, 1, 9]) if edges else None
    return GraphVAE(StandardNormal(latent), encoder, InnerProduct(0.3) if edges else None, features, sizes)


def kl_by_dimension(q):
    return 0.5 * (q.mean**2 + q.stddev**2 - 1 - 2 * q.stddev.log())


@pytest.mark.parametrize("beta", [1.0, 2.5])
def test_free_bits_are_the_formula_and_at_most_the_elbo_on_average(beta, batch):
    model, noise = gaussian_model(), torch.randn(16, 3)
    q = model.posterior(batch)
    likelihood = model.log_likelihood(batch, q.rsample(noise))
    bound = elbo(model, batch, beta, noise)
    torch.testing.assert_close(free_bits(model, batch, 0.0, beta, noise), bound)
    previous = bound.mean()
    for nats in (0.1, 0.5, 2.0):
        found = free_bits(model, batch, nats, beta, noise)
        assert found.shape == (3,)
        per_dimension = kl_by_dimension(q).mean(0).clamp(min=nats)  # On average over nodes.
        torch.testing.assert_close(found.mean(), likelihood.mean() - beta * per_dimension.sum() * 16 / 3)
        assert found.mean() <= previous + 1e-12
        previous = found.mean()
    assert previous < bound.mean() - 1


def test_free_dimensions_cost_nothing_and_the_others_what_they_cost(batch):
    model, noise = gaussian_model(), torch.randn(16, 3)
    kl = kl_by_dimension(model.posterior(batch)).mean(0)
    nats = kl.sort().values[:2].mean().item()  # Between the first and the second of three dimensions.

    def gradients(objective, of):
        return torch.autograd.grad(objective.mean(), of, retain_graph=True)[0]

    heads = model.encoder.log_scale.weight
    paid = gradients(elbo(model, batch, 1.0, noise), heads)
    unpaid = gradients(elbo(model, batch, 0.0, noise), heads)
    found = gradients(free_bits(model, batch, nats, noise=noise), heads)
    expected = torch.where((kl > nats)[:, None], paid, unpaid)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, paid)


class Whole(nn.Module):
    """A prior whose KL divergence is one number for a whole row."""

    def forward(self, layout):
        return PerGraph(MultivariateNormal(torch.zeros(layout.num_rows, 3), torch.eye(3)), layout)


class WholeEncoder(NormalEncoder):
    def forward(self, x, edge_index, layout=None):
        q = super().forward(x, edge_index, layout)
        return PerGraph(MultivariateNormal(q.mean, torch.diag_embed(q.stddev**2)), layout)


def test_free_bits_want_independent_dimensions(batch):
    model = gaussian_model()
    with pytest.raises(ValueError, match="'nats' must not be negative, got -1"):
        free_bits(model, batch, -1)
    model.prior = NormalMixture(3, 2)
    with pytest.raises(TypeError, match="must have a closed KL divergence, there is none of Normal to"):
        free_bits(model, batch, 0.1)
    model.prior, model.encoder = Whole(), WholeEncoder(GCN(5, 8, 1), 8, 3)
    with pytest.raises(TypeError, match="dimensions are independent"):
        free_bits(model, batch, 0.1)
    model.encoder = PointEncoder(GCN(5, 8, 1), 8, 3)
    with pytest.raises(TypeError, match="a PointMass has no KL"):
        free_bits(model, batch, 0.1)


def test_warm_up_weighs_the_kl_by_the_epoch_alone(batch):
    model, noise = gaussian_model(), torch.randn(16, 3)
    warm_up = WarmUp(4)
    for epoch, beta in ((1, 0.25), (2, 0.5), (4, 1.0), (40, 1.0)):
        assert torch.equal(warm_up.at(epoch)(model, batch, noise=noise), elbo(model, batch, beta, noise))
    strong = WarmUp(4, optimal_scale, beta=3.0).at(2)
    assert torch.equal(strong(model, batch, noise=noise), optimal_scale(model, batch, 1.5, noise))
    assert pickle.loads(pickle.dumps(warm_up)) == warm_up
    with pytest.raises(dataclasses.FrozenInstanceError):
        warm_up.epochs = 3
    with pytest.raises(ValueError, match="'epochs' must be positive, got 0"):
        WarmUp(0)


def test_fit_warms_up():
    """With the whole KL at once, latents of noise are switched off; where they cost nothing they are used."""
    x, kl = torch.randn(60, 5), []
    for objective in (elbo, WarmUp(1000)):
        torch.manual_seed(0)
        encoder = NormalEncoder(Nodewise(nn.Linear(5, 8)), 8, 2)
        features = GaussianFeatures(Nodewise(nn.Linear(2, 8)), 8, 5, FixedScale(1.0))
        model = GraphVAE(StandardNormal(2), encoder, features=features)
        fit(model, x, objective, epochs=40, progress=False)
        q = model.posterior(edgeless(x))
        kl.append(q.kl(model.prior(q.layout)).mean())
    assert kl[1] > 3 * kl[0]


@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_the_optimal_scale_is_the_maximum_over_scales(beta, batch):
    model, noise = gaussian_model(), torch.randn(16, 3)
    found = optimal_scale(model, batch, beta, noise)
    z = model.posterior(batch).rsample(noise)
    error = (batch.x - model.features(z, batch.edge_index, batch.layout).mean).square().mean().sqrt().item()
    for factor in (0.5, 0.9, 0.99, 1.0, 1.01, 1.1, 2.0):
        model.features.scale.fill_(factor * error)
        at_scale = elbo(model, batch, beta, noise)
        assert at_scale.mean() <= found.mean() + 1e-12
        assert factor == 1.0 or at_scale.mean() < found.mean() - 1e-6
        if factor == 1.0:
            torch.testing.assert_close(at_scale, found)
            parameters = [p for p in model.parameters() if p.requires_grad]
            # At a maximum the gradient is that with the scale held fast.
            ours, theirs = (torch.autograd.grad(value.mean(), parameters) for value in (found, at_scale))
            torch.testing.assert_close(ours, theirs)
    textbook = -16 * 5 / 2 * (torch.tensor(2 * torch.pi * error**2).log() + 1)
    rest = model.edges(z, batch.layout).log_prob(batch.edge_index) + model.sizes().log_prob(batch.layout.sizes)
    q = model.posterior(batch)
    kl = q.kl(model.prior(q.layout))
    torch.testing.assert_close(found.sum(), textbook + (rest - beta * kl).sum())


def test_the_scale_of_a_data_set_is_written_into_the_model():
    x = torch.randn(500, 5)
    encoder = NormalEncoder(Nodewise(nn.Linear(5, 8)), 8, 2)
    model = GraphVAE(StandardNormal(2), encoder, features=gaussian_model(latent=2).features)
    nn.init.constant_(encoder.log_scale.bias, -30.0)  # Hardly any noise, so that the draw does not matter.
    nn.init.zeros_(encoder.log_scale.weight)
    scale = fix_optimal_scale(model, x, batch_size=64)
    loc = model.features(model.posterior(edgeless(x)).mean, torch.empty(2, 0).long()).mean
    assert scale == pytest.approx((x - loc).square().mean().sqrt().item(), rel=1e-3)
    assert model.features.scale.scale == pytest.approx(scale)
    assert fix_optimal_scale(model, edgeless(x)) == pytest.approx(scale, rel=1e-3)
    noise = torch.randn(500, 2)
    torch.testing.assert_close(
        elbo(model, edgeless(x), noise=noise).mean(), optimal_scale(model, edgeless(x), noise=noise).mean()
    )


def test_a_perfect_reconstruction_has_a_finite_optimum():
    model = gaussian_model(edges=False)
    nn.init.zeros_(model.features.loc.weight)
    nn.init.zeros_(model.features.loc.bias)
    value = optimal_scale(model, edgeless(torch.zeros(4, 5)))
    value.sum().backward()
    assert value.isfinite().all()
    assert model.features.loc.weight.grad.isfinite().all()


@pytest.mark.parametrize("use", [optimal_scale, fix_optimal_scale])
def test_a_scale_that_is_not_fixed_is_refused(use, batch):
    with pytest.raises(TypeError, match=r"scale=FixedScale\(\)\) for the best scale, got LearnedScale"):
        use(gaussian_model(LearnedScale()), batch)
    model = gaussian_model()
    model.features = BernoulliFeatures(Nodewise(nn.Linear(3, 8)), 8, 5)
    with pytest.raises(TypeError, match="for the best scale, got BernoulliFeatures"):
        use(model, batch)


def test_kipf_welling_takes_a_prior_without_a_closed_kl(batch):
    model, noise = gaussian_model(), torch.randn(16, 3)
    plain = kipf_welling(model, batch, noise)
    q = model.posterior(batch)
    z, sizes = q.rsample(noise), batch.layout.sizes
    with_kl = plain + q.kl(model.prior(q.layout)) / sizes**2
    model.prior = NormalMixture(3, 2)
    expected = with_kl - (q.log_prob(z) - model.prior(q.layout).log_prob(z)) / sizes**2
    torch.testing.assert_close(kipf_welling(model, batch, noise), expected)


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
