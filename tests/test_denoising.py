"""The recipes of denoising, and their pictures, at a size that trains in seconds."""

import pytest
import torch
from accelerate import Accelerator

from graphvae import edgeless
from graphvae.corruptions import GaussianNoise, MaskingNoise
from graphvae.datasets.vectors import Samples
from graphvae.evaluation.scores import mixture_score
from graphvae.plots.denoising import denoised_digits, denoising_field
from graphvae.recipes.denoising import (
    Plan,
    best_linear,
    curve,
    digits,
    distance_to,
    mixture,
    spiral,
    three_gaussians,
)

QUICK = {"accelerator": Accelerator(cpu=True), "progress": False}


def test_the_residual_form_learns_the_score_of_the_noisy_density_and_not_that_of_the_clean_one():
    numbers = mixture(0.5, plan=Plan(200, 512, 1e-2), **QUICK)
    assert numbers["relative_error"] < 0.05
    assert numbers["median_cosine"] > 0.99
    assert numbers["relative_error_to_clean"] > 0.3
    assert numbers["mse"] == pytest.approx(numbers["smallest_mse"], rel=0.05)


def test_the_mixture_is_as_described():
    p = three_gaussians()
    assert (mixture_score(p, p.sample((20_000,))).mean(0).abs() < 0.1).all()
    assert torch.linalg.eigvalsh(p.component_distribution.covariance_matrix).sqrt().min() == pytest.approx(0.25)


def test_curve_has_equal_steps_and_distances_are_to_it():
    points = curve(500)
    steps = points.diff(dim=0).norm(dim=1)
    assert steps.max() / steps.min() < 1.02
    torch.testing.assert_close(points.norm(dim=1)[[0, -1]], torch.tensor([0.8, 2.0]))
    assert distance_to(points, points).max() == 0
    assert distance_to(points, torch.zeros(1, 2)) == pytest.approx(0.8)


def test_spiral_and_its_picture(tmp_path):
    field = spiral(plan=Plan(60, 1024, 5e-3), **QUICK)
    assert field.numbers["exact"] > 0.99
    assert field.numbers["learned"] > 0.6
    assert (distance_to(curve(20_000), field.places) < 3 * field.noise).all()
    assert (distance_to(field.curve, field.places) > 0).all()
    denoising_field(field, tmp_path / "field.png")
    assert (tmp_path / "field.png").stat().st_size > 20_000


@pytest.mark.usefixtures("double")
def test_best_linear_is_the_wiener_filter_for_gaussian_noise():
    root = torch.randn(4, 4)
    train = torch.randn(2000, 4) @ root + 1.0
    x = torch.randn(10, 4)
    covariance = train.T.cov(correction=0)
    gain = torch.linalg.solve(covariance + 0.25 * torch.eye(4), covariance)
    wiener = (x - train.mean(0)) @ gain + train.mean(0)
    torch.testing.assert_close(best_linear(train, GaussianNoise(0.5))(x), wiener, rtol=0, atol=0.03)


@pytest.mark.usefixtures("double")
def test_best_linear_is_best_for_masking_too():
    """At the least squared error the residual is uncorrelated with what it was computed from."""
    train = torch.randn(2000, 3) @ torch.randn(3, 3) + 1.0
    train = torch.cat([train, torch.zeros(2000, 1)], 1)  # A pixel that is always off.
    noisy = MaskingNoise(0.5)(edgeless(train.repeat(20, 1))).x
    residual = best_linear(train, MaskingNoise(0.5))(noisy) - train.repeat(20, 1)
    moments = (residual.T @ (noisy - noisy.mean(0))) / len(noisy)
    assert (moments.abs() < 0.05).all()
    assert (residual[:, 3].abs() < 1e-9).all()


def test_digits_and_their_picture(tmp_path):
    plan = Plan(60, 256, 2e-3)
    results = [digits(corruption, plan=plan, **QUICK) for corruption in (GaussianNoise(0.5), MaskingNoise(0.5))]
    for result in results:
        numbers = result.numbers
        assert numbers["noisy"] < numbers["linear"]
        assert numbers["noisy"] + 1 < numbers["denoised"]
        assert result.clean.shape == result.noisy.shape == result.denoised.shape == result.linear.shape
        assert result.denoised.min() >= 0
    denoised_digits(results, tmp_path / "digits.png", columns=8)
    assert (tmp_path / "digits.png").stat().st_size > 20_000


def test_digits_wants_images():
    with pytest.raises(ValueError, match="table must be images to be drawn"):
        digits(GaussianNoise(0.3), Samples("table", torch.rand(4, 3), torch.rand(2, 3)), **QUICK)
