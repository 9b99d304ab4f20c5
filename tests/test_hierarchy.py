"""Priors with a variable of the graph above its nodes: densities, draws, and that bounds with them stay bounds."""

import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.distributions import Normal
from torch_geometric.data import Data
from torch_geometric.nn import GCN

from conftest import random_graph
from graphvae import GraphVAE, edgeless, elbo, fit, load, save
from graphvae.bounds import Gradient, expected_elbo, importance_bound
from graphvae.contracts import check_same_kind
from graphvae.distributions import PerGraph
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.evaluation.likelihood import quadrature
from graphvae.expectations import Pathwise
from graphvae.features import FixedScale, GaussianFeatures
from graphvae.hierarchy import GraphLevelPrior, SharedMixture
from graphvae.layout import Layout
from graphvae.objectives import free_bits
from graphvae.priors import EmpiricalSizes, NormalMixture
from graphvae.testing import assert_permutation_invariant

pytestmark = pytest.mark.usefixtures("double")
SIZES = [3, 1, 2]
PRIORS = {
    "shared mixture": lambda latent: SharedMixture(latent, 3),
    "shared mixture of groups": lambda latent: SharedMixture(latent, 3, groups=4),
    "graph level": lambda latent: GraphLevelPrior(latent, 2, 8),
    "graph level, mixtures": lambda latent: GraphLevelPrior(latent, 2, 8, components=2, draws=3),
    "graph level under a mixture": lambda latent: GraphLevelPrior(latent, 2, 8, above=NormalMixture(2, 3)),
}
EXACT = ("shared mixture", "shared mixture of groups")


def moved(prior):
    """With weights that are not those it starts with, and an inference network wide enough for finite variance."""
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
        if isinstance(prior, GraphLevelPrior):
            widen(prior.inference[-1], prior.graph_latent)
            for tensor in prior.conditional[-1].parameters():  # Scales that a grid can resolve.
                tensor.unflatten(0, (prior.components, -1))[:, -prior.latent :].mul_(0.2)
    return prior


def widen(last, latent):
    last.weight.mul_(0.3)
    last.bias.mul_(0.3)
    last.bias[-latent:].add_(0.4)


@pytest.fixture(params=PRIORS)
def prior(request):
    return moved(PRIORS[request.param](2))


@pytest.fixture(params=EXACT)
def exact(request):
    return moved(PRIORS[request.param](1))


@pytest.fixture(params=[name for name in PRIORS if name not in EXACT])
def estimated(request):
    return moved(PRIORS[request.param](1))


def line(points=49, reach=12.0):
    found = torch.linspace(-reach, reach, points)
    return found, found[1] - found[0]


def pairs_of_latents():
    """Both latents of graphs of two nodes on a grid: `(P * P * 2, 1)`, the layout, and the area of a cell."""
    points, step = line()
    z = torch.cartesian_prod(points, points)
    return z.reshape(-1, 1), Layout.of([2] * len(z)), step**2


def log_density(prior, z, layout, points=27):
    """Log p(Z) of a prior with one-dimensional latents, by quadrature over w where there is one: `(B,)`."""
    if isinstance(prior, SharedMixture):
        return prior(layout).log_prob(z)
    step = line(points, 8.0)
    grid = torch.cartesian_prod(step[0], step[0])
    total = []
    for w in grid.split(200):
        many, graphs = layout.repeated(len(w)), Layout.singles(len(w) * layout.num_graphs)
        rows = w.repeat_interleave(layout.num_graphs, 0)
        logits, loc, log_scale = (part[many.batch] for part in prior.given(rows, many))
        parts = logits.log_softmax(1) + Normal(loc, log_scale.exp()).log_prob(z.repeat(len(w), 1)[:, None]).sum(2)
        log_p = prior.above(graphs).log_prob(rows) + many.sum(parts.logsumexp(1))
        total.append(log_p.view(len(w), -1).logsumexp(0))
    return torch.stack(total).logsumexp(0) + 2 * step[1].log()


@torch.no_grad()
def test_exact_densities_integrate_to_one_and_draws_follow_them(exact):
    z, layout, cell = pairs_of_latents()
    density = exact(layout).log_prob(z).exp()
    assert (density.sum() * cell).item() == pytest.approx(1, abs=1e-3)
    drawn = exact(Layout.of([2] * 20_000)).sample(torch.Generator().manual_seed(0)).view(-1, 2)
    check_moments(drawn, z.view(-1, 2), density * cell)


@torch.no_grad()
def test_draws_follow_the_density_under_a_latent_of_the_graph(estimated):
    points, step = line()
    z = torch.cartesian_prod(points, points)
    density = log_density(estimated, z.reshape(-1, 1), Layout.of([2] * len(z))).exp()
    assert (density.sum() * step**2).item() == pytest.approx(1, abs=0.01)
    drawn = estimated(Layout.of([2] * 20_000)).sample(torch.Generator().manual_seed(0)).view(-1, 2)
    check_moments(drawn, z, density * step**2)


def check_moments(drawn, z, mass):
    """The two nodes of a graph together: their products say how they depend on each other."""
    for moment in (
        lambda z: z.sum(1),
        lambda z: z.square().sum(1),
        lambda z: z[:, 0] * z[:, 1],
        lambda z: z[:, 0].sin(),
    ):
        expected, values = (moment(z) * mass).sum(), moment(drawn)
        assert abs(values.mean() - expected) < 4.5 * values.std() / len(drawn) ** 0.5 + 1e-2


def test_nodes_of_a_graph_depend_on_each_other():
    """What independent rows cannot: two nodes at the same mean are likelier than at one each."""
    prior = SharedMixture(1, 2)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[-4.0], [4.0]]))
    z = torch.tensor([[4.0], [4.0], [-4.0], [4.0]])
    together, apart = prior(Layout.of([2, 2])).log_prob(z).tolist()
    assert together > apart + 20
    alone = prior(Layout.singles(4)).log_prob(z)
    torch.testing.assert_close(alone, alone[0].expand(4))


def test_the_shared_mixture_is_the_textbook_density(exact):
    z, layout = torch.randn(6, 1), Layout.of(SIZES)
    expected = []
    for rows in z.split(SIZES):
        total = torch.zeros(())
        for weight, c in zip(exact.logits.softmax(0), range(3), strict=True):
            densities = Normal(exact.loc, exact.log_scale.exp()).log_prob(rows[:, None]).exp()[:, :, 0]
            mixed = densities[:, c] if exact.groups is None else densities @ exact.shares[c].softmax(0)
            total = total + weight * mixed.prod()
        expected.append(total.log())
    torch.testing.assert_close(exact(layout).log_prob(z), torch.stack(expected))


@torch.no_grad()
def test_the_estimated_density_is_right_on_average_and_its_logarithm_below(estimated):
    z, layout = torch.randn(5, 1), Layout.of([2, 3])
    target = log_density(estimated, z, layout)
    drawn = estimated(layout.repeated(20_000)).log_prob(z.repeat(20_000, 1)).view(-1, 2)
    ratios = (drawn - target).exp()
    error = ratios.std(0) / len(ratios) ** 0.5
    assert ((ratios.mean(0) - 1).abs() < 4.5 * error + 1e-3).all()
    assert error.max() < 0.1, "or the test above could not fail"
    assert (drawn.mean(0) < target).all()


@torch.no_grad()
def test_more_draws_are_tighter():
    prior, z, layout = moved(GraphLevelPrior(1, 2, 8)), torch.randn(3, 1), Layout.single(3)
    means = []
    for draws in (1, 4, 16):
        prior.draws = draws
        means.append(prior(layout.repeated(4000)).log_prob(z.repeat(4000, 1)).mean().item())
    assert means[0] < means[1] < means[2] <= log_density(prior, z, layout).item() + 0.02


def test_an_order_of_the_nodes_means_nothing(prior):
    z, layout, orders = torch.randn(6, 2), Layout.of(SIZES), torch.tensor([2, 0, 1, 3, 5, 4])
    noise = [prior(layout).log_prob(_seeded(rows)) for rows in (z, z[orders])]
    torch.testing.assert_close(*noise, rtol=1e-12, atol=1e-12)


def _seeded(rows):
    torch.manual_seed(5)
    return rows


def test_a_batch_equals_its_graphs(prior):
    z, layout = torch.randn(6, 2), Layout.of(SIZES)
    if isinstance(prior, GraphLevelPrior):
        q = prior.posterior(z, layout)
        alone = [prior.posterior(part, Layout.single(len(part))).mean for part in z.split(SIZES)]
        torch.testing.assert_close(q.mean, torch.cat(alone))
        w = torch.randn(3, 2)
        together = prior.given(w, layout)
        parts = [prior.given(row[None], Layout.single(n)) for row, n in zip(w, SIZES, strict=True)]
        for k in range(3):
            torch.testing.assert_close(together[k], torch.cat([part[k] for part in parts]))
    else:
        alone = [prior(Layout.single(len(part))).log_prob(part) for part in z.split(SIZES)]
        torch.testing.assert_close(prior(layout).log_prob(z), torch.cat(alone))


def test_gradients_are_those_of_finite_differences(prior):
    z, layout = torch.randn(6, 2, requires_grad=True), Layout.of(SIZES)
    assert torch.autograd.gradcheck(lambda z: prior(layout).log_prob(_seeded(z)), z)


def test_a_generator_decides_the_draw(prior):
    layout = Layout.of(SIZES)
    state = torch.get_rng_state()
    first, second = (prior(layout).sample(torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (6, 2)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_parameter_gets_a_gradient(prior):
    prior(Layout.of(SIZES)).log_prob(torch.randn(6, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in prior.parameters())


def test_it_starts_near_independent_standard_normals():
    prior = GraphLevelPrior(3, 2)
    drawn = prior(Layout.of([10] * 500)).sample()
    assert abs(drawn.mean()) < 0.2
    assert 0.8 < drawn.std() < 1.2


def model_of(prior, features=5):
    encoder = NormalEncoder(GCN(features, 8, 2), 8, prior.latent)
    return GraphVAE(prior, encoder, InnerProduct(0.4), sizes=EmpiricalSizes([5, 6, 7]))


GRAPHS = [random_graph(n, 0.4, seed=n) for n in (5, 6, 7)]


def graphs_in_double():
    return [Data(x=graph.x.double(), edge_index=graph.edge_index) for graph in GRAPHS]


def test_bounds_take_it_and_what_needs_a_closed_kl_refuses(prior):
    model, graphs = model_of(prior), graphs_in_double()
    q = model.posterior(graphs)
    p = prior(q.layout)
    check_same_kind(q, p)
    with pytest.raises(ValueError, match="'z' must be given, there is no closed KL of Normal to"):
        q.kl(p)
    with pytest.raises(TypeError, match=r"must have a closed KL divergence, there is none of .*; use StandardNormal"):
        q.kl_of_rows(p)
    with pytest.raises(TypeError, match="must have a closed KL divergence"):
        free_bits(model, graphs, 0.1)
    assert elbo(model, graphs).shape == (3,)
    assert expected_elbo(model, graphs, Pathwise(4)).isfinite().all()
    for gradient in (Gradient.PLAIN, Gradient.STL, Gradient.DREG, Gradient.VIMCO):
        importance_bound(model, graphs, 4, gradient=gradient).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert_permutation_invariant(model, graphs)


def test_it_trains_samples_and_is_saved(prior, tmp_path):
    model, graphs = model_of(prior), graphs_in_double()
    with torch.no_grad():
        before = torch.stack([elbo(model, graphs).mean() for _ in range(50)]).mean()
    fit(model, graphs, epochs=80, progress=False, accelerator=Accelerator(cpu=True))
    with torch.no_grad():
        after = torch.stack([elbo(model, graphs).mean() for _ in range(50)]).mean()
    assert after > before
    save(model, tmp_path)
    again, one = load(tmp_path), model.sample(7, generator=2)
    assert torch.equal(one.edge_index, again.sample(7, generator=2).edge_index)


def vector_model(prior):
    features = GaussianFeatures(nn.Linear(1, 3), 3, 2, FixedScale(0.7))
    return GraphVAE(prior, NormalEncoder(nn.Linear(2, 4), 4, 1), features=features)


@torch.no_grad()
def test_quadrature_refuses_what_is_estimated_and_takes_what_is_not(prior):
    x = torch.randn(2, 2)
    if isinstance(prior, GraphLevelPrior):
        with pytest.raises(ValueError, match=r"a prior whose density is computed.*GraphLevelPrior estimates it"):
            quadrature(vector_model(GraphLevelPrior(1, 2)), edgeless(x))
    else:
        assert quadrature(vector_model(SharedMixture(1, 2)), edgeless(x)).isfinite().all()


@torch.no_grad()
def test_bounds_are_below_the_likelihood_and_importance_weights_right_on_average(exact_or_estimated):
    """Graphs of two nodes with one-dimensional latents: log p(G) by a grid over both latents (and w)."""
    prior = exact_or_estimated
    model = model_of(prior, features=2)
    widen(model.encoder.log_scale, 1)
    graph = Data(x=torch.randn(2, 2), edge_index=torch.tensor([[0, 1], [1, 0]]))
    points, step = line()
    z = torch.cartesian_prod(points, points)
    layout = Layout.of([2] * len(z))
    edge_index = torch.stack([torch.arange(0, 2 * len(z), 2), torch.arange(1, 2 * len(z), 2)])
    given = model.edges(z.reshape(-1, 1), layout).log_prob(torch.cat([edge_index, edge_index.flip(0)], 1))
    sizes = model.sizes().log_prob(torch.tensor([2]))
    log_p = (given + log_density(prior, z.reshape(-1, 1), layout) + 2 * step.log()).logsumexp(0) + sizes
    draws, graphs = 10_000, model.batch([graph] * 500)
    weights = torch.cat([importance_bound(model, graphs, 1) for _ in range(draws // 500)])
    ratios = (weights - log_p).exp()
    assert abs(ratios.mean() - 1) < 4.5 * ratios.std() / draws**0.5 + 5e-3
    assert ratios.std() / draws**0.5 < 0.05, "or the test above could not fail"
    assert weights.mean() < log_p
    elbos = torch.cat([elbo(model, graphs) for _ in range(4)])
    assert abs(elbos.mean() - weights.mean()) < 4.5 * (elbos.std() / 2000**0.5 + weights.std() / draws**0.5)
    many = importance_bound(model, graphs, 20)
    assert weights.mean() < many.mean() < log_p + 4.5 * many.std() / 500**0.5


@pytest.fixture(params=["shared mixture", "graph level", "graph level, mixtures"])
def exact_or_estimated(request):
    return moved(PRIORS[request.param](1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SharedMixture(2, 0), "'components' must be positive, got 0"),
        (lambda: SharedMixture(2, 2, groups=0), "'groups' must be positive, got 0"),
        (lambda: SharedMixture(2, 2, spread=0.0), "'spread' must be positive, got 0.0"),
        (lambda: GraphLevelPrior(2, 0), "'graph_latent' must be positive, got 0"),
        (lambda: GraphLevelPrior(2, 3, above=NormalMixture(2, 3)), "'graph_latent' = 3 dimensions, got 2"),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_single_precision_of_half_precision_latents():
    z = torch.randn(6, 2)
    for prior in (SharedMixture(2, 3).float(), GraphLevelPrior(2, 2, 4).float()):
        assert prior(Layout.of(SIZES)).log_prob(z.bfloat16()).dtype == torch.float32


def test_the_posterior_of_the_graph_latent_is_a_distribution_over_graphs():
    prior, z = GraphLevelPrior(2, 3, 8), torch.randn(6, 2)
    q = prior.posterior(z, Layout.of(SIZES))
    assert isinstance(q, PerGraph)
    assert q.mean.shape == (3, 3)
    assert math.isfinite(q.log_prob(q.rsample()).sum().item())
