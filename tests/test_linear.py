import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import nn

from graphvae import GraphVAE, edgeless, elbo, importance_bound
from graphvae.encoders import PointEncoder
from graphvae.features import FixedScale, GaussianFeatures, LearnedScale, NodeScale
from graphvae.linear import (
    NestedDropout,
    NonUniformL2,
    RotationAugmented,
    UniformL2,
    analytic_elbo,
    centred,
    compressed,
    decoder_columns,
    diagonal_gap,
    exact_pca,
    linear_autoencoder,
    linear_vae,
    log_marginal,
    principal_components,
    probabilistic_pca,
    set_best_posterior,
)
from graphvae.objectives import reconstruction
from graphvae.priors import StandardNormal
from graphvae.recipes.principal_components import fit_linear

pytestmark = pytest.mark.usefixtures("double")

LATENT = 3


@pytest.fixture
def x():
    """300 rows of 8 features with well separated variances along random directions, around a mean of 0."""
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    scales = torch.tensor([2.0, 1.5, 1.1, 0.6, 0.5, 0.4, 0.3, 0.2])
    return centred(torch.randn(300, 8) * scales @ rotation)[0]


@pytest.fixture
def model():
    return linear_autoencoder(8, LATENT)


def weights(model):
    return model.encoder.loc.weight, model.features.loc.weight


def angle(found, exact):
    return float(subspace_angles(found.T.numpy(), exact.T.numpy()).max())


def cosines(found, exact):
    return (found * exact).sum(1).abs()


def left_out(x, latent):
    return float(exact_pca(x, x.size(1)).variances[latent:].sum())


def objectives(x):
    return {
        "reconstruction": reconstruction,
        "uniform": UniformL2.scaled_to(x, LATENT),
        "non-uniform": NonUniformL2.scaled_to(x, LATENT),
        "nested dropout": NestedDropout(),
        "nested dropout, geometric": NestedDropout((4 / 7, 2 / 7, 1 / 7)),
        "rotation-augmented": RotationAugmented.scaled_to(x, LATENT),
    }


# What is computed


def test_reconstruction_is_the_squared_error(model, x):
    encoding, decoding = weights(model)
    plain = -(x - x @ encoding.T @ decoding.T).square().sum(1) - 4 * math.log(math.pi)
    torch.testing.assert_close(reconstruction(model, edgeless(x)), plain)


def test_penalties(model, x):
    encoding, decoding = weights(model)
    error = (x - x @ encoding.T @ decoding.T).square().sum(1)
    lengths = torch.stack([encoding[i].square().sum() + decoding[:, i].square().sum() for i in range(LATENT)])
    torch.testing.assert_close(UniformL2(0.3)(model, edgeless(x)), -error - 0.3 * lengths.sum())
    weighted = 0.1 * lengths[0] + 0.2 * lengths[1] + 0.4 * lengths[2]
    torch.testing.assert_close(NonUniformL2((0.1, 0.2, 0.4))(model, edgeless(x)), -error - weighted)
    torch.testing.assert_close(RotationAugmented(0.3)(model, edgeless(x)), -error - 0.3 * lengths.sum())


@pytest.mark.parametrize("keep", [None, (0.2, 0.5, 0.3)])
def test_nested_dropout_is_the_expectation_over_truncations(model, x, keep):
    encoding, decoding = weights(model)
    with torch.no_grad():
        model.features.loc.bias.normal_()
    plain = torch.zeros(len(x))
    for b, chance in enumerate(keep or [1 / 3] * 3, 1):
        found = x @ encoding[:b].T @ decoding[:, :b].T + model.features.loc.bias
        plain = plain - chance * (x - found).square().sum(1)
    torch.testing.assert_close(NestedDropout(keep)(model, edgeless(x)), plain)


def test_rotation_augments_the_gradient_and_keeps_the_product(model, x):
    """The extra gradient is ΓV and UΓᵀ; to first order it leaves UV, and so the error, as it is."""
    encoding, decoding = weights(model)
    penalty = UniformL2(0.3)(model, edgeless(x)).mean()
    augmented = RotationAugmented(0.3)(model, edgeless(x)).mean()
    plain = torch.autograd.grad(penalty, weights(model))
    extra = [a - b for a, b in zip(torch.autograd.grad(augmented, weights(model)), plain, strict=True)]
    codes = x @ encoding.T
    covariance = codes.T @ codes / len(x)
    rotation = torch.zeros(LATENT, LATENT)
    for i in range(LATENT):
        for j in range(i + 1, LATENT):
            rotation[i, j], rotation[j, i] = covariance[i, j] / 2, -covariance[i, j] / 2
    torch.testing.assert_close(extra[0], rotation @ encoding)
    torch.testing.assert_close(extra[1], decoding @ rotation.T)
    assert extra[0].norm() > 1e-2
    torch.testing.assert_close(extra[1] @ encoding + decoding @ extra[0], torch.zeros(8, 8), rtol=0, atol=1e-12)


def test_the_gradient_of_squared_error_is_that_of_the_derivation(model, x):
    """∂V: UᵀUVC = UᵀC and ∂U: UVCVᵀ = CVᵀ at a stationary point, so their differences are half the gradient."""
    encoding, decoding = weights(model)
    c = x.T @ x / len(x)
    found = torch.autograd.grad(-reconstruction(model, edgeless(x)).mean() / 2, (encoding, decoding))
    torch.testing.assert_close(found[0], decoding.T @ (decoding @ encoding @ c - c))
    torch.testing.assert_close(found[1], (decoding @ encoding @ c - c) @ encoding.T)


def test_other_bases_are_as_good_for_squared_error_only(model, x):
    values = {name: objective(model, edgeless(x)).mean() for name, objective in objectives(x).items()}
    encoding, decoding = weights(model)
    mixing = torch.randn(LATENT, LATENT) + 2 * torch.eye(LATENT)
    with torch.no_grad():
        encoding.copy_(mixing @ encoding)
        decoding.copy_(decoding @ mixing.inverse())
    for name, objective in objectives(x).items():
        changed = abs(objective(model, edgeless(x)).mean() / values[name] - 1)
        assert changed < 1e-10 if name == "reconstruction" else changed > 1e-4, name


# Compressed data


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_compressed_rows_have_mean_and_covariance(x, shift):
    x = x + shift
    rows = compressed(x)
    assert rows.shape == (9, 8)
    torch.testing.assert_close(rows.mean(0), x.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.cov(rows.T, correction=0), torch.cov(x.T, correction=0), rtol=0, atol=1e-12)
    short = torch.randn(9, 8)
    assert compressed(short) is short


def test_compressed_rows_of_degenerate_data():
    digits = torch.tensor(load_digits().data)
    rows = compressed(digits)
    assert rows.shape == (65, 64)
    torch.testing.assert_close(torch.cov(rows.T, correction=0), torch.cov(digits.T, correction=0))


def test_objectives_are_the_same_on_compressed_rows(model, x):
    """Values and gradients, with biases too."""
    x = x + 0.5
    with torch.no_grad():
        model.features.loc.bias.normal_()
        model.encoder.loc.bias.normal_()
    model.requires_grad_()
    for objective in objectives(x).values():
        values = [objective(model, edgeless(rows)).mean() for rows in (x, compressed(x))]
        torch.testing.assert_close(values[0], values[1], rtol=1e-10, atol=1e-10)
        gradients = [torch.cat([g.flatten() for g in torch.autograd.grad(v, model.parameters())]) for v in values]
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-10)


def test_the_elbo_is_the_same_on_compressed_rows(x):
    model = random_vae()
    full, few = (analytic_elbo(model, edgeless(rows)).mean() for rows in (x, compressed(x)))
    torch.testing.assert_close(full, few, rtol=1e-10, atol=1e-10)


# Components


def test_exact_pca_is_that_of_scikit_learn(x):
    reference = PCA(LATENT).fit((x + 2).numpy())
    found = exact_pca(x + 2, LATENT)
    torch.testing.assert_close(cosines(found.directions, torch.from_numpy(reference.components_)), torch.ones(LATENT))
    variances = torch.from_numpy(reference.explained_variance_) * (len(x) - 1) / len(x)
    torch.testing.assert_close(found.variances, variances)


def test_pythagoras_of_centred_data_and_an_orthogonal_projection(x):
    directions = exact_pca(x, LATENT).directions
    projected = x @ directions.T @ directions
    parts = projected.square().sum() + (x - projected).square().sum()
    torch.testing.assert_close(parts, x.square().sum(), rtol=1e-10, atol=0)


def test_principal_components_of_any_basis(model, x):
    """An optimum in a random basis: data bring the components out, the decoder alone does not."""
    exact = exact_pca(x, LATENT)
    mixing = torch.randn(LATENT, LATENT) + 2 * torch.eye(LATENT)
    with torch.no_grad():
        weights(model)[0].copy_(mixing @ exact.directions)
        weights(model)[1].copy_(exact.directions.T @ mixing.inverse())
    found = principal_components(model, x)
    torch.testing.assert_close(cosines(found.directions, exact.directions), torch.ones(LATENT))
    torch.testing.assert_close(found.variances, exact.variances)
    assert principal_components(model).variances is None
    assert cosines(principal_components(model).directions, exact.directions).min() < 0.9
    assert cosines(decoder_columns(model), exact.directions).min() < 0.9


def train(model, x, objective=reconstruction, learning_rate=0.03):
    fit_linear(model, x, objective, epochs=1000, learning_rate=learning_rate, progress=False)


@pytest.mark.parametrize("name", ["uniform", "non-uniform", "nested dropout", "rotation-augmented"])
def test_regularised_objectives_recover_components_in_order(model, x, name):
    exact = exact_pca(x, LATENT)
    train(model, x, objectives(x)[name], 0.01 if name == "rotation-augmented" else 0.03)
    found = principal_components(model).directions if name == "uniform" else decoder_columns(model)
    assert cosines(found, exact.directions).min() > 0.999
    assert cosines(principal_components(model, x).directions, exact.directions).min() > 0.9999


def test_the_plain_autoencoder_finds_the_space_and_not_the_components(model, x):
    exact = exact_pca(x, LATENT)
    train(model, x)
    encoding, decoding = weights(model)
    assert angle(decoder_columns(model), exact.directions) < 1e-3
    least = left_out(x, LATENT)
    error = -(reconstruction(model, edgeless(x)).mean() + 4 * math.log(math.pi))
    assert -1e-9 < error / least - 1 < 1e-5
    projection = exact.directions.T @ exact.directions
    torch.testing.assert_close(x @ encoding.T @ decoding.T, x @ projection, rtol=0, atol=1e-3)
    assert cosines(decoder_columns(model), exact.directions).min() < 0.9
    assert not model.features.loc.bias.any()
    assert not model.encoder.loc.bias.any()


def test_shrinkage(model, x):
    """Minima have the lengths of the derivation: (1 - λ/σ²)^½ for a penalty, a product of 1 for nested dropout."""
    variances = exact_pca(x, LATENT).variances
    penalties = NonUniformL2.scaled_to(x, LATENT)
    train(model, x, penalties)
    expected = (1 - torch.tensor(penalties.penalties) / variances).sqrt()
    for lengths in (weights(model)[0].norm(dim=1), weights(model)[1].norm(dim=0)):
        torch.testing.assert_close(lengths, expected, rtol=1e-3, atol=0)
    model = linear_autoencoder(8, LATENT)
    train(model, x, NestedDropout())
    directions = exact_pca(x, LATENT).directions
    torch.testing.assert_close(weights(model)[1] @ weights(model)[0], directions.T @ directions, rtol=0, atol=1e-3)


def test_fewer_codes_lose_at_least_the_variances_left_out(x):
    for _ in range(20):
        model = linear_autoencoder(8, LATENT)
        with torch.no_grad():
            model.features.loc.weight.copy_(torch.linalg.pinv(model.encoder.loc.weight))
        assert (x - model.features.loc(model.encoder.loc(x))).square().sum(1).mean() > left_out(x, LATENT)


def test_as_many_codes_as_features_copy(x):
    model = linear_autoencoder(8, 8)
    train(model, x)
    assert (x - model.features.loc(model.encoder.loc(x))).square().sum(1).mean() < 1e-7


def test_training_on_compressed_rows_is_training_on_all(x):
    """Step for step: the first 20 weights agree."""
    from torch.optim import SGD

    from graphvae import fit

    found = []
    for rows in (x, compressed(x)):
        torch.manual_seed(1)
        model = linear_autoencoder(8, LATENT)
        fit(model, edgeless(rows), NestedDropout(), epochs=20, optimizer=SGD(model.parameters(), 0.01))
        found.append(weights(model)[1].detach())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-12)


# Penalties


def test_default_penalties_make_exchanges_cost_the_same(x):
    variances = exact_pca(x, 5).variances
    penalties = torch.tensor(NonUniformL2.scaled_to(x, 5).penalties)
    assert (penalties.diff() > 0).all()
    assert 0 < penalties[0] < penalties[-1] < variances[-1]
    costs = penalties.square().diff() * (1 / variances).diff()
    torch.testing.assert_close(costs, costs[0].expand(4))


def test_the_cost_of_an_exchange_is_that_of_the_docstring(x):
    """By the loss at the stationary point with two components exchanged."""
    exact = exact_pca(x, 2)
    penalties = NonUniformL2.scaled_to(x, 2)

    def value(order):
        model = linear_autoencoder(8, 2)
        lengths = (1 - torch.tensor(penalties.penalties) / exact.variances[order]).sqrt()
        rows = lengths[:, None] * exact.directions[order]
        model.encoder.loc.weight.data, model.features.loc.weight.data = rows, rows.T.contiguous()
        return penalties(model, edgeless(x)).mean()

    first, second = penalties.penalties
    cost = (second**2 - first**2) * (1 / exact.variances).diff()[0]
    torch.testing.assert_close(value([0, 1]) - value([1, 0]), cost)


def test_equal_variances_leave_room_for_the_others():
    x = centred(torch.linalg.qr(torch.randn(100, 5)).Q)[0]
    x = compressed(torch.linalg.qr(x).Q * torch.tensor([3.0, 2.0, 2.0, 1.0, 0.5]))
    penalties = NonUniformL2.scaled_to(x, 4).penalties
    assert all(b > a for a, b in itertools.pairwise(penalties))
    assert penalties[1] / penalties[0] > 1.01


def test_a_penalty_above_a_variance_warns_and_loses_the_component(model, x):
    variances = exact_pca(x, LATENT).variances.tolist()
    penalties = (0.01, 0.02, 1.1 * variances[2])
    with pytest.warns(UserWarning, match=r"components \[2\], which will be lost"):
        objective = NonUniformL2.scaled_to(x, LATENT, penalties)
    train(model, x, objective)
    with pytest.warns(UserWarning, match="has lost 1 of its 3"):
        decoder_columns(model)
    with pytest.warns(UserWarning, match="has lost 1 of its 3"):
        principal_components(model)


def test_wrong_arguments(model, x):
    with pytest.raises(ValueError, match="increasing"):
        NonUniformL2((0.2, 0.1))
    with pytest.raises(ValueError, match="positive"):
        UniformL2(0.0)
    with pytest.raises(ValueError, match="positive"):
        RotationAugmented(-1.0)
    with pytest.raises(ValueError, match="each of the 3 latents"):
        NonUniformL2((0.1, 0.2))(model, edgeless(x))
    with pytest.raises(ValueError, match="each of the 3 latents"):
        NonUniformL2.scaled_to(x, 3, (0.1, 0.2))
    with pytest.raises(ValueError, match="sum to 1"):
        NestedDropout((0.5, 0.4))
    with pytest.raises(ValueError, match="each of the 3 latents"):
        NestedDropout((0.5, 0.5))(model, edgeless(x))
    with pytest.raises(ValueError, match="at most 8"):
        exact_pca(x, 9)
    with pytest.raises(ValueError, match="rank"):
        UniformL2.scaled_to(x @ torch.diag(torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0])), 3)
    with pytest.raises(ValueError, match="rank"):
        probabilistic_pca(x, 8)
    encoder = PointEncoder(nn.Sequential(nn.Linear(8, 5), nn.Tanh()), 5, 2)
    deep = GraphVAE(StandardNormal(2), encoder, features=GaussianFeatures(nn.Identity(), 2, 8))
    with pytest.raises(TypeError, match="must be linear"):
        UniformL2(0.1)(deep, edgeless(x))
    with pytest.raises(TypeError, match="must be a linear VAE"):
        log_marginal(model, x)
    vae = linear_vae(8, 2, NodeScale(2, 8))
    with pytest.raises(TypeError, match="FixedScale or LearnedScale"):
        diagonal_gap(vae)


# Probabilistic PCA


KINDS = ["shared", "fixed", "each"]


def random_vae(scale=None):
    """Random weights, the columns of W not orthogonal."""
    model = linear_vae(8, LATENT, scale)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.7)
    return model


@pytest.mark.parametrize("scale", [LearnedScale, lambda: FixedScale(0.8), lambda: LearnedScale(8)], ids=KINDS)
def test_log_marginal_is_the_density(x, scale):
    model = random_vae(scale())
    weight, bias = model.features.loc.weight, model.features.loc.bias
    noise = model.features(torch.zeros(1, LATENT), None).stddev[0] ** 2
    density = torch.distributions.MultivariateNormal(bias, weight @ weight.T + torch.diag(noise))
    torch.testing.assert_close(log_marginal(model, x), density.log_prob(x))


@pytest.mark.parametrize("features", [1, 8])
def test_expected_elbo_is_the_mean_of_the_elbo(x, features):
    model = random_vae(LearnedScale(features))
    exact = analytic_elbo(model, edgeless(x[:5]))
    draws = elbo(model, edgeless(x[:5].repeat(4000, 1))).view(4000, 5)
    assert ((draws.mean(0) - exact).abs() < 4 * draws.std(0) / 4000**0.5).all()


@pytest.mark.parametrize("features", [1, 8])
def test_the_best_diagonal_posterior_lacks_the_gap(x, features):
    model = random_vae(LearnedScale(features))
    assert (analytic_elbo(model, edgeless(x)) < log_marginal(model, x)).all()
    set_best_posterior(model)
    lacking = log_marginal(model, x) - analytic_elbo(model, edgeless(x))
    torch.testing.assert_close(lacking, diagonal_gap(model).expand(len(x)), rtol=0, atol=1e-10)
    assert diagonal_gap(model) > 1e-2
    best = analytic_elbo(model, edgeless(x)).mean()
    gradient = torch.autograd.grad(best, [model.encoder.loc.weight, model.encoder.log_scale.bias])
    assert max(g.abs().max() for g in gradient) < 1e-10


def test_bounds_are_in_order(x):
    """ELBO < L_2 < L_20 < log p, each by more than its standard error."""
    model = random_vae()
    set_best_posterior(model)
    x = x.repeat(10, 1)
    draws = [importance_bound(model, edgeless(x), k, noise=torch.randn(k, len(x), LATENT)) for k in (2, 20)]
    values = [analytic_elbo(model, edgeless(x)), *draws, log_marginal(model, x)]
    for lower, upper in itertools.pairwise(values):
        difference = upper - lower
        assert difference.mean() > 3 * difference.std() / len(x) ** 0.5


def test_probabilistic_pca_has_a_tight_bound_and_the_greatest_likelihood():
    digits = torch.tensor(load_digits().data / 16) + 0.3
    model = probabilistic_pca(digits, 10)
    log_p = log_marginal(model, digits).detach()
    torch.testing.assert_close(analytic_elbo(model, edgeless(digits)), log_p, rtol=0, atol=1e-10)
    # Every draw gives log p: where q is the posterior, the weights of importance sampling do not vary.
    torch.testing.assert_close(importance_bound(model, edgeless(digits), 1), log_p, rtol=0, atol=1e-10)
    assert diagonal_gap(model).abs() < 1e-10
    reference = PCA(10).fit(digits.numpy())
    variances = exact_pca(digits, 64).variances
    s2 = float(variances[10:].mean())
    logs = float(variances[:10].log().sum()) + 54 * math.log(s2)
    assert abs(float(log_p.mean()) + (64 * math.log(2 * math.pi) + logs + 64) / 2) < 1e-10
    found = principal_components(model, digits).directions
    assert cosines(found, torch.from_numpy(reference.components_)).min() > 1 - 1e-10
    assert cosines(decoder_columns(model), torch.from_numpy(reference.components_)).min() > 1 - 1e-10


def test_a_trained_linear_vae_is_probabilistic_pca(x):
    model = linear_vae(8, LATENT)
    train(model, x, analytic_elbo)
    closed = probabilistic_pca(x, LATENT)
    found, best = (log_marginal(m, x).mean().detach() for m in (model, closed))
    assert -1e-10 < best - found < 1e-6
    assert best - analytic_elbo(model, edgeless(x)).mean().detach() < 1e-6
    exact = exact_pca(x, LATENT)
    assert cosines(principal_components(model).directions, exact.directions).min() > 0.9999
    best_match = (decoder_columns(model) @ exact.directions.T).abs().max(1)
    assert best_match.values.min() > 0.999
    assert np.unique(best_match.indices.numpy()).size == LATENT


def test_float32_and_samples():
    digits = torch.tensor(load_digits().data / 16).float()
    model = probabilistic_pca(digits, 5)
    found = elbo(model, edgeless(digits)).mean()
    assert abs(found - log_marginal(model, digits).mean()) < 0.2
    assert model.sample(3, 0).x.dtype == torch.float32


def test_small_components_are_not_taken_for_lost_ones():
    x, _ = centred(torch.randn(200, 4) * torch.tensor([1.0, 0.1, 0.01, 1e-4]))
    model = linear_autoencoder(4, 4)
    with torch.no_grad():
        model.encoder.loc.weight.copy_(torch.eye(4))
        model.features.loc.weight.copy_(torch.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = principal_components(model, x)
    assert (found.directions * exact_pca(x, 4).directions).sum(1).abs().min() > 1 - 1e-9


def test_the_marginal_is_exact_in_single_precision_too():
    model = probabilistic_pca(torch.randn(300, 40) * torch.logspace(0, -3, 40), 10)
    x = model.sample(20, 0).x
    expected = log_marginal(model, x)
    torch.testing.assert_close(log_marginal(model.float(), x.float()).double(), expected, rtol=0, atol=0.05)
