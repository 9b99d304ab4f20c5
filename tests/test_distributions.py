import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Independent,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from graphvae.distributions import BernoulliEdges, PerGraph, PointMass, TableOfSizes, drawing_from
from graphvae.layout import Layout
from graphvae.priors import EmpiricalSizes, StandardNormal

pytestmark = pytest.mark.usefixtures("double")
LAYOUT = Layout.of([3, 1, 2])


def normal():
    return PerGraph(Normal(torch.randn(6, 4), torch.rand(6, 4) + 0.3), LAYOUT)


def test_log_prob_sums_over_the_rows_of_each_graph():
    q, z = normal(), torch.randn(6, 4)
    rows = q.base.log_prob(z).sum(1)
    torch.testing.assert_close(q.log_prob(z), torch.stack([rows[:3].sum(), rows[3], rows[4:].sum()]))
    categorical = PerGraph(OneHotCategorical(logits=torch.randn(6, 3)), LAYOUT)
    assert categorical.log_prob(torch.eye(3).repeat(2, 1)).shape == (3,)


def test_closed_form_kl_equals_the_textbook_and_monte_carlo():
    q, p = normal(), StandardNormal(4)(LAYOUT)
    mean, scale = q.base.loc, q.base.scale
    textbook = 0.5 * (mean**2 + scale**2 - 1 - 2 * scale.log()).sum(1)
    torch.testing.assert_close(q.kl(p), LAYOUT.sum(textbook), rtol=1e-12, atol=1e-12)
    draws = torch.stack([q.log_prob(z) - p.log_prob(z) for z in (q.rsample() for _ in range(20000))])
    error = draws.std(0) / draws.size(0) ** 0.5
    assert ((draws.mean(0) - q.kl(p)).abs() < 4 * error).all()
    torch.testing.assert_close(p.kl(StandardNormal(4)(LAYOUT)), torch.zeros(3))


def test_reparameterised_draws_move_with_their_noise():
    q, noise = normal(), torch.randn(6, 4)
    torch.testing.assert_close(q.rsample(noise), q.mean + q.stddev * noise)
    with pytest.raises(TypeError, match="'noise' needs a normal distribution, this is Bernoulli"):
        PerGraph(Bernoulli(logits=torch.zeros(2, 1))).rsample(torch.zeros(2, 1))


def test_many_draws_are_made_at_once():
    q, noise = normal(), torch.randn(3, 6, 4)
    torch.testing.assert_close(q.rsample(noise), torch.stack([q.rsample(eps) for eps in noise]))
    drawn = q.rsample(sample_shape=(20000,))
    assert drawn.shape == (20000, 6, 4)
    torch.testing.assert_close(drawn.mean(0), q.mean, rtol=0, atol=0.05)
    torch.testing.assert_close(drawn.std(0), q.stddev, rtol=0, atol=0.05)
    assert (drawn[0] != drawn[1]).all()


def _independent(raw):
    return Independent(Normal(raw, raw.exp()), 1)


def _mixture(raw):
    return MixtureSameFamily(Categorical(logits=raw), Normal(raw, raw.exp()))


@pytest.mark.parametrize(
    ("made", "value"),
    [
        (lambda raw: Normal(raw, raw.exp()), torch.rand(6, 4)),
        (lambda raw: Bernoulli(logits=raw), torch.ones(6, 4)),
        (lambda raw: Beta(raw.exp(), 2 * raw.exp()), torch.rand(6, 4)),
        (lambda raw: MultivariateNormal(raw, torch.diag_embed(raw.exp())), torch.rand(6, 4)),
        (_independent, torch.rand(6, 4)),
        (_mixture, torch.rand(6)),
    ],
)
def test_a_detached_distribution_is_the_same_without_gradient_of_its_parameters(made, value):
    raw, value = torch.randn(6, 4, requires_grad=True), value.double()
    q = PerGraph(made(raw), LAYOUT)
    _ = q.mean  # Some distributions keep what they computed of their parameters.
    smooth = not isinstance(q.base, Bernoulli)
    value.requires_grad_(smooth)
    free, cut = q.log_prob(value), q.detached().log_prob(value)
    torch.testing.assert_close(cut, free, rtol=0, atol=0)
    assert torch.autograd.grad(free.sum(), raw, retain_graph=True)[0].abs().min() > 0
    assert cut.requires_grad == smooth
    if smooth:
        expected = torch.autograd.grad(free.sum(), value)[0]
        from_cut, from_raw = torch.autograd.grad(cut.sum(), (value, raw), allow_unused=True)
        torch.testing.assert_close(from_cut, expected)
        assert from_raw is None


def test_what_cannot_be_detached_is_refused():
    raw = torch.randn(6, 4, requires_grad=True)
    with pytest.raises(TypeError, match="must be one of tensors, LogNormal holds a list as 'transforms'"):
        PerGraph(LogNormal(raw, raw.exp()), LAYOUT).detached()


def test_half_precision_parameters_become_single():
    q = PerGraph(Normal(torch.randn(6, 4).bfloat16(), torch.rand(6, 4).half()), LAYOUT)
    wide = q.at_least_single()
    assert (wide.mean.dtype, wide.stddev.dtype, q.mean.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert torch.equal(wide.mean, q.mean.float())
    assert wide.layout is LAYOUT
    assert normal().at_least_single().mean.dtype == torch.float64


def test_a_generator_decides_the_draw_and_the_global_one_is_left_alone():
    q = normal()
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    first, second = q.sample(generator), q.sample(generator)
    again = q.sample(torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_generator_survives_an_error():
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="invalid for input"), drawing_from(torch.Generator().manual_seed(1)):
        torch.randn(3).view(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_layout_all_rows_are_one_graph():
    base = Normal(torch.zeros(5, 2), torch.ones(5, 2))
    assert PerGraph(base).log_prob(torch.zeros(5, 2)).shape == (1,)
    assert PointMass(torch.zeros(5, 2)).layout.num_rows == 5


def test_a_point_mass_has_no_kl():
    with pytest.raises(TypeError, match="no ELBO of a plain autoencoder"):
        PointMass(torch.zeros(2, 1)).kl(StandardNormal(1)(Layout.of([2])))


def test_sizes_follow_frequencies_with_smoothing():
    table = EmpiricalSizes([2, 2, 2, 4], smoothing=1.0)()
    expected = torch.tensor([1, 4, 1, 2]) / 8
    torch.testing.assert_close(table.log_prob(torch.tensor([1, 2, 3, 4])).exp(), expected)
    assert table.log_prob(torch.tensor([0, 5, 100])).tolist() == [-torch.inf] * 3
    assert EmpiricalSizes([2, 4], smoothing=0.0)().log_prob(torch.tensor([3])).item() == -torch.inf
    torch.testing.assert_close(table.log_probs.exp().sum(), torch.tensor(1.0))


def test_sampled_sizes_have_the_stated_frequencies():
    table = TableOfSizes(torch.tensor([0.0, 0.2, 0.5, 0.3]).log())
    draws = table.sample(40000, torch.Generator().manual_seed(0))
    share = torch.bincount(draws, minlength=4) / 40000
    assert (share - table.log_probs.exp()).abs().max() < 0.01
    assert share[0] == 0


@pytest.mark.parametrize(("sizes", "smoothing"), [([], 1.0), ([0, 3], 1.0), ([3], -1.0)])
def test_bad_sizes_are_refused(sizes, smoothing):
    with pytest.raises(ValueError, match=r"'sizes' must|'smoothing' must"):
        EmpiricalSizes(sizes, smoothing)


def test_the_prior_refuses_no_dimension():
    with pytest.raises(ValueError, match="'latent' must be positive, got 0"):
        StandardNormal(0)


def test_the_bias_is_one_number():
    z = torch.randn(5, 2)
    bias = torch.zeros(1, requires_grad=True)
    BernoulliEdges(z, z, bias).log_normalizer().sum().backward()
    assert bias.grad.shape == (1,)
    with pytest.raises(ValueError, match="'bias' must be one number"):
        BernoulliEdges(z, z, torch.zeros(5))
