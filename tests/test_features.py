import math

import pytest
import scipy.stats
import torch
import torch.distributions as dist
from torch import nn
from torch_geometric.nn import GCNConv

from conftest import random_graph
from graphvae import GraphVAE, load, save
from graphvae.backbones import Nodewise, Stack
from graphvae.encoders import NormalEncoder
from graphvae.evaluation.likelihood import quadrature
from graphvae.features import (
    BernoulliFeatures,
    CategoricalFeatures,
    FixedScale,
    GaussianFeatures,
    LearnedScale,
    NegativeBinomialFeatures,
    NodeFeatures,
    NodeScale,
    PoissonFeatures,
)
from graphvae.graphs import as_batch, edgeless, permute
from graphvae.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")


def network():
    return Stack(GCNConv(2, 8), nn.Tanh())


FACTORS = {
    "gaussian, fixed": lambda: GaussianFeatures(network(), 8, 4, FixedScale(0.7)),
    "gaussian, shared": lambda: GaussianFeatures(network(), 8, 4, LearnedScale()),
    "gaussian, per feature": lambda: GaussianFeatures(network(), 8, 4, LearnedScale(4)),
    "gaussian, per node": lambda: GaussianFeatures(network(), 8, 4, NodeScale(8, 1)),
    "gaussian, per node and feature": lambda: GaussianFeatures(network(), 8, 4),
    "bernoulli": lambda: BernoulliFeatures(network(), 8, 4),
    "grey values": lambda: BernoulliFeatures(network(), 8, 4, intensities=True),
    "categorical": lambda: CategoricalFeatures(network(), 8, 4),
    "poisson": lambda: PoissonFeatures(network(), 8, 4),
    "negative binomial": lambda: NegativeBinomialFeatures(network(), 8, 4),
}
NONE = torch.empty(2, 0, dtype=torch.long)


@pytest.fixture(params=FACTORS)
def features(request):
    return FACTORS[request.param]()


@pytest.fixture
def batch():
    return as_batch([random_graph(n, 0.5, seed=n) for n in (5, 1, 3)])


def test_samples_are_in_the_support_and_have_one_log_prob_per_graph(features, batch):
    p = features(torch.randn(9, 2), batch.edge_index, batch.layout)
    x = p.sample(torch.Generator().manual_seed(0))
    assert x.shape == (9, 4)
    assert features.support.check(x).all()
    assert p.mean.shape == (9, 4)
    assert p.log_prob(x).shape == (3,)


def test_a_batch_equals_its_graphs(features, batch):
    z = torch.randn(9, 2)
    p = features(z, batch.edge_index, batch.layout)
    x = p.sample()
    alone = [
        features(z_part, graph.edge_index).log_prob(x_part)
        for z_part, x_part, graph in zip(z.split([5, 1, 3]), x.split([5, 1, 3]), batch.to_data_list(), strict=True)
    ]
    torch.testing.assert_close(p.log_prob(x), torch.cat(alone))


def test_the_decoder_is_equivariant_and_sees_the_edges(features, batch):
    z, order = torch.randn(9, 2), torch.cat([torch.randperm(5), torch.tensor([5]), 6 + torch.randperm(3)])
    p = features(z, batch.edge_index, batch.layout)
    moved = features(z[order], permute(batch, order).edge_index, batch.layout)
    torch.testing.assert_close(p.mean[order], moved.mean)
    assert not torch.allclose(p.mean, features(z, batch.edge_index[:, :0], batch.layout).mean)


def test_gaussian_density_is_the_textbook_one():
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 3, FixedScale(0.5))
    z, x = torch.randn(4, 2), torch.randn(4, 3)
    loc = features.loc(z)
    expected = -0.5 * (((x - loc) / 0.5) ** 2 + 2 * math.log(0.5) + math.log(2 * math.pi)).sum()
    torch.testing.assert_close(features(z, torch.empty(2, 0, dtype=torch.long)).log_prob(x)[0], expected)


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-4])
def test_a_fixed_scale_is_the_scale_given(scale):
    p = GaussianFeatures(Nodewise(nn.Identity()), 2, 3, FixedScale(scale))(torch.randn(4, 2), torch.empty(2, 0).long())
    torch.testing.assert_close(p.stddev, torch.full((4, 3), scale))


def test_bernoulli_and_categorical_probabilities_sum_to_one():
    none = torch.empty(2, 0, dtype=torch.long)
    z = torch.randn(1, 2)
    binary = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    bernoulli = BernoulliFeatures(network(), 8, 4)
    total = sum(bernoulli(z, none).log_prob(x[None]).exp() for x in binary)
    torch.testing.assert_close(total, torch.ones(1))
    categorical = CategoricalFeatures(network(), 8, 4)
    total = sum(categorical(z, none).log_prob(x[None]).exp() for x in torch.eye(4))
    torch.testing.assert_close(total, torch.ones(1))


def test_a_shrinking_scale_is_floored():
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 3, LearnedScale())
    features.scale.log_scale.data.fill_(-50.0)
    p = features(torch.randn(4, 2), torch.empty(2, 0, dtype=torch.long))
    torch.testing.assert_close(p.stddev, torch.full((4, 3), torch.tensor(-6.0).exp().item()))
    assert isinstance(p.base, dist.Normal)


def test_bad_scale_is_refused():
    with pytest.raises(ValueError, match="'scale' must be positive, got 0"):
        FixedScale(0)


def test_counts_have_the_probabilities_of_scipy():
    x, z = torch.arange(40.0)[:, None].expand(40, 2), torch.randn(1, 3).expand(40, 3)
    poisson = PoissonFeatures(Nodewise(nn.Identity()), 3, 2)
    rate = poisson.log_rate(z).exp().detach()
    expected = torch.from_numpy(scipy.stats.poisson.logpmf(x.numpy(), rate.numpy()))
    torch.testing.assert_close(poisson(z, NONE).base.log_prob(x), expected)
    binomial = NegativeBinomialFeatures(Nodewise(nn.Identity()), 3, 2)
    binomial.log_dispersion.data = torch.tensor([-1.0, 0.7])
    p = binomial(z, NONE)
    mean, dispersion = binomial.log_rate(z).exp().detach(), 1 / p.base.total_count.detach()
    # scipy's p is the probability of a success, of which there are n = 1 / dispersion.
    chance = (1 / (1 + dispersion * mean)).numpy()
    expected = torch.from_numpy(scipy.stats.nbinom.logpmf(x.numpy(), (1 / dispersion).numpy(), chance))
    torch.testing.assert_close(p.base.log_prob(x), expected)
    torch.testing.assert_close(p.mean, mean)
    torch.testing.assert_close(p.base.variance, mean + dispersion * mean**2)
    torch.testing.assert_close(dispersion[0].log(), torch.tensor([-1.0, 0.7]), rtol=0, atol=0.01)


def test_without_dispersion_counts_are_poisson():
    poisson, binomial = (kind(Nodewise(nn.Identity()), 3, 2) for kind in (PoissonFeatures, NegativeBinomialFeatures))
    binomial.log_rate = poisson.log_rate
    binomial.log_dispersion.data.fill_(-50.0)
    z, x = torch.randn(5, 3), torch.randint(4, (5, 2)).double()
    torch.testing.assert_close(binomial(z, NONE).log_prob(x), poisson(z, NONE).log_prob(x), rtol=0, atol=0.05)


@pytest.mark.parametrize("kind", [PoissonFeatures, NegativeBinomialFeatures])
@pytest.mark.parametrize("log_rate", [-1e4, 1e4])
def test_extreme_rates_stay_finite(kind, log_rate):
    features = kind(Nodewise(nn.Identity()), 3, 2).float()
    features.log_rate.bias.data.fill_(log_rate)
    value = features(torch.zeros(4, 3, dtype=torch.float), NONE).log_prob(
        torch.tensor([[0.0, 3.0]]).float().expand(4, 2)
    )
    value.backward()
    assert value.isfinite().all()
    assert features.log_rate.weight.grad.isfinite().all()


def test_grey_values_are_an_expectation_over_binarisations():
    features = BernoulliFeatures(network(), 8, 4, intensities=True)
    x, z = torch.rand(1, 4), torch.randn(1, 2)
    binary = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    chance = (binary * x + (1 - binary) * (1 - x)).prod(1)
    each = torch.cat([features(z, NONE).log_prob(b[None]) for b in binary])
    torch.testing.assert_close(features(z, NONE).log_prob(x)[0], (chance * each).sum())


def test_the_likelihood_of_grey_values_is_below_that_of_their_binarisations():
    features = BernoulliFeatures(Nodewise(nn.Linear(1, 8)), 8, 4, intensities=True)
    nn.init.normal_(features.logits.weight)
    model = GraphVAE(StandardNormal(1), NormalEncoder(Nodewise(nn.Identity()), 4, 1), features=features)
    x = torch.rand(3, 4)
    binary = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    chance = (binary * x[:, None] + (1 - binary) * (1 - x[:, None])).prod(2)
    over_binarisations = chance @ quadrature(model, edgeless(binary))
    assert (quadrature(model, edgeless(x)) < over_binarisations - 1e-3).all()


def test_grey_values_are_refused_unless_asked_for():
    model = GraphVAE(StandardNormal(2), NormalEncoder(Nodewise(nn.Identity()), 4, 2), features=FACTORS["bernoulli"]())
    with pytest.raises(ValueError, match=r"'x' must be 0 or 1 .*for BernoulliFeatures, got x\[0, 0\] = 0.5"):
        model.batch(edgeless(torch.full((2, 4), 0.5)))
    model.features = FACTORS["grey values"]()
    model.batch(edgeless(torch.full((2, 4), 0.5)))
    with pytest.raises(ValueError, match=r"'x' must be in \[0, 1\] for BernoulliFeatures, got x\[0, 0\] = 1.5"):
        model.batch(edgeless(torch.full((2, 4), 1.5)))
    model.features = FACTORS["poisson"]()
    with pytest.raises(ValueError, match=r"'x' must be counts 0, 1, 2, .* for PoissonFeatures, got x\[0, 0\] = 1.5"):
        model.batch(edgeless(torch.full((2, 4), 1.5)))


@pytest.mark.parametrize("name", ["grey values", "poisson", "negative binomial"])
def test_factors_are_saved_and_loaded(name, tmp_path):
    features = FACTORS[name]()
    save(features, tmp_path)
    loaded, z = load(tmp_path), torch.randn(3, 2)
    assert loaded.support is features.support
    assert torch.equal(loaded(z, NONE).mean, features(z, NONE).mean)


def test_a_replaced_scale_is_used_and_saved(tmp_path):
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 3, FixedScale(0.7))
    features.scale.fill_(0.2)
    save(features, tmp_path)
    for found in (features, load(tmp_path)):
        assert found.scale.scale == pytest.approx(0.2)
        torch.testing.assert_close(found(torch.randn(4, 2), NONE).stddev, torch.full((4, 3), 0.2))
    with pytest.raises(ValueError, match="'scale' must be positive, got -1"):
        features.scale.fill_(-1)


def test_the_family_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        NodeFeatures(network(), 8, 4)
