import pytest
import torch
from torch import nn
from torch_geometric.nn import GATv2Conv, GCNConv, GINConv, MaxAggregation, SumAggregation

from conftest import random_graph
from graphvae import GraphVAE, elbo, importance_bound
from graphvae.backbones import GraphConvolution, HopMix, Nodewise, Propagation, Stack
from graphvae.distributions import PerGraph
from graphvae.edges import (
    Bilinear,
    DegreeCorrected,
    DenseEdges,
    Estimated,
    IndefiniteInnerProduct,
    InnerProduct,
    Positioned,
)
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.estimates import SampledPairs
from graphvae.features import BernoulliFeatures, CategoricalFeatures, GaussianFeatures, LearnedScale
from graphvae.priors import StandardNormal
from graphvae.testing import assert_permutation_invariant

pytestmark = pytest.mark.usefixtures("double")
SIZES = [7, 4, 1, 6]
LATENT = 3


def graphs_of(directed=False):
    return [random_graph(n, 0.5, seed=n, directed=directed) for n in SIZES]


def model_of(encoder=None, edges=None, features=None, prior=None):
    encoder = encoder or NormalEncoder(Stack(GCNConv(5, 6), nn.Tanh()), 6, LATENT)
    return GraphVAE(prior or StandardNormal(LATENT), encoder, edges or InnerProduct(0.3), features)


BACKBONES = {
    "GCN": lambda: Stack(GCNConv(5, 6), nn.Tanh()),
    "ours": lambda: Stack(GraphConvolution(5, 6), nn.Tanh()),
    "GIN": lambda: Stack(GINConv(nn.Sequential(nn.Linear(5, 6), nn.Tanh())), GINConv(nn.Linear(6, 6))),
    "GAT": lambda: Stack(GATv2Conv(5, 6), nn.Dropout(0.5)),
    "propagation": lambda: Stack(nn.Linear(5, 6), Propagation()),
    "hops": lambda: Stack(nn.Linear(5, 6), HopMix(2)),
    "rows": lambda: Nodewise(nn.Linear(5, 6)),
}
EDGES = {
    "inner product": lambda: InnerProduct(0.3, nn.Linear(LATENT, 4)),
    "indefinite": lambda: IndefiniteInnerProduct(LATENT, 0.3),
    "degree-corrected": lambda: DegreeCorrected(0.3),
    "bilinear": lambda: Bilinear(LATENT, 0.3),
    "estimated": lambda: Estimated(InnerProduct(0.3), SampledPairs(5)),
}
FEATURES = {
    "normal": (lambda: GaussianFeatures(Stack(GCNConv(LATENT, 6), nn.Tanh()), 6, 5, LearnedScale(5)), lambda x: x),
    "binary": (lambda: BernoulliFeatures(Nodewise(nn.Linear(LATENT, 6)), 6, 5), lambda x: (x > 0).to(x)),
    "classes": (
        lambda: CategoricalFeatures(Nodewise(nn.Linear(LATENT, 6)), 6, 5),
        lambda x: nn.functional.one_hot(x.argmax(1), 5).to(x),
    ),
}


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("encoder", [NormalEncoder, PointEncoder])
@pytest.mark.parametrize("pool", [None, SumAggregation, MaxAggregation])
def test_the_encoders_pass(backbone, encoder, pool):
    edges = InnerProduct(0.3) if pool is None else Sized()
    model = model_of(encoder(BACKBONES[backbone](), 6, LATENT, pool=pool and pool()), edges)
    assert_permutation_invariant(model, graphs_of())


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("features", FEATURES)
def test_the_decoders_pass(edges, features):
    factor, (make, values) = EDGES[edges](), FEATURES[features]
    graphs = graphs_of(factor.directed)
    for graph in graphs:
        graph.x = values(graph.x)
    assert_permutation_invariant(model_of(edges=factor, features=make()), graphs)


def test_it_passes_in_single_precision():
    torch.set_default_dtype(torch.float32)
    encoder = NormalEncoder(Stack(GINConv(nn.Linear(5, 16)), GINConv(nn.Linear(16, 6))), 6, LATENT)
    features = GaussianFeatures(Stack(GCNConv(LATENT, 6), nn.Tanh()), 6, 5)
    assert_permutation_invariant(model_of(encoder, features=features), [random_graph(60, 0.3, seed=1)])


class Sized(nn.Module):
    """An edge factor on latents of whole graphs that treats all nodes alike."""

    directed = False

    def forward(self, z, layout=None):
        return InnerProduct(0.3)(z.sum(1, keepdim=True)[layout.batch], layout)


class Numbered(nn.Module):
    """A backbone that is told the number of each node."""

    def forward(self, x, edge_index):
        return torch.cat([x, torch.linspace(0, 1, len(x))[:, None]], 1)


class FirstNode(SumAggregation):
    """Pooling that takes the first node of each graph."""

    def forward(self, x, index=None, ptr=None, dim_size=None, dim=-2):
        first = torch.full((dim_size,), len(x)).scatter_reduce(0, index, torch.arange(len(x)), "amin")
        return x[first]


class NumberedScale(nn.Module):
    """An encoder of which only the scale depends on the numbering."""

    def forward(self, x, edge_index, layout=None):
        scale = 1 + torch.arange(len(x))[:, None].expand(-1, LATENT) / 100
        return PerGraph(torch.distributions.Normal(x[:, :LATENT], scale), layout)


class Asymmetric(nn.Module):
    """An edge factor that says it is undirected, with scores of a directed one."""

    directed = False

    def __init__(self):
        super().__init__()
        self.bilinear = Bilinear(LATENT, 0.3)

    def forward(self, z, layout=None):
        edges = self.bilinear(z, layout)
        edges.directed = False
        return edges


class FreePrior(nn.Module):
    """A prior with a mean for each row."""

    def forward(self, layout):
        loc = torch.arange(float(layout.num_rows))[:, None].expand(-1, LATENT)
        return PerGraph(torch.distributions.Normal(loc, 1.0), layout)


BROKEN = {
    "encoder": (
        lambda: {"encoder": NormalEncoder(Numbered(), 6, LATENT)},
        "the mean of the encoder NormalEncoder must move with the nodes when they are relabelled; .*node numbers",
    ),
    "free encoder": (
        lambda: {"encoder": FreeNormal(sum(SIZES), LATENT)},
        "the standard deviation of the encoder FreeNormal must move with the nodes",
    ),
    "scale": (
        lambda: {"encoder": NumberedScale()},
        "the standard deviation of the encoder NumberedScale must move with the nodes",
    ),
    "pooling": (
        lambda: {"encoder": NormalEncoder(BACKBONES["GCN"](), 6, LATENT, pool=FirstNode()), "edges": Sized()},
        "the mean of the encoder NormalEncoder must not change .*pooling that depends on the order",
    ),
    "prior": (lambda: {"prior": FreePrior()}, r"log p\(Z\) of the prior must not change .*parameters of single nodes"),
    "edges": (
        lambda: {"edges": Asymmetric()},
        r"log p\(A \| Z\) of the edge factor Asymmetric must not change .*scores that are not symmetric",
    ),
    "places": (
        lambda: {"edges": Positioned(InnerProduct(0.3), 7, LATENT)},
        r"log p\(A \| Z\) of the edge factor Positioned must not change .*use the bounds over orderings",
    ),
    "whole graphs": (
        lambda: {
            "encoder": NormalEncoder(BACKBONES["GCN"](), 6, LATENT, pool=SumAggregation()),
            "edges": DenseEdges(7, LATENT, 0.3),
        },
        r"log p\(A \| Z\) of the edge factor DenseEdges must not change .*use the bounds over orderings",
    ),
    "features": (
        lambda: {"features": GaussianFeatures(Numbered(), 4, 5)},
        r"log p\(X \| A, Z\) of the feature factor GaussianFeatures must not change .*node numbers",
    ),
}


@pytest.mark.parametrize("part", BROKEN)
def test_the_part_that_fails_is_named(part):
    make, message = BROKEN[part]
    model = model_of(**make())
    if part == "free encoder":
        nn.init.normal_(model.encoder.log_scale)
    with pytest.raises(AssertionError, match=message + ".*Largest difference"):
        assert_permutation_invariant(model, graphs_of())


def test_bounds_pass_if_the_noise_moves_with_the_nodes():
    model, noise = model_of(), torch.randn(sum(SIZES), LATENT)
    assert_permutation_invariant(lambda graphs, e: elbo(model, graphs, noise=e), graphs_of(), noise)
    particles = torch.randn(sum(SIZES), 4, LATENT)
    assert_permutation_invariant(
        lambda graphs, e: importance_bound(model, graphs, 4, noise=e.movedim(1, 0)), graphs_of(), particles
    )


def test_a_bound_fails_if_the_noise_stays():
    model = model_of()
    with pytest.raises(AssertionError, match=r"the value of the function must not change .*noise that does not move"):
        assert_permutation_invariant(lambda graphs: elbo(model, graphs), graphs_of())


def test_a_bound_of_a_model_that_depends_on_the_order_fails():
    model, noise = model_of(edges=Positioned(InnerProduct(0.3), 7, LATENT)), torch.randn(sum(SIZES), LATENT)
    with pytest.raises(AssertionError, match=r"must not change .*usual causes: node numbers.*bounds over orderings"):
        assert_permutation_invariant(lambda graphs, e: elbo(model, graphs, noise=e), graphs_of(), noise)


def test_a_bound_on_whole_graphs_passes_with_noise_that_stays():
    """The noise of whole graphs is the same in every call, as the random state is."""
    model = model_of(NormalEncoder(BACKBONES["GCN"](), 6, LATENT, pool=SumAggregation()), Sized())
    assert_permutation_invariant(lambda graphs: elbo(model, graphs), graphs_of())


def test_a_factor_alone():
    def log_prob_of(factor):
        return lambda graphs, z: factor(z, graphs.layout).log_prob(graphs.edge_index)

    z = torch.randn(sum(SIZES), LATENT)
    assert_permutation_invariant(log_prob_of(Bilinear(LATENT, 0.3)), graphs_of(directed=True), z)
    with pytest.raises(AssertionError, match="must not change"):
        assert_permutation_invariant(log_prob_of(Positioned(Bilinear(LATENT, 0.3), 7, LATENT)), graphs_of(True), z)


@pytest.mark.parametrize("change", [1e-6, float("nan")])
def test_a_small_difference_and_one_that_is_no_number_are_found(change):
    def value(graphs):
        first = graphs.x[graphs.ptr[:-1], 0] > graphs.x[:, 0].median()
        return graphs.layout.sum(graphs.x) + change * first

    with pytest.raises(AssertionError, match="Largest difference"):
        assert_permutation_invariant(value, graphs_of())


def test_the_tolerance_is_the_callers_and_infinities_are_equal():
    def value(graphs):
        return 1e-6 * graphs.x[graphs.ptr[:-1], 0]

    assert_permutation_invariant(value, graphs_of(), rtol=1e-4)
    assert_permutation_invariant(lambda graphs: graphs.layout.sum(graphs.x) - torch.inf, graphs_of())


def test_modes_gradients_and_random_state_are_left_alone():
    encoder = NormalEncoder(Stack(GCNConv(5, 6), nn.Dropout(0.5), nn.BatchNorm1d(6)), 6, LATENT)
    model = model_of(encoder)
    model.encoder.backbone.layers[2].eval()
    broken = model_of(edges=Asymmetric())
    modes, state = [module.training for module in model.modules()], torch.get_rng_state()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert_permutation_invariant(model, graphs_of())
    assert_permutation_invariant(lambda graphs: torch.rand(1).expand(len(SIZES)), graphs_of())
    with pytest.raises(AssertionError):
        assert_permutation_invariant(broken, graphs_of())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, g: assert_permutation_invariant(m, g, relabellings=0), "'relabellings' must be positive, got 0"),
        (lambda m, g: assert_permutation_invariant(m, g, torch.zeros(18, 3)), "'noise' is for a function"),
        (lambda m, g: assert_permutation_invariant(m, g[2:3]), "graph of at least two nodes"),
        (
            lambda m, g: assert_permutation_invariant(lambda a, e: e.sum(), g, torch.zeros(4, 3)),
            "each of the 18 nodes, got 4",
        ),
        (
            lambda m, g: assert_permutation_invariant(lambda a: a.x.sum(), g),
            r"each of the 4 graphs, got shape \(\)",
        ),
        (lambda m, g: assert_permutation_invariant(lambda a: 1.0, g), "each of the 4 graphs, got float"),
    ],
)
def test_what_cannot_be_tested_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call(model_of(), graphs_of())
