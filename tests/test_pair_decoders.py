"""Decoders that score pairs and types: their formulas, equivariance, where they start, and that they train and save."""

import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.functional import one_hot
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN

from conftest import all_edge_sets, random_graph, random_types, typed_graphs
from graphvae import GraphVAE, elbo, fit, load, save
from graphvae import edges as promised
from graphvae.bounds import importance_bound
from graphvae.edges import Estimated, IndefiniteInnerProduct, Positioned
from graphvae.encoders import NormalEncoder
from graphvae.estimates import SampledPairs
from graphvae.graphs import as_batch, density, permute
from graphvae.layout import Layout
from graphvae.objectives import kipf_welling
from graphvae.pair_decoders import HadamardMLP, TypedHadamardMLP, TypedInnerProduct, type_densities
from graphvae.pair_scores import all_pairs
from graphvae.priors import EmpiricalSizes, StandardNormal
from graphvae.testing import assert_permutation_invariant

pytestmark = pytest.mark.usefixtures("double")
PLAIN = {
    "hadamard": lambda: HadamardMLP(3, 8, 0.3),
    "hadamard with network": lambda: HadamardMLP(6, 8, 0.3, nn.Sequential(nn.Linear(3, 6), nn.Tanh())),
}
TYPED = {
    "typed hadamard": lambda: TypedHadamardMLP(3, 8, [0.2, 0.1]),
    "typed inner product": lambda: TypedInnerProduct(3, [0.2, 0.1]),
    "typed inner product with network": lambda: TypedInnerProduct(6, [0.2, 0.1], nn.Linear(3, 6)),
}


def _with_random_weights(factor):
    for parameter in factor.parameters():
        nn.init.normal_(parameter)
    return factor


@pytest.fixture(params=PLAIN)
def plain(request):
    return _with_random_weights(PLAIN[request.param]())


@pytest.fixture(params=TYPED)
def typed(request):
    return _with_random_weights(TYPED[request.param]())


@pytest.fixture(params=PLAIN | TYPED)
def any_factor(request):
    return _with_random_weights((PLAIN | TYPED)[request.param]())


def typed_graph(num_nodes, seed, types=2):
    graph = random_graph(num_nodes, 0.5, seed=seed)
    graph.edge_type = random_types(graph, types)
    return graph


def log_prob(factor, z, graph, layout=None):
    """Of a graph whose types count if the factor has any."""
    types = (graph.edge_type,) if hasattr(factor, "edge_types") else ()
    return factor(z, layout).log_prob(graph.edge_index, *types)


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
def test_probabilities_of_all_graphs_sum_to_one(plain, num_nodes):
    edges = plain(torch.randn(num_nodes, 3))
    total = sum(edges.log_prob(graph).exp() for graph in all_edge_sets(num_nodes, False))
    torch.testing.assert_close(total, torch.ones(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
def test_probabilities_of_all_typed_graphs_sum_to_one(typed, num_nodes):
    edges = typed(torch.randn(num_nodes, 3))
    total = sum(edges.log_prob(*graph).exp() for graph in typed_graphs(num_nodes, 2))
    torch.testing.assert_close(total, torch.ones(1), rtol=0, atol=1e-12)


def test_a_batch_equals_its_graphs(any_factor):
    sizes = [4, 1, 7, 2]
    graphs = [typed_graph(n, seed=n) for n in sizes]
    batch, layout = Batch.from_data_list(graphs), Layout.of(sizes)
    z = torch.randn(14, 3)
    together = log_prob(any_factor, z, batch, layout)
    alone = [log_prob(any_factor, part, graph) for part, graph in zip(z.split(sizes), graphs, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_relabelling_changes_nothing(any_factor):
    graph, z, order = typed_graph(8, seed=3), torch.randn(8, 3), torch.randperm(8)
    new = Data(edge_index=order.argsort()[graph.edge_index], edge_type=graph.edge_type, num_nodes=8)
    torch.testing.assert_close(
        log_prob(any_factor, z, graph), log_prob(any_factor, z[order], new), rtol=1e-12, atol=1e-12
    )


def test_gradients_are_those_of_finite_differences(any_factor):
    graph, z = typed_graph(4, seed=3), torch.randn(4, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: log_prob(any_factor, z, graph), z)


def test_hadamard_is_its_formula_on_any_pair(plain):
    z, pairs = torch.randn(5, 3), torch.randint(5, (2, 20))
    h = z if plain.network is None else plain.network(z)
    torch.testing.assert_close(plain(z).logits(pairs), plain.scores(h[pairs[0]] * h[pairs[1]]).squeeze(1))


def test_typed_inner_products_are_their_formula_and_indefinite_ones_with_one_type():
    factor, z = _with_random_weights(TypedInnerProduct(3, [0.2, 0.1])), torch.randn(6, 3)
    pairs = all_pairs(Layout.single(6))
    expected = torch.einsum("td,pd,pd->pt", factor.weight, z[pairs[0]], z[pairs[1]]) + factor.bias
    torch.testing.assert_close(factor(z).logits(pairs), expected)
    one, indefinite = TypedInnerProduct(3, [0.2]), IndefiniteInnerProduct(3, 0.2)
    torch.testing.assert_close(one(z).logits(pairs).squeeze(1), indefinite(z).logits(pairs))


def test_one_large_graph_is_estimated_without_bias():
    graph, z = random_graph(12, 0.3, seed=1), torch.randn(12, 3)
    factor = _with_random_weights(HadamardMLP(3, 8, 0.3))
    estimated = Estimated(factor, SampledPairs(40))(z)
    drawn = torch.cat([estimated.log_prob(graph.edge_index) for _ in range(1000)])
    assert abs(drawn.mean() - factor(z).log_prob(graph.edge_index)[0]) < 4.5 * drawn.std() / 1000**0.5


def test_biases_start_at_the_densities():
    graphs = [typed_graph(n, seed=n, types=3) for n in (30, 20)]
    densities, pairs = type_densities(graphs, 3, smoothing=0.0), sum(n * (n - 1) / 2 for n in (30, 20))
    counts = one_hot(torch.cat([graph.edge_type for graph in graphs]), 3).sum(0) / 2
    torch.testing.assert_close(torch.tensor(densities), counts / pairs)
    layout = Layout.of([30, 20])
    found = TypedInnerProduct(4, densities)(torch.zeros(50, 4), layout).expected_edges().sum(0)
    torch.testing.assert_close(found, counts.double())
    chance = TypedHadamardMLP(4, 64, densities)(torch.randn(50, 4), layout).expected_edges().sum(0)
    torch.testing.assert_close(chance, counts.double(), rtol=0.2, atol=0)
    chance = HadamardMLP(4, 64, density(graphs))(torch.randn(50, 4), layout).expected_edges().sum()
    torch.testing.assert_close(chance, counts.sum().double(), rtol=0.2, atol=0)


def test_a_type_that_was_not_seen_is_unlikely_but_not_impossible():
    graph = typed_graph(6, seed=1)
    common, rare, unseen = type_densities(graph, 3)
    assert min(common, rare) > unseen > 0
    assert math.isclose(unseen, 1 / (15 + 4))
    empty = Data(x=torch.zeros(5, 5), edge_index=torch.empty(2, 0, dtype=torch.long), num_nodes=5)
    assert type_densities([graph, empty], 2)[0] < type_densities([graph], 2)[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HadamardMLP(3, 0, 0.2), "'hidden' must be positive, got 0"),
        (lambda: HadamardMLP(3, 8, 1.0), "'density' must lie strictly between 0 and 1"),
        (lambda: HadamardMLP(3, 8, 0.2)(torch.zeros(4, 2)), "'dim' must be the width of z, got 3 for 2 columns"),
        (lambda: HadamardMLP(3, 8, 0.2, nn.Linear(2, 2))(torch.zeros(4, 2)), r"width of network\(z\), got 3 for 2"),
        (lambda: HadamardMLP(3, 8, 0.2)(torch.zeros(4, 3), Layout.of([2, 3])), "one row for each of the 5 nodes"),
        (lambda: TypedInnerProduct(3, []), "'densities' must be positive with a sum below 1"),
        (lambda: TypedInnerProduct(3, [0.5, 0.5]), "'densities' must be positive with a sum below 1"),
        (lambda: TypedHadamardMLP(3, 8, [0.5, 0.0]), "'densities' must be positive with a sum below 1"),
        (lambda: type_densities(typed_graph(5, 1), 1), "'edge_type' must be in 0, ..., 0, got 0 to 1"),
        (lambda: type_densities(random_graph(5, 0.5, 1), 2), "'edge_type' with one type for each of .*, got none"),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_typed_factors_are_not_estimated_or_numbered():
    for wrap in (lambda f: Estimated(f, SampledPairs(5)), lambda f: Positioned(f, 5, 3)):
        with pytest.raises(TypeError, match="'factor' must be of edges without types, TypedInnerProduct has 2"):
            wrap(TypedInnerProduct(3, [0.2, 0.1]))


def model_of(graphs):
    encoder = NormalEncoder(GCN(5, 16, 2), 16, 4)
    sizes = EmpiricalSizes([graph.num_nodes for graph in graphs])
    return GraphVAE(StandardNormal(4), encoder, promised.HadamardMLP(4, 16, density(graphs)), sizes=sizes)


def test_a_model_with_a_network_on_pairs_trains_is_bounded_and_sampled():
    graphs = [random_graph(n, 0.4, seed=n) for n in (5, 6, 8, 7)]
    model = model_of(graphs)
    assert_permutation_invariant(model, graphs)
    before = elbo(model, graphs).mean()
    fit(model, graphs, epochs=60, progress=False, accelerator=Accelerator(cpu=True))
    assert elbo(model, graphs).mean() > before
    assert importance_bound(model, graphs, 16).isfinite().all()
    assert kipf_welling(model, graphs).isfinite().all()
    drawn = as_batch(model.sample(20, generator=1).to_data_list())
    assert drawn.layout.num_graphs == 20


def test_models_with_them_move_with_the_nodes():
    batch = as_batch([random_graph(8, 0.4, seed=3)])
    model, order, noise = model_of([random_graph(8, 0.4, seed=3)]), torch.randperm(8), torch.randn(8, 4)
    torch.testing.assert_close(elbo(model, batch, noise=noise), elbo(model, permute(batch, order), noise=noise[order]))


def test_they_are_saved_and_loaded(any_factor, tmp_path):
    save(any_factor, tmp_path)
    again, z, graph = load(tmp_path), torch.randn(6, 3), typed_graph(6, 1)
    assert torch.equal(log_prob(any_factor, z, graph), log_prob(again, z, graph))
