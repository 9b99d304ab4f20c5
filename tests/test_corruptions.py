import pytest
import torch
from torch_geometric.data import Data

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless
from graphvae.backbones import Nodewise
from graphvae.corruptions import GaussianNoise, MaskingNoise, SaltAndPepper
from graphvae.encoders import PointEncoder
from graphvae.features import BernoulliFeatures
from graphvae.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")
CORRUPTIONS = [GaussianNoise(0.3), MaskingNoise(0.3), SaltAndPepper(0.3)]


def generator():
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=repr)
def test_only_the_features_change(corruption, batch):
    clean = batch.x.clone()
    corrupted = corruption(batch)
    assert not torch.equal(corrupted.x, clean)
    assert torch.equal(batch.x, clean)
    assert corrupted.layout is batch.layout
    assert torch.equal(corrupted.edge_index, batch.edge_index)
    parts = corrupted.to_data_list()
    assert torch.equal(torch.cat([graph.x for graph in parts]), corrupted.x)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=repr)
def test_edges_do_not_matter(corruption, batch):
    of_graphs = corruption(batch, generator()).x
    assert torch.equal(of_graphs, corruption(edgeless(batch.x), generator()).x)
    assert torch.equal(of_graphs, corruption(batch.to_data_list(), generator()).x)


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=repr)
def test_noise_is_fresh_and_repeats_with_its_generator(corruption, batch):
    assert not torch.equal(corruption(batch).x, corruption(batch).x)
    state = torch.get_rng_state()
    assert torch.equal(corruption(batch, generator()).x, corruption(batch, generator()).x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(3)
    first = corruption(batch).x
    torch.manual_seed(3)
    assert torch.equal(first, corruption(batch).x)


def test_moments():
    x = torch.full((100_000, 2), 0.7)
    noise = GaussianNoise(0.3)(edgeless(x)).x - x
    assert noise.mean().abs() < 4 * 0.3 / 200_000**0.5
    assert abs(noise.std() - 0.3) < 4 * 0.3 / 400_000**0.5
    assert noise.T.corrcoef()[0, 1].abs() < 4 / 100_000**0.5
    masked = MaskingNoise(0.3)(edgeless(x)).x
    error = (0.3 * 0.7 / x.numel()) ** 0.5
    assert masked.unique().tolist() == [0.0, 0.7]
    assert abs((masked == 0).double().mean() - 0.3) < 4 * error
    salted = SaltAndPepper(0.3, low=-1.0, high=2.0)(edgeless(x)).x
    assert salted.unique().tolist() == [-1.0, 0.7, 2.0]
    for value in (-1.0, 2.0):
        assert abs((salted == value).double().mean() - 0.15) < 4 * (0.15 * 0.85 / x.numel()) ** 0.5


def test_a_model_takes_corrupted_features_outside_the_support_of_its_likelihood():
    features = BernoulliFeatures(Nodewise(torch.nn.Identity()), 3, 4)
    model = GraphVAE(StandardNormal(3), PointEncoder(Nodewise(torch.nn.Linear(4, 3)), 3, 3), features=features)
    clean = model.batch(edgeless(torch.eye(4)))
    corrupted = GaussianNoise(0.3)(clean)
    expected = model.encoder(corrupted.x, corrupted.edge_index).mean
    assert torch.equal(model.posterior(corrupted).mean, expected)
    with pytest.raises(ValueError, match=r"'x' must be 0 or 1 .*for BernoulliFeatures"):
        model.batch(GaussianNoise(0.3)(edgeless(torch.eye(4))))


def test_sparse_features_become_dense():
    graph = random_graph(6, 0.4, seed=1)
    dense = MaskingNoise(0.5)(graph, generator()).x
    graph.x = graph.x.to_sparse_csr()
    assert torch.equal(MaskingNoise(0.5)(graph, generator()).x, dense)


@pytest.mark.parametrize("rate", [0.0, 1.0, float("nan")])
def test_bad_arguments_are_refused(rate):
    for kind in (MaskingNoise, SaltAndPepper):
        with pytest.raises(ValueError, match=f"'rate' must lie strictly between 0 and 1, got {rate}"):
            kind(rate)
    with pytest.raises(ValueError, match="'scale' must be positive and finite, got 0"):
        GaussianNoise(0)
    graph = Data(edge_index=random_graph(4, 0.5, seed=0).edge_index, num_nodes=4)
    with pytest.raises(ValueError, match="'graphs' must have node features 'x' to corrupt"):
        GaussianNoise(1.0)(as_batch(graph))
