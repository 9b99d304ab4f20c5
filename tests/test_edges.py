import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv, SumAggregation

from conftest import all_edge_sets, random_graph
from graphvae import GraphVAE, elbo, fit, load, save
from graphvae.backbones import Stack
from graphvae.distributions import BernoulliEdges
from graphvae.edges import (
    Bilinear,
    DegreeCorrected,
    DenseEdges,
    Estimated,
    IndefiniteInnerProduct,
    InnerProduct,
    Positioned,
)
from graphvae.encoders import NormalEncoder
from graphvae.estimates import SampledPairs
from graphvae.graphs import as_batch, batch_of, density, permute, relabelled
from graphvae.layout import Layout
from graphvae.priors import EmpiricalSizes, StandardNormal

FACTORS = {
    "inner product": lambda: InnerProduct(0.3),
    "inner product with network": lambda: InnerProduct(0.3, nn.Sequential(nn.Linear(3, 6), nn.Tanh())),
    "indefinite": lambda: IndefiniteInnerProduct(3, 0.2),
    "degree-corrected": lambda: DegreeCorrected(0.2),
    "bilinear": lambda: Bilinear(3, 0.2),
}
ORDER_DEPENDENT = {
    "dense": lambda: DenseEdges(7, 3, 0.3),
    "dense with network": lambda: DenseEdges(7, 6, 0.3, nn.Sequential(nn.Linear(3, 6), nn.Tanh())),
    "positioned": lambda: Positioned(InnerProduct(0.3), 7, 3),
    "positioned, directed": lambda: Positioned(Bilinear(3, 0.3), 7, 3),
}
pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture(params=FACTORS)
def edges(request):
    return _with_random_weights(FACTORS[request.param]())


@pytest.fixture(params=ORDER_DEPENDENT)
def placed(request):
    return _with_random_weights(ORDER_DEPENDENT[request.param]())


def _with_random_weights(factor):
    for parameter in factor.parameters():
        nn.init.normal_(parameter)
    return factor


def _latents(factor, layout):
    """One row per graph for a decoder of whole graphs, else one per node."""
    return torch.randn(layout.num_graphs if isinstance(factor, DenseEdges) else layout.num_rows, 3)


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4])
def test_probabilities_of_all_graphs_sum_to_one(edges, num_nodes):
    distribution = edges(torch.randn(num_nodes, 3))
    total = sum(distribution.log_prob(graph).exp() for graph in all_edge_sets(num_nodes, edges.directed))
    torch.testing.assert_close(total, torch.ones(1), rtol=0, atol=1e-12)


def test_the_ordered_double_product_would_not_sum_to_one():
    """The usual presentation squares every pair of an undirected graph; its mass is far from one."""
    z = torch.randn(4, 3)
    undirected = InnerProduct(0.3)(z)
    ordered = BernoulliEdges(undirected.left, undirected.right, undirected.bias, directed=True)
    mass = sum(ordered.log_prob(graph).exp() for graph in all_edge_sets(4, directed=False))
    assert mass.item() < 0.9


def test_log_prob_is_that_of_independent_bernoullis(edges):
    graph = random_graph(9, 0.4, seed=1, directed=edges.directed)
    distribution = edges(torch.randn(9, 3))
    every = torch.tensor([(i, j) for i in range(9) for j in range(9) if (i != j if edges.directed else i < j)]).T
    present = torch.zeros(9, 9)
    present[tuple(graph.edge_index)] = 1
    bernoulli = torch.distributions.Bernoulli(logits=distribution.logits(every))
    expected = bernoulli.log_prob(present[tuple(every)]).sum()
    torch.testing.assert_close(distribution.log_prob(graph.edge_index)[0], expected, rtol=1e-12, atol=1e-12)


def test_a_batch_equals_its_graphs(edges):
    graphs = [random_graph(n, 0.5, seed=n, directed=edges.directed) for n in (4, 1, 7, 2)]
    batch = as_batch(graphs, directed=edges.directed)
    z = torch.randn(batch.layout.num_rows, 3)
    together = edges(z, batch.layout).log_prob(batch.edge_index)
    alone = [edges(part).log_prob(g.edge_index) for part, g in zip(z.split([4, 1, 7, 2]), graphs, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_relabelling_changes_nothing(edges):
    batch = as_batch([random_graph(8, 0.4, seed=3, directed=edges.directed)], directed=edges.directed)
    z, order = torch.randn(8, 3), torch.randperm(8)
    before = edges(z, batch.layout).log_prob(batch.edge_index)
    after = edges(z[order], batch.layout).log_prob(permute(batch, order).edge_index)
    torch.testing.assert_close(before, after, rtol=1e-12, atol=1e-12)


def test_logits_are_symmetric_exactly_when_undirected(edges):
    distribution = edges(torch.randn(5, 3))
    pairs = torch.combinations(torch.arange(5)).T
    same = torch.allclose(distribution.logits(pairs), distribution.logits(pairs.flip(0)))
    assert same is not edges.directed


def test_samples_follow_the_stated_law(edges):
    torch.manual_seed(3)
    distribution = edges(torch.randn(3, 3))
    support = list(all_edge_sets(3, edges.directed))
    probabilities = torch.cat([distribution.log_prob(graph) for graph in support]).exp()
    code = {frozenset(map(tuple, graph.T.tolist())): k for k, graph in enumerate(support)}
    layout = Layout.of([3] * 20000)
    copies = BernoulliEdges(
        distribution.left.repeat(20000, 1),
        distribution.right.repeat(20000, 1),
        distribution.bias,
        layout,
        edges.directed,
    )
    generator = torch.Generator().manual_seed(7)
    samples = batch_of(torch.zeros(60000, 1), copies.sample(generator), layout).to_data_list()
    counts = torch.zeros(len(support))
    for sample in samples:
        counts[code[frozenset(map(tuple, sample.edge_index.T.tolist()))]] += 1
    expected = probabilities * 20000
    kept = expected > 5
    chi_square = ((counts - expected)[kept] ** 2 / expected[kept]).sum() / (kept.sum() - 1)
    assert chi_square < 2.0


def test_sampling_is_reproducible_and_leaves_global_randomness_alone(edges):
    distribution = edges(torch.randn(30, 3))
    state = torch.get_rng_state()
    first, second = (distribution.sample(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(state, torch.get_rng_state())


def test_expected_edges_and_shift(edges):
    distribution = edges(torch.randn(40, 3)).shifted(-2.0)
    every = torch.cat(list(distribution.all_logits()))
    assert every.numel() == (1560 if edges.directed else 780)
    torch.testing.assert_close(distribution.expected_edges()[0], every.sigmoid().sum())
    torch.testing.assert_close(
        every.sort().values, torch.cat(list(distribution.shifted(0.0).all_logits())).sort().values
    )


@pytest.mark.parametrize(
    "make", [InnerProduct, DegreeCorrected, lambda d: IndefiniteInnerProduct(3, d), lambda d: Bilinear(3, d)]
)
def test_bias_starts_at_the_log_odds_of_the_density(make):
    graph = random_graph(30, 0.1, seed=0)
    edges = make(density(graph))
    chance = edges(torch.zeros(30, 3)).expected_edges().item()
    count = graph.edge_index.size(1) / (1 if edges.directed else 2)
    assert math.isclose(chance, count, rel_tol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_bad_density_is_refused(value):
    with pytest.raises(ValueError, match="'density' must lie strictly between 0 and 1"):
        InnerProduct(value)


def test_indefinite_fits_a_bipartite_graph_that_no_inner_product_can():
    """K(5,5): joined across, not within. No Gram matrix is large across and small within; an indefinite one is."""
    rows, columns = torch.arange(5).repeat_interleave(5), torch.arange(5, 10).repeat(5)
    edge_index = torch.cat([torch.stack([rows, columns]), torch.stack([columns, rows])], 1)
    best = {}
    for name, factor in {"definite": InnerProduct(0.5), "indefinite": IndefiniteInnerProduct(2, 0.5)}.items():
        torch.manual_seed(1)
        z = nn.Parameter(0.1 * torch.randn(10, 2))
        # A positive scale and a free bias for both: what differs is the sign of the form.
        optimizer = torch.optim.Adam([z, *factor.parameters()], lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            (-factor(z).log_prob(edge_index)).sum().backward()
            optimizer.step()
        best[name] = factor(z).log_prob(edge_index).item()
    assert best["indefinite"] > -0.5
    assert best["definite"] < best["indefinite"]


def test_degree_corrected_log_odds_are_those_of_its_formula():
    factor = DegreeCorrected(0.2)
    nn.init.constant_(factor.product.log_scale, 0.7)
    z = torch.randn(6, 4)
    pairs = torch.combinations(torch.arange(6)).T
    i, j = z[pairs[0]], z[pairs[1]]
    expected = math.exp(0.7) * (i[:, :-1] * j[:, :-1]).sum(1) + i[:, -1] + j[:, -1] + math.log(0.25)
    torch.testing.assert_close(factor(z).logits(pairs), expected, rtol=1e-12, atol=1e-12)


def test_degree_corrected_needs_a_column_for_the_propensity():
    with pytest.raises(ValueError, match="at least 2 columns"):
        DegreeCorrected(0.2)(torch.randn(3, 1))


@pytest.mark.parametrize("num_nodes", [1, 2, 3, 4])
def test_probabilities_sum_to_one_where_places_matter(placed, num_nodes):
    layout = Layout.single(num_nodes)
    distribution = placed(_latents(placed, layout), layout)
    total = sum(distribution.log_prob(graph).exp() for graph in all_edge_sets(num_nodes, placed.directed))
    torch.testing.assert_close(total, torch.ones(1), rtol=0, atol=1e-12)


def test_a_batch_equals_its_graphs_where_places_matter(placed):
    sizes = [4, 1, 7, 2]
    graphs = [random_graph(n, 0.5, seed=n, directed=placed.directed) for n in sizes]
    batch = as_batch(graphs, directed=placed.directed)
    z = _latents(placed, batch.layout)
    together = placed(z, batch.layout).log_prob(batch.edge_index)
    parts = z.split([1] * 4 if isinstance(placed, DenseEdges) else sizes)
    alone = [
        placed(part, Layout.single(n)).log_prob(graph.edge_index)
        for part, n, graph in zip(parts, sizes, graphs, strict=True)
    ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-12, atol=1e-12)


def test_relabelling_changes_what_depends_on_places(placed):
    batch = as_batch([random_graph(6, 0.4, seed=3, directed=placed.directed)], directed=placed.directed)
    z, order = _latents(placed, batch.layout), torch.randperm(6)
    before = placed(z, batch.layout).log_prob(batch.edge_index)
    after = placed(z if isinstance(placed, DenseEdges) else z[order], batch.layout)
    assert (before - after.log_prob(permute(batch, order).edge_index)).abs() > 1e-2


def test_gradients_of_many_orders_reach_the_weights_as_those_of_the_relabelled_graphs():
    factor = DenseEdges(7, 6, 0.3, nn.Sequential(nn.Linear(3, 6), nn.Tanh()))
    batch = as_batch([random_graph(n, 0.5, seed=n) for n in (4, 1, 7, 2)])
    z, orders = torch.randn(4, 3), (torch.rand(5, 14) + batch.layout.batch).argsort(1)
    copies = relabelled(batch, orders)
    found = factor(z, batch.layout).log_probs(batch.edge_index, orders)
    expected = factor(z.repeat(5, 1), copies.layout).log_prob(copies.edge_index).view(5, 4)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(value.logsumexp(0).sum(), list(factor.parameters())) for value in (found, expected)
    )
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_without_a_layout_there_is_one_graph():
    assert DenseEdges(5, 3, 0.2)(torch.randn(1, 3)).layout.host_sizes == [5]
    assert Positioned(InnerProduct(0.2), 5, 3)(torch.randn(4, 3)).layout.host_sizes == [4]


def test_dense_edges_start_near_the_density_but_not_all_alike():
    edges = DenseEdges(20, 64, 0.2)(torch.randn(50, 64), Layout.of([20] * 50))
    chances = torch.cat(list(edges.all_logits())).sigmoid()
    assert 0.18 < chances.mean() < 0.22
    assert 0.005 < chances.std() < 0.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DenseEdges(1, 3, 0.2), "'max_nodes' must be at least 2 and 'hidden' positive, got 1 and 3"),
        (lambda: DenseEdges(5, 0, 0.2), "got 5 and 0"),
        (lambda: DenseEdges(5, 3, 1.0), "'density' must lie strictly between 0 and 1"),
        (lambda: Positioned(InnerProduct(0.2), 0, 3), "'max_nodes' and 'latent' must be positive, got 0 and 3"),
        (lambda: DenseEdges(5, 3, 0.2)(torch.zeros(4, 3), Layout.of([2, 2])), "each of the 2 graphs.*with 'pool'"),
        (lambda: DenseEdges(5, 3, 0.2)(torch.zeros(2, 3), Layout.of([2, 6])), "got 5 for one of 6 nodes"),
        (lambda: DenseEdges(5, 3, 0.2)(torch.zeros(1, 4)), "'hidden' must be the width of z, got 3 for 4 columns"),
        (lambda: DenseEdges(5, 3, 0.2, nn.Linear(4, 2))(torch.zeros(1, 4)), "width of network.*got 3 for 2"),
        (lambda: Positioned(InnerProduct(0.2), 5, 3)(torch.zeros(6, 3)), "got 5 for one of 6 nodes"),
        (lambda: Positioned(InnerProduct(0.2), 5, 3)(torch.zeros(4, 2)), "'z' must have 'latent' = 3 columns, got 2"),
        (lambda: Positioned(InnerProduct(0.2), 5, 3)(torch.zeros(2, 3), Layout.of([2, 2])), "each of the 4 nodes"),
    ],
)
def test_what_does_not_fit_is_said(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_positioned_needs_an_edge_factor():
    with pytest.raises(TypeError, match=r"'factor' must be an edge factor .* got Linear"):
        Positioned(nn.Linear(3, 3), 5, 3)


def test_positioned_can_hold_and_be_held():
    assert Positioned(Estimated(InnerProduct(0.2), SampledPairs(10)), 5, 3)(torch.zeros(4, 3)).estimated
    assert Estimated(Positioned(Bilinear(3, 0.2), 5, 3), SampledPairs(10)).directed


def _small_model(graphs):
    backbone = Stack(GCNConv(5, 16), nn.ReLU(), GCNConv(16, 16), nn.ReLU())
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU())
    return GraphVAE(
        StandardNormal(4),
        NormalEncoder(backbone, 16, 4, pool=SumAggregation()),
        edges=DenseEdges(6, 16, density(graphs), network),
        sizes=EmpiricalSizes(torch.tensor([graph.num_nodes for graph in graphs])),
    )


@pytest.fixture
def chains():
    """Paths of 4 to 6 nodes, in order from end to end."""
    graphs = []
    for n in [4, 5, 6] * 8:
        steps = torch.stack([torch.arange(n - 1), torch.arange(1, n)])
        graphs.append(Data(x=torch.randn(n, 5), edge_index=torch.cat([steps, steps.flip(0)], 1)))
    return graphs


def test_a_model_of_whole_graphs_trains_and_samples(chains):
    model = _small_model(chains)
    before = elbo(model, chains).mean()
    fit(model, chains, epochs=60, batch_size=12, progress=False, accelerator=Accelerator(cpu=True))
    assert elbo(model, chains).mean() > before + 2
    drawn = model.sample(200, generator=1)
    again = as_batch(drawn.to_data_list())
    assert again.layout.host_sizes == drawn.layout.host_sizes
    assert max(drawn.layout.host_sizes) == 6
    joined = [graph for graph in drawn.to_data_list() if graph.num_nodes >= 4]
    steps = torch.cat([graph.edge_index.diff(dim=0).abs().flatten() for graph in joined])
    assert (steps == 1).double().mean() > 0.9, "it learns that neighbours in order are joined"


def test_order_dependent_factors_are_saved_and_loaded(chains, tmp_path):
    for edges in (_small_model(chains).edges, Positioned(InnerProduct(0.3), 6, 4)):
        save(edges, tmp_path)
        again = load(tmp_path)
        z = torch.randn(1 if isinstance(edges, DenseEdges) else 6, 4)
        edge_index = chains[2].edge_index
        assert torch.equal(edges(z).log_prob(edge_index), again(z).log_prob(edge_index))
