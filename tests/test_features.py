import math

import pytest
import torch
import torch.distributions as dist
from torch import nn
from torch_geometric.nn import GCNConv

from conftest import random_graph
from graphvae.backbones import Nodewise, Stack
from graphvae.features import (
    BernoulliFeatures,
    CategoricalFeatures,
    FixedScale,
    GaussianFeatures,
    LearnedScale,
    NodeScale,
)
from graphvae.graphs import as_batch, permute

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
    "categorical": lambda: CategoricalFeatures(network(), 8, 4),
}


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
