import numpy as np
import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN, GCNConv
from torch_geometric.nn.aggr import SumAggregation

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo
from graphvae.backbones import Nodewise, Stack
from graphvae.edges import Bilinear, InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.features import BernoulliFeatures, CategoricalFeatures, GaussianFeatures
from graphvae.priors import EmpiricalSizes, StandardNormal


def model_with(edges=None, features=None, sizes=None, width=5):
    return GraphVAE(StandardNormal(3), NormalEncoder(GCN(width, 8, 2), 8, 3), edges, features, sizes)


def gaussian(width=5):
    return GaussianFeatures(Stack(GCNConv(3, 8), nn.Tanh()), 8, width)


def test_samples_are_valid_graphs_of_the_stated_sizes():
    model = model_with(InnerProduct(0.3), gaussian(), EmpiricalSizes([2, 5, 5, 9], smoothing=0.0))
    graphs = model.sample(300, torch.Generator().manual_seed(1))
    assert graphs.num_graphs == 300
    assert set(graphs.layout.host_sizes) == {2, 5, 9}
    parts = graphs.to_data_list()
    assert len(parts) == 300
    assert as_batch(parts).layout.host_sizes == graphs.layout.host_sizes
    assert parts[0].x.shape == (parts[0].num_nodes, 5)
    assert elbo(model, graphs).isfinite().all()


def test_the_density_of_samples_is_that_of_the_model():
    model = model_with(InnerProduct(0.2), sizes=EmpiricalSizes([12], smoothing=0.0)).double()
    nn.init.constant_(model.edges.log_scale, -30.0)  # Only the bias is left, so every pair has probability 0.2.
    graphs = model.sample(500, torch.Generator().manual_seed(1))
    share = graphs.edge_index.size(1) / (500 * 12 * 11)
    assert abs(share - 0.2) < 4 * (0.2 * 0.8 / (500 * 66)) ** 0.5


def test_sampling_is_reproducible_and_leaves_global_randomness_alone():
    model = model_with(InnerProduct(0.3), gaussian(), EmpiricalSizes([2, 5, 9]))
    state = torch.get_rng_state()
    first, second = (model.sample(20, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.edge_index, second.edge_index)
    assert torch.equal(torch.get_rng_state(), state)


def test_features_are_drawn_given_the_edges_that_were_drawn():
    model = model_with(InnerProduct(0.5), gaussian(), EmpiricalSizes([6], smoothing=0.0))
    nn.init.constant_(model.features.scale.head.bias, -50.0)
    nn.init.zeros_(model.features.scale.head.weight)
    model.prior.requires_grad_(False)
    graphs = model.sample(50, torch.Generator().manual_seed(2))
    z = model.prior(graphs.layout).sample(_after_sizes(model, 50, 2))
    expected = model.features(z, graphs.edge_index, graphs.layout).mean
    torch.testing.assert_close(graphs.x, expected, atol=0.05, rtol=0)


def _after_sizes(model, num_graphs, seed):
    generator = torch.Generator().manual_seed(seed)
    model.sizes().sample(num_graphs, generator)
    return generator


def test_vectors_are_sampled_without_sizes_or_edges():
    features = BernoulliFeatures(Nodewise(nn.Linear(3, 8)), 8, 4)
    model = GraphVAE(StandardNormal(3), NormalEncoder(Nodewise(nn.Linear(4, 8)), 8, 3), features=features)
    graphs = model.sample(10)
    assert graphs.x.shape == (10, 4)
    assert graphs.num_graphs == 10
    assert graphs.edge_index.size(1) == 0


def test_directed_models_take_directed_graphs_and_others_do_not():
    graph = random_graph(6, 0.4, seed=1, directed=True)
    assert elbo(model_with(Bilinear(3, 0.2)), graph).shape == (1,)
    with pytest.raises(ValueError, match="must hold both directions of an undirected edge"):
        elbo(model_with(InnerProduct(0.2)), graph)
    assert elbo(model_with(features=gaussian()), graph).shape == (1,)


@pytest.mark.parametrize(
    ("features", "x", "message"),
    [
        (lambda: gaussian(4), torch.zeros(3, 5), "'x' must have the model's 4 features, got 5"),
        (
            lambda: BernoulliFeatures(GCN(3, 8, 1), 8, 5),
            torch.full((3, 5), 0.5),
            r"'x' must be 0 or 1 .*for BernoulliFeatures, got x\[0, 0\] = 0.5",
        ),
        (
            lambda: CategoricalFeatures(GCN(3, 8, 1), 8, 5),
            torch.ones(3, 5),
            r"'x' must be OneHot for CategoricalFeatures, got x\[0\] = ",
        ),
        (lambda: None, None, "'graphs' must have node features 'x'"),
    ],
)
def test_features_outside_the_model_are_refused(features, x, message):
    graph = random_graph(3, 0.5, seed=0)
    graph.x, graph.num_nodes = x, 3
    with pytest.raises(ValueError, match=message):
        elbo(model_with(InnerProduct(0.2), features()), graph)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="'edges', 'features' or 'decoder' must be given"):
        model_with()
    with pytest.raises(ValueError, match="'sizes' must be given to sample graphs"):
        model_with(InnerProduct(0.2)).sample(3)
    with pytest.raises(ValueError, match="'num_graphs' must be positive, got 0"):
        model_with(InnerProduct(0.2), sizes=EmpiricalSizes([3])).sample(0)


@pytest.mark.parametrize("layout", [[1200], [700, 500]], ids=["one graph", "two graphs"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_precision_does_not_move_the_bound(dtype, layout):
    """A sum of thousands of terms in half precision stalls early: the bound would be too high."""
    model = model_with(InnerProduct(0.02), gaussian()).double()
    graphs = [random_graph(n, 0.02, seed=n) for n in layout]
    for graph in graphs:
        graph.x = graph.x.to(torch.bfloat16).double()
    noise = torch.randn(1200, 3).to(torch.bfloat16)
    model.to(torch.bfloat16).double()  # Weights that every type here can hold.
    exact = elbo(model, graphs, noise=noise.double())
    for graph in graphs:
        graph.x = graph.x.to(dtype)
    value = elbo(model.to(dtype), graphs, noise=noise.to(dtype))
    torch.testing.assert_close(value.double(), exact, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=0)
    value.sum().backward()
    assert model.encoder.loc.weight.grad.dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    model, batch = model_with(InnerProduct(0.2), gaussian()), as_batch([random_graph(n, 0.4, seed=n) for n in (6, 2)])
    noise = torch.randn(8, 3)
    here = elbo(model, batch, noise=noise)
    there = elbo(model.cuda(), batch.to("cuda"), noise=noise.cuda())
    torch.testing.assert_close(here, there.cpu(), rtol=1e-4, atol=1e-3)


def test_an_edgeless_batch_is_checked_against_the_model():
    features = BernoulliFeatures(Nodewise(nn.Linear(3, 8)), 8, 4)
    model = GraphVAE(StandardNormal(3), NormalEncoder(Nodewise(nn.Linear(4, 8)), 8, 3), features=features)
    with pytest.raises(ValueError, match="'x' must be 0 or 1"):
        elbo(model, edgeless(torch.full((3, 4), 0.5)))


def test_a_batch_checked_for_less_is_checked_again():
    """What `as_batch` lets through, a stricter model still refuses."""
    directed = as_batch(random_graph(6, 0.4, seed=1, directed=True), directed=True)
    with pytest.raises(ValueError, match="must hold both directions"):
        elbo(model_with(InnerProduct(0.2)), directed)
    real = as_batch(random_graph(6, 0.4, seed=1))
    with pytest.raises(ValueError, match="'x' must be 0 or 1"):
        elbo(model_with(InnerProduct(0.2), BernoulliFeatures(GCN(3, 8, 1), 8, 5)), real)
    with pytest.raises(ValueError, match=r"'x' must be torch.float64 as the model is, got torch.float32"):
        elbo(model_with(InnerProduct(0.2)).double(), real)


def test_latents_of_whole_graphs_need_a_factor_that_decodes_them():
    encoder = NormalEncoder(GCN(5, 8, 2), 8, 3, SumAggregation())
    sizes = EmpiricalSizes([4])
    for factors in ({"edges": InnerProduct(0.2)}, {"features": gaussian()}):
        model = GraphVAE(StandardNormal(3), encoder, **factors, sizes=sizes)
        with pytest.raises(ValueError, match="'z' must have one row for each of the 4 nodes, got 1"):
            elbo(model, random_graph(4, 0.5, seed=0))
        with pytest.raises(ValueError, match="'z' must have one row for each of the"):
            model.sample(3)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((2.5,), TypeError, "'num_graphs' must be an integer, got 2.5"),
        (("3",), TypeError, "'num_graphs' must be an integer, got '3'"),
        ((0,), ValueError, "'num_graphs' must be positive, got 0"),
        ((3, 1.5), TypeError, r"'generator' must be a torch.Generator, a seed \(an integer\) or None, got 1.5"),
        ((3, "1"), TypeError, "'generator' must be .*, got '1'"),
        ((3, True), TypeError, "'generator' must be .*, got True"),
    ],
)
def test_what_to_sample_must_be_numbers(arguments, error, message):
    with pytest.raises(error, match=message):
        model_with(InnerProduct(0.3), sizes=EmpiricalSizes([4])).sample(*arguments)


def test_seeds_may_be_numpys():
    model = model_with(InnerProduct(0.3), sizes=EmpiricalSizes([4]))
    first, second = model.sample(np.int64(5), np.int64(7)), model.sample(5, 7)
    assert torch.equal(first.edge_index, second.edge_index)


def test_dimensions_of_a_prior_are_whole():
    with pytest.raises(TypeError, match=r"'latent' must be an integer, got 2\.5"):
        StandardNormal(2.5)
