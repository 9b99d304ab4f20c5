import pytest
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch_geometric.nn import GCN

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless
from graphvae.backbones import Nodewise
from graphvae.corruptions import GaussianNoise
from graphvae.denoisers import ScoreFeatures, Unchanged
from graphvae.edges import InnerProduct
from graphvae.encoders import PointEncoder
from graphvae.evaluation import scores
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures
from graphvae.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")
NOISE = 0.3


def mixture():
    roots = torch.tensor([[[0.6, 0.0], [0.3, 0.2]], [[0.3, 0.0], [-0.2, 0.5]], [[0.1, 0.0], [0.0, 0.9]]])
    places = torch.tensor([[-1.5, 0.0], [1.0, 1.2], [1.0, -1.2]])
    components = MultivariateNormal(places, scale_tril=roots)
    return MixtureSameFamily(Categorical(torch.tensor([0.5, 0.3, 0.2])), components)


def gradient(p, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(p.log_prob(x).sum(), x)[0]


def linear_denoiser(covariance, noise=NOISE):
    """The best denoiser of N(0, covariance): its network is the score -(C + σ²I)⁻¹ x."""
    network = nn.Linear(len(covariance), len(covariance), bias=False)
    network.weight.data = -torch.linalg.inv(covariance + noise**2 * torch.eye(len(covariance)))
    features = ScoreFeatures(network, len(covariance), noise)
    return GraphVAE(StandardNormal(len(covariance)), Unchanged(), features=features)


def test_mixture_score_is_the_gradient_of_the_log_density():
    p = mixture()
    x = 2 * torch.randn(50, 2)
    torch.testing.assert_close(scores.mixture_score(p, x), gradient(p, x))


def test_far_from_every_component_the_score_is_finite():
    x = torch.tensor([[300.0, -400.0]])
    found = scores.mixture_score(mixture(), x)
    assert found.isfinite().all()
    assert scores.empirical_score(torch.zeros(3, 2), x, 0.01).isfinite().all()


def test_noised_is_the_density_of_noisy_draws():
    """p_σ(x̃) = E over noise of p(x̃ - σε)."""
    p, x = mixture(), torch.randn(4, 2)
    draws = p.log_prob(x - NOISE * torch.randn(200_000, 1, 2)).exp()
    found = scores.noised(p, NOISE).log_prob(x).exp()
    assert ((found - draws.mean(0)).abs() < 4 * draws.std(0) / 200_000**0.5).all()


def test_empirical_score_is_that_of_the_mixture_of_the_points():
    points, x = torch.randn(40, 3), torch.randn(2500, 3)
    kernel = MultivariateNormal(points, NOISE**2 * torch.eye(3).expand(40, 3, 3))
    p = MixtureSameFamily(Categorical(logits=torch.zeros(40)), kernel)
    torch.testing.assert_close(scores.empirical_score(points, x, NOISE), scores.mixture_score(p, x))


def test_the_residual_of_the_posterior_mean_is_the_score_of_the_noisy_density():
    """Tweedie: E[x | x̃] - x̃ = σ² ∇ log p_σ(x̃), with the posterior mean by self-normalised draws from p."""
    p, noisy = mixture(), torch.tensor([[0.3, 0.2], [-1.0, 0.7], [1.4, -0.4]])
    draws = p.sample((400_000,))
    weights = (-0.5 * (noisy[:, None] - draws).square().sum(2) / NOISE**2).softmax(1)
    mean = weights @ draws
    variance = torch.einsum("nk,nkd->nd", weights.square(), (draws - mean[:, None]).square())
    score = scores.mixture_score(scores.noised(p, NOISE), noisy)
    assert ((mean - noisy - NOISE**2 * score).abs() < 4 * variance.sqrt()).all()
    wrong = scores.mixture_score(p, noisy)
    assert ((mean - noisy - NOISE**2 * wrong).abs() > 10 * variance.sqrt()).any(1).all()


def test_smallest_error_is_the_posterior_variance():
    """D σ² - σ⁴ E‖∇ log p_σ‖² = E‖x - r*(x̃)‖²."""
    clean = mixture().sample((100_000,))
    noisy = clean + NOISE * torch.randn_like(clean)
    score = scores.mixture_score(scores.noised(mixture(), NOISE), noisy)
    errors = (noisy + NOISE**2 * score - clean).square().sum(1)
    expected = 2 * NOISE**2 - NOISE**4 * score.square().sum(1)
    gap = errors - expected
    assert gap.mean().abs() < 4 * gap.std() / 100_000**0.5
    torch.testing.assert_close(scores.smallest_error(score, NOISE), expected.mean())


def test_linear_gaussian_case_in_closed_form():
    root = torch.randn(3, 3)
    covariance = root @ root.T
    total = covariance + NOISE**2 * torch.eye(3)
    model, x = linear_denoiser(covariance), torch.randn(20, 3)
    wiener = x @ torch.linalg.solve(total, covariance)
    torch.testing.assert_close(scores.denoised(model, edgeless(x)), wiener)
    exact = gradient(MultivariateNormal(torch.zeros(3), total), x)
    torch.testing.assert_close(scores.learned_score(model, edgeless(x), NOISE), exact)
    rows = MultivariateNormal(torch.zeros(3), total).sample((200_000,))
    smallest = covariance.trace() - torch.linalg.solve(total, covariance @ covariance).trace()
    spread = NOISE**4 * (rows @ torch.linalg.inv(total)).square().sum(1).std() / 200_000**0.5
    found = scores.smallest_error(scores.learned_score(model, edgeless(rows), NOISE), NOISE)
    assert abs(found - smallest) < 4 * spread


def test_both_parameterisations_have_a_score():
    """A direct autoencoder whose decoder is the Wiener filter has the same score as the residual one."""
    covariance = torch.tensor([[1.0, 0.4], [0.4, 0.5]])
    residual = linear_denoiser(covariance)
    encoder = PointEncoder(nn.Identity(), 2, 2)
    direct = GraphVAE(
        StandardNormal(2), encoder, features=GaussianFeatures(Nodewise(nn.Identity()), 2, 2, FixedScale(NOISE))
    )
    encoder.loc.weight.data, encoder.loc.bias.data = torch.eye(2), torch.zeros(2)
    total = covariance + NOISE**2 * torch.eye(2)
    direct.features.loc.weight.data = torch.linalg.solve(total, covariance).T
    direct.features.loc.bias.data.zero_()
    x = edgeless(torch.randn(30, 2))
    torch.testing.assert_close(
        scores.learned_score(direct, x, NOISE), scores.learned_score(residual, x, NOISE), rtol=1e-9, atol=1e-9
    )


def test_denoised_takes_features_outside_the_support_and_graphs_with_edges():
    graph = as_batch(random_graph(8, 0.4, seed=2))
    features = BernoulliFeatures(GCN(3, 6, 1), 6, 5)
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 6, 1), 6, 3), InnerProduct(0.3), features)
    before = graph.x.clone()
    z = model.encoder(graph.x, graph.edge_index).mean
    expected = model.features(z, graph.edge_index).mean
    torch.testing.assert_close(scores.denoised(model, graph), expected)
    assert torch.equal(graph.x, before)


def test_agreement_of_a_field_with_a_known_error():
    exact = torch.tensor([[1.0, 0.0], [0.0, 2.0], [2.0, 0.0], [1.0, 1.0]])
    found = exact + torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    result = scores.agreement(found, exact)
    assert result.relative_error == pytest.approx(3 / 11)
    torch.testing.assert_close(result.cosines, torch.tensor([0.5**0.5, 1.0, 1.0, 1.0]))
    assert result.median_cosine == pytest.approx(1.0)
    assert result.mean_cosine == pytest.approx((3 + 0.5**0.5) / 4)


def test_bad_arguments_are_refused():
    model = linear_denoiser(torch.eye(3))
    with pytest.raises(ValueError, match="'graphs' must have the model's 3 features, got 2"):
        scores.denoised(model, edgeless(torch.randn(4, 2)))
    with pytest.raises(ValueError, match="'noise' must be positive, got 0"):
        scores.learned_score(model, edgeless(torch.randn(4, 3)), 0)
    with pytest.raises(ValueError, match="'noise' must be positive, got -1"):
        scores.empirical_score(torch.randn(4, 3), torch.randn(4, 3), -1)
    with pytest.raises(ValueError, match=r"'found' must have the shape of 'exact', \(4, 3\), got \(4, 1\)"):
        scores.agreement(torch.randn(4, 1), torch.randn(4, 3))
    with pytest.raises(TypeError, match="'mixture' must be one mixture of MultivariateNormal"):
        scores.mixture_score(torch.distributions.Normal(0.0, 1.0), torch.randn(4, 1))
    model = GraphVAE(StandardNormal(3), Unchanged(), InnerProduct(0.5))
    with pytest.raises(ValueError, match="'model' must have a feature factor"):
        scores.denoised(model, GaussianNoise(0.3)(edgeless(torch.randn(4, 3))))
