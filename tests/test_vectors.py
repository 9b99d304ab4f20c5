"""Measurements of models of vectors, against closed forms and on the digits of scikit-learn."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from sklearn.datasets import load_digits
from torch import nn
from torch.distributions import MultivariateNormal

from graphvae import GraphVAE, edgeless, elbo, fit
from graphvae.backbones import Nodewise
from graphvae.edges import InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.evaluation.inference import inference_gaps
from graphvae.evaluation.vectors import (
    active_units,
    frechet_distance,
    kl_split,
    knn_purity,
    psnr,
    reconstructions,
    sample_means,
    squared_error,
)
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures
from graphvae.objectives import reconstruction
from graphvae.priors import NormalMixture, StandardNormal

WEIGHT = torch.tensor([[1.0, 0.5], [0.2, 1.0], [0.7, 0.1], [0.0, -0.4]], dtype=torch.double)


def linear_gaussian(prior=None):
    """p(x | z) = N(Wz, 0.8² I), and the encoder with the best means and the best independent scales."""
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 4, FixedScale(0.8))
    encoder = NormalEncoder(Nodewise(nn.Identity()), 4, 2)
    model = GraphVAE(prior or StandardNormal(2), encoder, features=features)
    precision = torch.eye(2) + WEIGHT.T @ WEIGHT / 0.64
    features.loc.weight.data, features.loc.bias.data = WEIGHT.clone(), torch.zeros(4)
    encoder.loc.weight.data = precision.inverse() @ WEIGHT.T / 0.64
    nn.init.zeros_(encoder.log_scale.weight)
    encoder.log_scale.bias.data = -0.5 * precision.diagonal().log()
    log_likelihood = MultivariateNormal(torch.zeros(4), WEIGHT @ WEIGHT.T + 0.64 * torch.eye(4)).log_prob
    gap = 0.5 * (precision.diagonal().log().sum() - precision.logdet()).item()
    return model, log_likelihood, gap


def test_reconstructions_and_their_squared_error(double):
    model, _, _ = linear_gaussian()
    x = torch.randn(50, 4)
    expected = model.encoder.loc(x) @ WEIGHT.T
    torch.testing.assert_close(reconstructions(model, x, batch_size=7), expected.detach())
    error = ((x - expected) ** 2).sum(1).detach()
    torch.testing.assert_close(squared_error(model, x, batch_size=7), error)
    model.encoder = PointEncoder(Nodewise(nn.Identity()), 4, 2)
    assert squared_error(model, x).shape == (50,)
    model.features, model.edges = None, InnerProduct(0.5)
    with pytest.raises(ValueError, match="'model' must have a feature factor"):
        reconstructions(model, x)
    with pytest.raises(ValueError, match="'batch_size' must be positive, got 0"):
        squared_error(model, x, batch_size=0)


def test_psnr_is_the_textbook_one(double):
    clean = torch.zeros(2, 4)
    found = torch.tensor([[0.1] * 4, [0.2, 0, 0, 0]])
    torch.testing.assert_close(psnr(found, clean), torch.tensor([20.0, 20.0]))
    torch.testing.assert_close(psnr(255 * found, clean, peak=255.0), torch.tensor([20.0, 20.0]))


def test_the_frechet_distance_is_that_of_two_normals(double):
    first, second = torch.randn(400, 3) @ torch.randn(3, 3), 2 * torch.randn(300, 3) + 1
    ours, theirs = np.cov(first.numpy().T), np.cov(second.numpy().T)
    means = np.square(first.numpy().mean(0) - second.numpy().mean(0)).sum()
    expected = means + np.trace(ours + theirs - 2 * sqrtm(ours @ theirs).real)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-8)
    turned = torch.linalg.qr(torch.randn(3, 3)).Q
    assert frechet_distance(first @ turned, second @ turned) == pytest.approx(expected, rel=1e-8)
    # On the first principal component alone it is that of the projections.
    direction = torch.linalg.svd(second - second.mean(0)).Vh[0]
    a, b = first @ direction, second @ direction
    one = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert frechet_distance(first, second, components=1) == pytest.approx(one.item(), rel=1e-8)


def test_purity_of_neighbours():
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    labels = torch.arange(3).repeat(40)
    latents = centres[labels] + torch.randn(120, 2)
    assert knn_purity(latents, labels) == 1
    shuffled = knn_purity(latents, labels[torch.randperm(120)])
    assert shuffled == pytest.approx(1 / 3, abs=0.1)
    # A row is not its own neighbour: of two rows of different classes, neither is pure.
    assert knn_purity(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]), neighbors=1) == 0
    with pytest.raises(ValueError, match="'neighbors' must be fewer than the other 119 rows, got 120"):
        knn_purity(latents, labels, neighbors=120)


def test_samples_without_their_noise(double):
    model, _, _ = linear_gaussian()
    found = sample_means(model, 20_000, torch.Generator().manual_seed(0))
    assert torch.equal(found, sample_means(model, 20_000, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(found.T.cov(), WEIGHT @ WEIGHT.T, rtol=0, atol=0.06)


def test_active_units_are_those_that_vary_with_x(double):
    model, _, _ = linear_gaussian()
    x = torch.randn(500, 4)
    model.encoder.loc.weight.data = torch.diag(torch.tensor([1.0, 0.05])) @ torch.eye(2, 4)
    model.encoder.loc.bias.data = torch.tensor([0.0, 9.0])  # A unit that is on, and says nothing.
    assert active_units(model, x, batch_size=100).tolist() == [True, False]
    assert active_units(model, x, threshold=1e-4).tolist() == [True, True]
    assert active_units(model, x, threshold=2.0).tolist() == [False, False]


def test_the_parts_of_the_kl_are_those_of_the_closed_form(double):
    """Where x and z are jointly normal, q(z) is too: information and KL to the prior are known."""
    model, _, _ = linear_gaussian()
    x = torch.randn(2500, 4)
    means = model.encoder.loc(x).detach()
    variance = (2 * model.encoder.log_scale.bias.detach()).exp()
    covariance = means.T.cov(correction=0) + torch.diag(variance)
    information = 0.5 * (covariance.logdet() - variance.log().sum()).item()
    marginal = MultivariateNormal(means.mean(0), covariance)
    aggregate = torch.distributions.kl_divergence(marginal, MultivariateNormal(torch.zeros(2), torch.eye(2))).item()
    found = kl_split(model, x, torch.Generator().manual_seed(0))
    q = model.posterior(edgeless(x))
    assert found.total == pytest.approx(q.kl(model.prior(q.layout)).mean().item())
    assert found.total == pytest.approx(found.mutual_information + found.aggregate)
    assert found.mutual_information == pytest.approx(information, abs=0.06)
    assert found.aggregate == pytest.approx(aggregate, abs=0.06)
    assert found.aggregate > 0.05


def test_the_parts_of_the_kl_do_not_depend_on_chunks_and_take_any_prior(double, monkeypatch):
    model, _, _ = linear_gaussian(NormalMixture(2, 3))
    x = torch.randn(60, 4)
    found = kl_split(model, x, torch.Generator().manual_seed(0))
    monkeypatch.setattr("graphvae.evaluation.vectors._NUMBERS", 1000)
    again = kl_split(model, x, torch.Generator().manual_seed(0), batch_size=7)
    assert again == pytest.approx(found)
    # Posteriors far from one another say which row it is: log N nats, and no more.
    model.encoder.loc.weight.data.mul_(1e4)
    assert kl_split(model, x).mutual_information == pytest.approx(math.log(60))
    model.encoder = PointEncoder(Nodewise(nn.Identity()), 4, 2)
    with pytest.raises(TypeError, match="'q' must be of normal latents, as of NormalEncoder, got PointMass"):
        kl_split(model, x)


def test_gaps_of_the_best_encoder_are_the_closed_forms(double):
    """Nothing is lost by amortisation, and what independent normals lose is known."""
    model, log_likelihood, gap = linear_gaussian()
    x = torch.randn(40, 4)
    found = inference_gaps(model, x, steps=100, draws=200, particles=2000, batch_size=16)
    assert found.amortised.shape == (40,)
    assert (found.amortisation >= 0).all()
    assert found.amortisation.mean() < 0.02
    exact = log_likelihood(x)
    assert ((found.log_likelihood - exact).abs() < 5 * found.standard_error + 1e-3).all()
    deviations = (found.log_likelihood - exact) / found.standard_error
    assert 0.7 < deviations.std() < 1.3  # The standard errors are what they say.
    draws = torch.stack([elbo(model, edgeless(x)) for _ in range(200)])
    error = draws.std(0).mean() / (200 * 40) ** 0.5
    assert abs(found.approximation.mean() - gap) < 4 * error
    assert gap > 0.05


def test_free_posteriors_win_back_what_a_poor_encoder_loses(double):
    model, log_likelihood, gap = linear_gaussian()
    nn.init.normal_(model.encoder.loc.weight, std=0.3)
    model.encoder.log_scale.bias.data += 0.4
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(40, 4)
    state = torch.get_rng_state()
    found = inference_gaps(model, x, steps=400, generator=torch.Generator().manual_seed(0))
    again = inference_gaps(model, x, steps=400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found.free, again.free)
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.free >= found.amortised).all()
    assert found.amortisation.mean() > 0.3
    assert (log_likelihood(x) - found.free).mean().item() == pytest.approx(gap, abs=0.06)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_gaps_with_a_mixture_prior(double):
    model, _, _ = linear_gaussian(NormalMixture(2, 3))
    found = inference_gaps(model, torch.randn(10, 4), steps=200)
    assert (found.amortisation >= 0).all()
    assert (found.approximation > -5 * found.standard_error - 0.3).all()


def test_a_free_posterior_starts_at_the_given_one(double):
    model, _, _ = linear_gaussian()
    x = edgeless(torch.randn(9, 4).float().double())
    q = model.posterior(x)
    free = FreeNormal.of(q)
    noise = torch.randn(9, 2)
    alone = GraphVAE(model.prior, free, features=model.features)
    torch.testing.assert_close(elbo(alone, x, noise=noise), elbo(model, x, noise=noise))
    free.loc.data += 1
    torch.testing.assert_close(model.posterior(x).mean, q.mean)
    assert FreeNormal.of(model.float().posterior(edgeless(x.x.float()))).loc.dtype == torch.float32
    with pytest.raises(TypeError, match="'q' must be of normal latents, as of NormalEncoder, got PointMass"):
        FreeNormal.of(PointEncoder(Nodewise(nn.Identity()), 4, 2).double()(x.x, x.edge_index, x.layout))


def digits_model(kind, latent):
    encoder = kind(Nodewise(nn.Sequential(nn.Linear(64, 64), nn.SiLU())), 64, latent)
    decoder = Nodewise(nn.Sequential(nn.Linear(latent, 64), nn.SiLU()))
    return GraphVAE(StandardNormal(latent), encoder, features=BernoulliFeatures(decoder, 64, 64, intensities=True))


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.data))
    x, y = torch.from_numpy(data.data[order] / 16).float(), torch.from_numpy(data.target[order])
    return x[:1400], x[1400:], y[:1400]


def test_samples_of_a_vae_are_nearer_to_the_data_than_those_of_an_autoencoder(digits):
    train, held_out, _ = digits
    for seed in range(3):
        distances = []
        for kind, objective in ((NormalEncoder, elbo), (PointEncoder, reconstruction)):
            torch.manual_seed(seed)
            model = digits_model(kind, 8)
            fit(model, train, objective, epochs=10, seed=seed, progress=False)
            samples = sample_means(model, 1000, torch.Generator().manual_seed(seed))
            distances.append(frechet_distance(samples, held_out))
        assert distances[0] < 0.7 * distances[1]


def test_latents_of_digits(digits):
    """V15 of the theory: classes in two dimensions, and an aggregated posterior like the prior."""
    train, held_out, labels = digits
    torch.manual_seed(0)
    model = digits_model(NormalEncoder, 2)
    fit(model, train, epochs=60, progress=False)
    q = model.posterior(edgeless(train))
    assert knn_purity(q.mean, labels) > 0.6
    z = q.sample(torch.Generator().manual_seed(0))
    assert z.mean(0).abs().max() < 0.25
    assert ((z.var(0) > 0.6) & (z.var(0) < 1.5)).all()
    assert active_units(model, held_out).all()
    split = kl_split(model, train)
    assert 0 < split.aggregate < 0.3 * split.mutual_information < split.mutual_information < math.log(len(train))
    gaps = inference_gaps(model, held_out[:50], steps=300, particles=500)
    assert (gaps.amortisation >= 0).all()
    assert gaps.amortisation.mean() > 0.1
    assert gaps.approximation.mean() > 0
    mean_image = train.mean(0).expand_as(held_out)
    assert squared_error(model, held_out).mean() < 0.8 * (held_out - mean_image).square().sum(1).mean()
