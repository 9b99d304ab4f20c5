import itertools
import math

import pytest
import torch
from torch.distributions import Bernoulli, Normal, OneHotCategorical, Poisson

from graphvae.distributions import PerGraph
from graphvae.expectations import Enumeration, Pathwise, Relaxation, ScoreFunction, codes, mean_of_others
from graphvae.layout import Layout

pytestmark = pytest.mark.usefixtures("double")
BITS = torch.tensor(list(itertools.product([0, 1], repeat=4))).double()
LOGITS = (0.4, -1.0, 0.9, 0.1)
WEIGHTS = torch.tensor([1.3, -0.8, 0.5, 2.0]).double()


def of_bits(z):
    """A function of four bits with interactions, `(K, R, 4)` to `(K, R)`, smooth between the codes."""
    return torch.sin(z @ WEIGHTS) + 2 * z[..., 0] * z[..., 1] - (z.sum(-1) - 1.5) ** 2 + 3


def exact_gradient():
    """Of the expectation in the logits, from its sixteen terms written out."""
    logits = torch.tensor(LOGITS, requires_grad=True)
    chances = torch.where(BITS > 0, logits.sigmoid(), (-logits).sigmoid()).prod(1)
    return torch.autograd.grad((chances * of_bits(BITS[None])[0]).sum(), logits)[0]


def gradients(expectation, copies=20_000, f=of_bits, q=None):
    """`(copies, D)` independent gradients in the parameter: graphs of one row each are independent of each other."""
    parameter = torch.tensor(LOGITS).repeat(copies, 1) if q is None else torch.zeros(copies, q[1])
    parameter.requires_grad_()
    make = (lambda logits: Bernoulli(logits=logits)) if q is None else q[0]
    value = expectation(PerGraph(make(parameter), Layout.singles(copies)), f)
    assert value.shape == (copies,)
    return torch.autograd.grad(value.sum(), parameter)[0]


def off_by(found, expected):
    """The largest distance of the mean from what is expected, in standard errors of each coordinate."""
    return float(((found.mean(0) - expected).abs() / (found.std(0) / len(found) ** 0.5)).max())


def total_variance(found):
    return float(found.var(0).sum())


def test_enumeration_is_the_sum_of_sixteen_terms():
    found = gradients(Enumeration(), copies=3)
    torch.testing.assert_close(found, exact_gradient().expand(3, -1), rtol=1e-12, atol=1e-12)
    q = PerGraph(Bernoulli(logits=torch.tensor([LOGITS])), Layout.singles(1))
    expected = sum(q.log_prob(bits[None]).exp() * of_bits(bits[None, None])[0] for bits in BITS)
    torch.testing.assert_close(Enumeration(16)(q, of_bits), expected, rtol=1e-12, atol=0)


UNBIASED = {
    "plain": ScoreFunction(1, baseline=None),
    "plain, 4 draws": ScoreFunction(4, baseline=None),
    "mean of others, 2 draws": ScoreFunction(2),
    "mean of others, 4 draws": ScoreFunction(4),
}


@pytest.mark.parametrize("name", UNBIASED)
def test_the_score_function_is_unbiased(name):
    found = gradients(UNBIASED[name])
    assert off_by(found, exact_gradient()) < 4
    assert off_by(found, 0) > 20, "there is a gradient to be unbiased for"


def test_what_is_biased_is_found_to_be():
    """A baseline that contains the draw itself, and relaxations, straight through too; less so when colder."""
    biased = [
        ScoreFunction(4, baseline=lambda values: values.mean(0).expand_as(values)),
        Relaxation(1.0),
        Relaxation(0.5),
        Relaxation(1.0, straight_through=True),
    ]
    found = [gradients(expectation) for expectation in biased]
    assert all(off_by(each, exact_gradient()) > 10 for each in found)
    torch.testing.assert_close(found[0].mean(0) / 0.75, exact_gradient(), rtol=0.1, atol=0.02)
    distance = [float((gradients(Relaxation(t)).mean(0) - exact_gradient()).norm()) for t in (2.0, 0.5, 0.1)]
    assert distance[0] > 1.5 * distance[1] > 2 * distance[2]
    assert [Relaxation.biased, ScoreFunction.biased, Pathwise.biased, Enumeration.biased] == [True, False, False, False]


def test_the_mean_of_others_reduces_the_variance():
    plain, compared = (total_variance(gradients(ScoreFunction(4, baseline=b))) for b in (None, mean_of_others))
    assert compared < plain / 2
    values = torch.randn(5, 3)
    others = torch.stack([values[[j for j in range(5) if j != k]].mean(0) for k in range(5)])
    torch.testing.assert_close(mean_of_others(values), others, rtol=1e-12, atol=1e-12)


def test_values_are_right_whatever_the_gradient():
    torch.manual_seed(1)
    q = PerGraph(Bernoulli(logits=torch.tensor(LOGITS).repeat(20_000, 1)), Layout.singles(20_000))
    exact = Enumeration()(q, of_bits)[0]
    for expectation in (ScoreFunction(1, None), ScoreFunction(4), Relaxation(1.0, straight_through=True)):
        assert off_by(expectation(q, of_bits)[:, None], exact) < 4
    assert off_by(Relaxation(1.0)(q, of_bits)[:, None], exact) > 10


def test_the_function_gets_its_own_gradient():
    weight = torch.tensor(0.7, requires_grad=True)
    q = PerGraph(Bernoulli(logits=torch.tensor(LOGITS).repeat(5000, 1)), Layout.singles(5000))
    found = []
    for expectation in (Enumeration(), ScoreFunction(20)):
        value = expectation(q, lambda z: torch.sin(weight * z.sum(-1))).mean()
        found.append(torch.autograd.grad(value, weight)[0])
    torch.testing.assert_close(found[1], found[0], rtol=0.02, atol=0)


def normal(scale):
    return lambda loc: Normal(loc, scale)


@pytest.mark.parametrize("dimension", [1, 10])
def test_the_score_function_is_the_noisier_one_for_a_distance(dimension):
    """f = |z - c|², c = 1, at loc 0 and scale 0.5: the gradient is -2c; both variances are known at d = 1."""
    both = [
        gradients(e, 20_000, lambda z: ((z - 1) ** 2).sum(-1), (normal(0.5), dimension))
        for e in (Pathwise(), ScoreFunction(1, baseline=None))
    ]
    for found in both:
        assert off_by(found, -2.0) < 4
    path, score = map(total_variance, both)
    assert path == pytest.approx(4 * 0.25 * dimension, rel=0.1)
    if dimension == 1:
        assert score == pytest.approx(21.75, rel=0.1)
    else:
        assert score > 100 * path


@pytest.mark.parametrize("k", [1, 5, 20])
def test_the_path_is_the_noisier_one_for_a_fast_wave(k):
    """f = sin(kz), z ~ N(0, 1): k²/2 against 1/2 as k grows. Both agree on the gradient, k exp(-k²/2)."""
    of_path = k**2 * ((1 + math.exp(-2 * k**2)) / 2 - math.exp(-(k**2)))
    of_score = (1 - (1 - 4 * k**2) * math.exp(-2 * k**2)) / 2 - k**2 * math.exp(-(k**2))
    for expectation, expected in ((Pathwise(), of_path), (ScoreFunction(1, baseline=None), of_score)):
        found = gradients(expectation, 20_000, lambda z: torch.sin(k * z).sum(-1), (normal(1.0), 1))
        assert off_by(found, k * math.exp(-(k**2) / 2)) < 4
        assert total_variance(found) == pytest.approx(expected, rel=0.1)
    assert (of_path < of_score) == (k == 1)


def test_more_draws_are_the_same_expectation_with_less_noise():
    f = lambda z: ((z - 1) ** 2).sum(-1)  # noqa: E731
    few, many = (gradients(Pathwise(draws), 10_000, f, (normal(0.5), 3)) for draws in (1, 8))
    assert off_by(many, -2.0) < 4
    assert total_variance(many) == pytest.approx(total_variance(few) / 8, rel=0.1)


SIZES = [2, 3, 1]


@pytest.mark.parametrize("categorical", [False, True])
def test_graphs_of_every_size_are_enumerated_side_by_side(categorical):
    """Bits, or classes, of several rows each: every graph has the expectation it has alone, from its own codes."""
    logits = torch.randn(6, 3, requires_grad=True)
    family = OneHotCategorical if categorical else Bernoulli
    make = lambda rows: family(logits=rows, validate_args=False)  # noqa: E731
    layout, weights = Layout.of(SIZES), torch.randn(6, 3)

    def f(z, rows=slice(None), layout=layout):
        inside = (z * weights[rows]).sum(-1)
        return torch.stack([layout.sum(each) for each in inside]).cos()

    q = PerGraph(make(logits), layout)
    z, present = codes(q)
    assert present.sum(0).tolist() == [(3 if categorical else 8) ** n for n in SIZES]
    together = Enumeration()(q, f)
    for b, rows in enumerate(torch.arange(6).split(SIZES)):
        own = z[present[:, b]][:, rows]
        assert len({tuple(code.flatten().tolist()) for code in own}) == len(own)
        alone = PerGraph(make(logits[rows]), Layout.single(len(rows)))
        expected = sum(alone.log_prob(code).exp() * f(code[None], rows, alone.layout)[0] for code in own)
        torch.testing.assert_close(together[b, None], expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Enumeration()(q, lambda z: torch.ones(len(z), 3)), torch.ones(3))
    assert torch.autograd.grad(together[0], logits)[0][2:].abs().max() == 0


def test_classes_by_score_and_relaxed():
    logits = torch.tensor([0.2, -0.6, 1.0])
    make, f = lambda rows: OneHotCategorical(logits=rows + logits), lambda z: torch.cos(2 * z @ WEIGHTS[:3]) * 3
    exact = gradients(Enumeration(), 1, f, (make, 3))[0]
    assert off_by(gradients(ScoreFunction(3), 20_000, f, (make, 3))[:, :2], exact[:2]) < 4
    assert off_by(gradients(Relaxation(1.0), 20_000, f, (make, 3)), exact) > 10
    seen = []
    Relaxation(0.7, 2, straight_through=True)(PerGraph(make(torch.zeros(4, 3))), lambda z: seen.append(z) or z.sum(-1))
    assert sorted(seen[0].unique().tolist()) == [0, 1]
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(2, 4))


def test_what_does_not_fit_is_refused_with_the_way_out():
    bits = PerGraph(Bernoulli(logits=torch.zeros(3, 5, requires_grad=True)))
    normals = PerGraph(Normal(torch.zeros(3, 5), torch.ones(3, 5)))
    f = lambda z: z.sum((-1, -2))[:, None]  # noqa: E731
    with pytest.raises(TypeError, match=r"draws of Bernoulli have no gradient; use bounds\.expected_elbo with Enumera"):
        Pathwise()(bits, f)
    with pytest.raises(ValueError, match=r"15 latents and so 2\^15 codes, more than 'most' = 4096; use ScoreFunction"):
        Enumeration()(bits, f)
    with pytest.raises(ValueError, match=r"2\^100000 codes"):
        Enumeration()(PerGraph(Bernoulli(logits=torch.zeros(50_000, 2))), f)
    with pytest.raises(TypeError, match=r"values of Normal cannot be enumerated.*use Pathwise or ScoreFunction"):
        Enumeration()(normals, f)
    with pytest.raises(TypeError, match="values of Poisson cannot"):
        Enumeration()(PerGraph(Poisson(torch.ones(2, 1))), f)
    with pytest.raises(TypeError, match="'q' must be Bernoulli or one-hot categorical to be relaxed, got Normal"):
        Relaxation(1.0)(normals, f)
    with pytest.raises(ValueError, match=r"'draws' must be at least 2 .* got 1; or use baseline=None"):
        ScoreFunction(1)(bits, f)
    with torch.no_grad():
        assert ScoreFunction(1)(bits, f).shape == (1,)
    for make in (Pathwise, ScoreFunction, lambda draws: Relaxation(1.0, draws), Enumeration):
        with pytest.raises(ValueError, match="must be positive, got 0"):
            make(0)
    with pytest.raises(ValueError, match="'temperature' must be positive, got 0"):
        Relaxation(0)
