"""Priors of latents: densities, draws, and the KL divergence to those that have no closed one."""

import math
import sys

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Normal
from torch_geometric.nn import GCN, SumAggregation

from graphvae import GraphVAE, edgeless, elbo, fit, load, save
from graphvae.backbones import Nodewise
from graphvae.bounds import importance_bound
from graphvae.distributions import PerGraph, PointMass
from graphvae.edges import InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder
from graphvae.features import FixedScale, GaussianFeatures
from graphvae.layout import Layout
from graphvae.priors import EmpiricalSizes, Flow, NormalMixture, StandardNormal

pytestmark = pytest.mark.usefixtures("double")
LAYOUT = Layout.of([3, 1, 2])


def flow(latent, **settings):
    pytest.importorskip("zuko", reason="flows need zuko: pip install 'graphvae[flows]'")
    return Flow(latent, transforms=2, hidden=(8,), **settings)


PRIORS = {
    "mixture": lambda latent: NormalMixture(latent, 3),
    "flow": flow,
    "affine coupling": lambda latent: flow(latent, passes=2, splines=False),
}


@pytest.fixture(params=PRIORS)
def make(request):
    """Makes a prior of a dimension, with weights that are not those it starts with."""

    def prior(latent):
        made = PRIORS[request.param](latent)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        return made

    return prior


def grid(latent, reach=12.0):
    points = 40_001 if latent == 1 else 401
    line = torch.linspace(-reach, reach, points)
    return torch.cartesian_prod(*[line] * latent).view(-1, latent), (line[1] - line[0]) ** latent


@pytest.mark.parametrize("latent", [1, 2])
@torch.no_grad()
def test_densities_integrate_to_one_and_draws_follow_them(make, latent):
    prior, (z, cell) = make(latent), grid(latent)
    density = prior(Layout.singles(len(z))).log_prob(z).exp()
    assert (density.sum() * cell).item() == pytest.approx(1, abs=1e-3)
    drawn = prior(Layout.singles(20_000)).sample(torch.Generator().manual_seed(0))
    for moment in (lambda z: z.sum(1), lambda z: z.square().sum(1), lambda z: z[:, 0].sin()):
        expected, values = (moment(z) * density).sum() * cell, moment(drawn)
        assert abs(values.mean() - expected) < 4.5 * values.std() / len(drawn) ** 0.5 + 1e-3


def test_rows_are_independent_and_a_generator_decides_the_draw(make):
    prior, z = make(4), torch.randn(6, 4)
    rows = torch.cat([prior(Layout.single(1)).log_prob(row[None]) for row in z])
    together = prior(LAYOUT)
    torch.testing.assert_close(together.log_prob(z), LAYOUT.sum(rows))
    state = torch.get_rng_state()
    first = together.sample(torch.Generator().manual_seed(1))
    assert torch.equal(first, together.sample(torch.Generator().manual_seed(1)))
    assert first.shape == (6, 4)
    assert torch.equal(torch.get_rng_state(), state)


def test_mixture_is_the_textbook_density():
    prior, z = NormalMixture(2, 3, spread=2.0), torch.randn(6, 2)
    prior.log_scale.data.normal_()
    prior.logits.data.normal_()
    parts = Normal(prior.loc, prior.log_scale.exp()).log_prob(z[:, None]).sum(2)
    expected = (prior.logits.softmax(0) * parts.exp()).sum(1).log()
    torch.testing.assert_close(prior(LAYOUT).log_prob(z), LAYOUT.sum(expected))


def test_the_estimated_kl_and_its_gradient_are_unbiased(make):
    """Against the integral on a grid, with the gradient by the parameters of both."""
    prior, (z, cell) = make(1), grid(1)
    loc, log_scale = torch.tensor([[0.7]], requires_grad=True), torch.tensor([[-0.4]], requires_grad=True)
    q = Normal(loc, log_scale.exp())
    parameters = [loc, log_scale, *prior.parameters()]
    inside = q.log_prob(z).sum(1)
    exact = (inside.exp() * (inside - prior(Layout.singles(len(z))).log_prob(z))).sum() * cell
    draws = 20_000
    many = PerGraph(Normal(loc.expand(draws, 1), log_scale.exp().expand(draws, 1)), Layout.singles(draws))
    drawn = many.kl(prior(many.layout), many.rsample())
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / draws**0.5
    batches = [batch.mean() for batch in drawn.split(draws // 20)]
    found = [torch.cat([g.flatten() for g in torch.autograd.grad(b, parameters, retain_graph=True)]) for b in batches]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(exact, parameters)])
    found = torch.stack(found)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - expected).abs() < 6 * error + 1e-3).all()


def test_a_closed_kl_does_not_look_at_the_draw():
    q = PerGraph(Normal(torch.randn(6, 4), torch.rand(6, 4) + 0.3), LAYOUT)
    p = StandardNormal(4)(LAYOUT)
    assert torch.equal(q.kl(p), q.kl(p, torch.full((6, 4), torch.nan)))
    assert q.kl_of_rows(p).shape == (6, 4)
    torch.testing.assert_close(LAYOUT.sum(q.kl_of_rows(p)), q.kl(p))


def test_without_a_closed_kl_a_draw_is_asked_for(make):
    q, p = PerGraph(Normal(torch.zeros(6, 4), torch.ones(6, 4)), LAYOUT), make(4)(LAYOUT)
    with pytest.raises(ValueError, match="'z' must be given, there is no closed KL of Normal to"):
        q.kl(p)
    with pytest.raises(TypeError, match="must have a closed KL divergence, there is none of Normal to"):
        q.kl_of_rows(p)
    for kl in (PointMass(torch.zeros(6, 4)).kl, PointMass(torch.zeros(6, 4)).kl_of_rows):
        with pytest.raises(TypeError, match="a PointMass has no KL"):
            kl(p)


def test_half_precision_posteriors_are_taken_as_single():
    loc, scale = torch.randn(6, 2).bfloat16(), (torch.rand(6, 2) + 0.5).bfloat16()
    q, p = PerGraph(Normal(loc, scale), LAYOUT), NormalMixture(2, 3).float()(LAYOUT)
    z = q.rsample()
    wide = PerGraph(Normal(loc.float(), scale.float()), LAYOUT)
    assert torch.equal(q.kl(p, z), wide.kl(p, z.float()))


def model_of(prior, pool=None):
    encoder = NormalEncoder(GCN(5, 8, 2), 8, prior.latent, pool)
    if pool is not None:
        return GraphVAE(prior, encoder, PooledEdges(prior.latent), sizes=EmpiricalSizes([6, 1, 9]))
    features = GaussianFeatures(Nodewise(nn.Linear(prior.latent, 6)), 6, 5)
    return GraphVAE(prior, encoder, InnerProduct(0.4), features, EmpiricalSizes([6, 1, 9]))


class PooledEdges(nn.Module):
    """The latent of a graph at each of its nodes."""

    directed = False

    def __init__(self, latent):
        super().__init__()
        self.inner = InnerProduct(0.4, nn.Linear(latent, 3))

    def forward(self, z, layout=None):
        return self.inner(z.index_select(0, layout.batch), layout)


@pytest.mark.parametrize("pool", [None, SumAggregation()])
def test_the_elbo_scores_the_draw_that_it_decodes(make, pool, batch):
    model = model_of(make(3), pool)
    noise = torch.randn(3 if pool else 16, 3)
    q = model.posterior(batch)
    z = q.mean + q.stddev * noise
    likelihood = model.log_likelihood(batch, z)
    expected = likelihood + model.prior(q.layout).log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(elbo(model, batch, noise=noise), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(elbo(model, batch, 0.3, noise), likelihood + 0.3 * (expected - likelihood))
    torch.testing.assert_close(importance_bound(model, batch, 1, noise[None]), expected, rtol=1e-12, atol=1e-10)
    draws = torch.randn(5, *noise.shape)
    weights = torch.stack([elbo(model, batch, noise=eps) for eps in draws])
    bound = importance_bound(model, batch, 5, draws)
    torch.testing.assert_close(bound, weights.logsumexp(0) - math.log(5), rtol=1e-10, atol=1e-10)
    sampled, again = model.sample(4, 7), model.sample(4, 7)
    assert torch.equal(sampled.edge_index, again.edge_index)
    assert pool or torch.equal(sampled.x, again.x)


@pytest.mark.parametrize("name", PRIORS)
def test_priors_are_trained_saved_and_loaded(name, tmp_path):
    x = torch.randn(40, 5) + 3 * torch.randint(2, (40, 1))
    features = GaussianFeatures(Nodewise(nn.Linear(2, 6)), 6, 5)
    model = GraphVAE(PRIORS[name](2), NormalEncoder(Nodewise(nn.Linear(5, 8)), 8, 2), features=features)
    before = {key: value.clone() for key, value in model.prior.state_dict().items()}
    history = fit(model, x, epochs=15, progress=False)
    assert history.objective[-1] > history.objective[0]
    assert all(
        (model.prior.state_dict()[key] != value).any() for key, value in before.items() if value.dtype.is_floating_point
    )
    save(model, tmp_path)
    loaded, noise = load(tmp_path), torch.randn(40, 2)
    assert torch.equal(elbo(model, edgeless(x), noise=noise), elbo(loaded, edgeless(x), noise=noise))
    assert torch.equal(model.sample(3, 1).x, loaded.sample(3, 1).x)


def test_a_mixture_prior_is_learned_where_the_posterior_has_groups():
    """Free posteriors held at two places: the best prior has a component at each, and the KL falls to log 2."""
    places = torch.tensor([[-3.0], [3.0]]).repeat(50, 1)
    encoder = FreeNormal(100, 1)
    encoder.loc.data, encoder.log_scale.data = places, torch.full((100, 1), -1.0)
    prior, layout = NormalMixture(1, 2, spread=0.5), Layout.singles(100)
    q = encoder.requires_grad_(False)(places, None, layout)
    optimizer = torch.optim.Adam(prior.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        q.kl(prior(layout), q.sample()).mean().backward()
        optimizer.step()
    torch.testing.assert_close(prior.loc.flatten().sort().values, torch.tensor([-3.0, 3.0]), rtol=0, atol=0.15)
    kl = torch.stack([q.kl(prior(layout), q.sample()).mean() for _ in range(100)]).mean()
    assert kl.item() == pytest.approx(math.log(2), abs=0.05)


def test_flows_leave_the_checks_of_torch_distributions_on(monkeypatch):
    pytest.importorskip("zuko", reason="flows need zuko: pip install 'graphvae[flows]'")
    for name in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(Distribution, "_validate_args", True)
    Flow(2, 1, (4,))
    with pytest.raises(ValueError, match="to satisfy the constraint"):
        Normal(0.0, -1.0)


def test_a_missing_extra_names_its_install_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(ImportError, match=r"pip install 'graphvae\[flows\]'"):
        Flow(2)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="'components' must be positive, got 0"):
        NormalMixture(2, 0)
    with pytest.raises(ValueError, match="'spread' must be positive, got 0"):
        NormalMixture(2, 2, spread=0)
    with pytest.raises(ValueError, match="'transforms' must be positive, got 0"):
        Flow(2, transforms=0)


@torch.no_grad()
def test_half_precision_of_a_training_changes_little(make):
    prior, x, noise = (
        make(2).float(),
        torch.randn(200, 5, dtype=torch.float32),
        torch.randn(200, 2, dtype=torch.float32),
    )
    encoder = NormalEncoder(Nodewise(nn.Linear(5, 8)), 8, 2)
    features = GaussianFeatures(Nodewise(nn.Linear(2, 8)), 8, 5, FixedScale())
    model = GraphVAE(prior, encoder, features=features).float()
    exact = elbo(model, edgeless(x), noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        found = elbo(model, edgeless(x), noise=noise)
    assert found.dtype == torch.float32
    assert (found - exact).mean().abs() < 0.02 * exact.mean().abs()


@pytest.mark.parametrize(("passes", "expected"), [(2, 2), (None, 5)])
def test_passes_are_the_groups_of_dimensions(passes, expected):
    assert {transform.passes for transform in flow(5, passes=passes).transform.transforms} == {expected}
