from functools import partial

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch_geometric.nn import GCN

from graphvae import GraphVAE, edgeless, fit, load, save
from graphvae.corruptions import GaussianNoise
from graphvae.denoisers import ScoreFeatures, Unchanged
from graphvae.evaluation.scores import denoised
from graphvae.objectives import denoising
from graphvae.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")
NOISE = 0.3


def residual(network, features=5):
    return GraphVAE(StandardNormal(features), Unchanged(), features=ScoreFeatures(network, features, NOISE))


def test_the_objective_is_denoising_score_matching(batch):
    """log p = -½‖σ s(x̃) + ε‖² - (D/2) log 2πσ², per graph."""
    model = residual(GCN(5, 8, 2, 5))
    corruption = GaussianNoise(NOISE)
    torch.manual_seed(1)
    noisy = corruption(batch)
    torch.manual_seed(1)
    found = denoising(model, batch, corruption)
    eps = (noisy.x - batch.x) / NOISE
    loss = (NOISE * model.features.network(noisy.x, noisy.edge_index) + eps).square()
    constant = torch.log(torch.tensor(2 * torch.pi * NOISE**2))
    expected = -0.5 * batch.layout.sum(loss + constant)
    torch.testing.assert_close(found, expected)


def test_at_the_best_denoiser_the_gradient_vanishes_and_elsewhere_it_does_not():
    covariance = torch.tensor([[1.0, 0.5], [0.5, 0.4]])
    x = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).sample((100_000,))
    score = -torch.linalg.inv(covariance + NOISE**2 * torch.eye(2))
    wrong = -torch.linalg.inv(covariance)
    for weight, zero in ((score, True), (wrong, False)):
        network = nn.Linear(2, 2)
        network.weight.data, network.bias.data = weight.clone(), torch.zeros(2)
        model = residual(network, 2)
        gradients = torch.stack(
            [
                torch.autograd.grad(denoising(model, edgeless(part), GaussianNoise(NOISE)).mean(), network.weight)[0]
                for part in x.split(1000)
            ]
        )
        error = gradients.std(0) / len(gradients) ** 0.5
        assert bool((gradients.mean(0).abs() < 4 * error).all()) == zero


def test_a_fitted_linear_network_is_the_wiener_filter():
    covariance = torch.tensor([[1.0, 0.5], [0.5, 0.4]])
    x = torch.distributions.MultivariateNormal(torch.zeros(2), covariance).sample((5_000,))
    model = residual(nn.Linear(2, 2), 2)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    objective = partial(denoising, corruption=GaussianNoise(NOISE))
    settings = {"epochs": 200, "optimizer": optimizer, "scheduler": scheduler, "accelerator": Accelerator(cpu=True)}
    fit(model, edgeless(x), objective, **settings)
    empirical = x.T.cov(correction=0) + NOISE**2 * torch.eye(2)
    torch.testing.assert_close(model.features.network.weight.data, -torch.linalg.inv(empirical), rtol=0, atol=0.1)


def test_it_is_saved_and_loaded(tmp_path):
    torch.set_default_dtype(torch.float32)
    model = residual(nn.Sequential(nn.Linear(5, 8), nn.SiLU(), nn.Linear(8, 5)))
    save(model, tmp_path)
    again, x = load(tmp_path), edgeless(torch.randn(7, 5))
    assert torch.equal(denoised(again, x), denoised(model, x))
    assert again.features.noise == NOISE


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'noise' must be positive and finite, got 0"):
        ScoreFeatures(nn.Identity(), 2, 0)
    none = torch.empty(2, 0, dtype=torch.long)
    with pytest.raises(ValueError, match="'z' must have the 2 columns of 'features', got 3"):
        ScoreFeatures(nn.Identity(), 2, 1.0)(torch.randn(4, 3), none)
    with pytest.raises(ValueError, match="'network' must have the 2 columns of 'features', got 3"):
        ScoreFeatures(nn.Linear(2, 3), 2, 1.0)(torch.randn(4, 2), none)
