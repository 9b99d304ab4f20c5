"""The recipes on vectors: PCA is PCA, errors are told in the data's units, the test part is never learned from."""

import dataclasses
import math

import pytest
import torch
from accelerate import Accelerator
from sklearn.decomposition import PCA
from torch import nn

from graphvae import edgeless
from graphvae.datasets import Samples, vectors
from graphvae.encoders import PointEncoder
from graphvae.features import GaussianFeatures
from graphvae.model import GraphVAE
from graphvae.objectives import reconstruction
from graphvae.priors import StandardNormal
from graphvae.recipes.distortions import Distortion, of_distorted
from graphvae.recipes.vectors import METHODS, Task, Units, latent_of, run, widths_of

STILL = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "shift": 0.0, "bending": 0.0}


def blob(size: int = 29) -> torch.Tensor:
    """A smooth spot off the middle, `(1, size * size)`."""
    down, across = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.exp(-((down - 12.0) ** 2 + (across - 17.0) ** 2) / 12).flatten()[None]


def centre(x: torch.Tensor, size: int = 29) -> torch.Tensor:
    """`(B, 2)` places, down and across."""
    image = x.view(-1, size, size) / x.sum(1)[:, None, None]
    places = torch.arange(size, dtype=x.dtype)
    return torch.stack([(image.sum(2) * places).sum(1), (image.sum(1) * places).sum(1)], 1)


def task(samples: Samples, **settings) -> Task:
    return Task(samples, seed=0, accelerator=Accelerator(cpu=True), **settings)


def curve(noise: float = 0.0) -> Samples:
    """Points of a parabola far from the origin: no line is near all of them, a bent one is."""
    t = torch.linspace(-1, 1, 400)[torch.randperm(400)]
    x = 50 * torch.stack([2 * t, 2 * t**2], 1) + torch.tensor([1000.0, -300.0])
    return Samples("curve", x[:300], x[300:])


def test_no_distortion_leaves_images_as_they_are():
    x = torch.rand(4, 6 * 9)
    assert torch.allclose(Distortion((6, 9), **STILL)(x), x, atol=1e-5)


@pytest.mark.parametrize(("kind", "size"), [("rotation", 25.0), ("scale", 0.2), ("shear", 0.2), ("shift", 0.1)])
def test_a_distortion_moves_a_spot_as_far_as_it_may_and_no_farther(kind, size):
    found = centre(Distortion((29, 29), **(STILL | {kind: size}))(blob().expand(500, -1)))
    moved = found - torch.tensor([12.0, 17.0])  # It was 2 above and 3 right of the middle.
    limits = {
        "rotation": (1.8, 1.2),  # Radius 3.6 by 25 degrees: |(-2, 3) - R(-2, 3)|, per coordinate.
        "scale": (0.5, 0.75),  # 2 and 3 times 1 / 0.8 - 1.
        "shear": (0.05, 0.45),  # Rows move sideways only, by 0.2 times 2.
        "shift": (2.95, 2.95),  # A tenth of 29.
    }[kind]
    for axis, limit in enumerate(limits):
        assert moved[:, axis].abs().max() <= limit
    assert moved.abs().max() > 0.3
    assert moved.mean(0).abs().max() < 0.25  # To all sides alike.


def test_bending_is_smooth_and_of_the_size_asked_for():
    found = centre(Distortion((29, 29), **(STILL | {"bending": 0.03}))(blob().expand(2000, -1)))
    assert 0.3 < (found - found.mean(0)).std(0).mean() / (0.03 * 29) < 1.0  # Between knots the surface is lower.


def test_an_objective_of_distorted_vectors_is_that_objective_elsewhere():
    encoder, decoder = PointEncoder(nn.Identity(), 4, 2), GaussianFeatures(nn.Identity(), 2, 4)
    model, x = GraphVAE(StandardNormal(2), encoder, features=decoder), torch.rand(3, 4)
    found = of_distorted(reconstruction, lambda rows: rows.flip(1))(model, model.batch(edgeless(x)))
    assert found.equal(reconstruction(model, edgeless(x.flip(1))))


@pytest.mark.parametrize(("size", "calls"), [(16, 2), (15, 0)])
def test_large_images_are_distorted_in_training(monkeypatch, size, calls):
    seen = []
    monkeypatch.setattr(Distortion, "__call__", lambda self, x: seen.append(self.image) or x)
    x = torch.rand(120, size * size)
    run("autoencoder", task(Samples("noise", x, x[:5], image=(size, size)), latent=2, widths=(4,), steps=2))
    assert seen == [(size, size)] * calls


@pytest.mark.parametrize("latent", [1, 5, 64])
def test_pca_is_that_of_scikit_learn(latent):
    digits = vectors("digits")
    outcome = run("pca", task(digits, latent=latent))
    exact = PCA(latent, svd_solver="full").fit(digits.train.double())
    expected = torch.from_numpy(exact.inverse_transform(exact.transform(digits.test.double())))
    assert torch.allclose(outcome.reconstructed.double(), expected, atol=1e-5)
    error = (expected - digits.test).square().sum(1).mean().item()
    assert outcome.numbers["squared_error"] == pytest.approx(error, rel=1e-5, abs=1e-8)
    assert outcome.latents.shape == (397, latent)


def test_errors_are_in_the_units_of_the_data():
    data = curve()
    factor = 1000.0
    larger = dataclasses.replace(data, train=data.train * factor, test=data.test * factor)
    for method in ("pca", "autoencoder"):
        settings = {"latent": 1, "widths": (16,), "steps": 30}
        found, far = (run(method, task(samples, **settings)).numbers["squared_error"] for samples in (data, larger))
        assert far == pytest.approx(found * factor**2, rel=1e-2)


def test_a_bound_is_on_the_density_of_the_data_in_its_units():
    data, settings = curve(), {"latent": 1, "widths": (16,), "steps": 30}
    larger = dataclasses.replace(data, train=data.train * 1000, test=data.test * 1000)
    near, far = (run("vae", task(samples, **settings)).numbers["elbo"] for samples in (data, larger))
    assert far == pytest.approx(near - 2 * math.log(1000), abs=0.05)


def test_units_go_in_and_out():
    data = curve()
    units = Units.of(data)
    inside = units.inside(data.train)
    assert inside.mean(0).abs().max() < 1e-4
    assert inside.square().mean().item() == pytest.approx(1, rel=1e-5)
    assert torch.allclose(units.outside(inside), data.train, rtol=1e-6)
    digits = vectors("digits")
    assert Units.of(digits).inside(digits.train) is digits.train


def test_one_bent_dimension_is_better_than_the_best_straight_one():
    """Theory A9: an autoencoder follows a curve, principal components cannot."""
    errors = {m: run(m, task(curve(), latent=1, steps=600)).numbers["squared_error"] for m in ("pca", "autoencoder")}
    assert errors["autoencoder"] < errors["pca"] / 10


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_from_the_training_part_alone(method):
    digits = vectors("digits")
    settings = {"latent": 3, "widths": (16,), "steps": 26}
    outcome = run(method, task(digits, **settings))
    other = run(method, task(dataclasses.replace(digits, test=digits.test.flip(1)[:50]), **settings))
    for name, value in outcome.model.state_dict().items():
        assert value.equal(other.model.state_dict()[name])
    again = run(method, task(digits, **settings))
    assert again.reconstructed.equal(outcome.reconstructed)
    assert outcome.reconstructed.shape == digits.test.shape
    assert outcome.numbers["squared_error"] == pytest.approx(
        (outcome.reconstructed - digits.test).square().sum(1).mean().item()
    )


def test_logistic_pca_needs_probabilities():
    with pytest.raises(ValueError, match=r"logistic-pca needs values in \[0, 1\], which curve does not keep to"):
        run("logistic-pca", task(curve()))


def test_a_latent_that_is_too_wide_is_told():
    with pytest.raises(ValueError, match="'latent' must be at most 2 for 300 vectors of 2, got 3"):
        run("pca", task(curve(), latent=3))


def test_sizes_follow_the_data():
    assert (latent_of(784), widths_of(784)) == (30, (500, 250))
    assert (latent_of(64), widths_of(64)) == (10, (256, 128))
    assert (latent_of(2), widths_of(2)) == (1, (64, 32))
