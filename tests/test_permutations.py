"""Bounds over orderings against enumeration of all orderings (and quadrature over a latent of one dimension)."""

import itertools
import math

import networkx as nx
import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN, GraphConv
from torch_geometric.nn.aggr import SumAggregation

from conftest import graph_from, random_graph
from graphvae import GraphVAE, as_batch
from graphvae.automorphisms import log_automorphisms
from graphvae.backbones import Nodewise, Stack
from graphvae.bounds import (
    image_bound,
    inner_bound,
    joint_bound,
    leave_one_out,
    outer_bound,
    permutation_bound,
    vimco,
)
from graphvae.bounds.baselines import log_mean_exp
from graphvae.conventions import Convention, convert
from graphvae.edges import DenseEdges, Estimated, InnerProduct, Positioned
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.estimates import SampledPairs
from graphvae.evaluation.likelihood import every_order, exact, quadrature
from graphvae.features import GaussianFeatures
from graphvae.graphs import permute, ranks, relabelled
from graphvae.orderings import BreadthFirst, Defensive, Ordering, PlackettLuce, Uniform
from graphvae.priors import EmpiricalSizes, StandardNormal

pytestmark = pytest.mark.usefixtures("double")
FEATURES = 3
DRAWS = 2000


def atlas(num_nodes):
    """One graph of each isomorphism class, with equal features: nothing but the edges tells nodes apart."""
    for graph in nx.graph_atlas_g():
        if graph.number_of_nodes() == num_nodes:
            yield graph_from(graph, torch.ones(num_nodes, FEATURES))


def path():
    """Three nodes in a row, with features of their own."""
    return Data(x=torch.randn(3, FEATURES), edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))


def mixed_sizes():
    """Graphs of 4, 1 and 5 nodes, and seven orders, distinct where there are as many."""
    graphs = as_batch([random_graph(n, 0.5, seed=n, features=FEATURES) for n in (4, 1, 5)])
    four, five = (list(itertools.permutations(range(n))) for n in (4, 5))
    rows = [[*four[3 * k], 4, *(5 + node for node in five[17 * k])] for k in range(7)]
    return graphs, torch.tensor(rows)


def dense_model(max_nodes=5, spread=1.0, informative=True, latent=1):
    """A latent of the graph, decoded to places; not `informative`, latents play no part and are those of the prior."""
    torch.manual_seed(0)
    encoder = NormalEncoder(GCN(FEATURES, 6, 2), 6, latent, pool=SumAggregation())
    network = nn.Sequential(nn.Linear(latent, 8), nn.Tanh())
    model = GraphVAE(StandardNormal(latent), encoder, DenseEdges(max_nodes, 8, 0.4, network))
    nn.init.normal_(model.edges.scores.weight, std=spread if informative else 0.0)
    nn.init.normal_(model.edges.scores.bias, std=spread)
    if not informative:
        for head in (encoder.loc, encoder.log_scale):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
    return model.eval()


def node_model(max_nodes=5, latent=2):
    """Latents of nodes, and an inner product that knows their places."""
    torch.manual_seed(1)
    encoder = NormalEncoder(GCN(FEATURES, 6, 2), 6, latent)
    return GraphVAE(StandardNormal(latent), encoder, Positioned(InnerProduct(0.4), max_nodes, latent)).eval()


class Scripted(Ordering):
    """Gives the orders it was told, and the log-probabilities it was told."""

    def __init__(self, orders, log_probs):
        super().__init__()
        self.orders, self.log_probs = orders, log_probs

    def forward(self, graphs):
        return self

    def sample(self, num_orders, generator=None):
        assert num_orders == len(self.orders)
        return self.orders

    def log_prob(self, orders):
        return self.log_probs


def labelled(model, graph, orders):
    """`(K,)` log p(order G) of one graph under a model in which latents play no part."""
    moved = relabelled(as_batch(graph), orders)
    return model.log_likelihood(moved, torch.zeros(len(orders), 1))


@pytest.mark.parametrize("num_nodes", [3, 4, 5])
@torch.no_grad()
def test_over_all_orders_the_sums_are_exact(num_nodes):
    graphs = as_batch(list(atlas(num_nodes)))
    assert graphs.num_graphs == {3: 4, 4: 11, 5: 34}[num_nodes]
    model, orders = dense_model(informative=False), every_order(graphs)
    total = torch.stack([labelled(model, g, every_order(as_batch(g))).logsumexp(0) for g in graphs.to_data_list()])
    close = {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(outer_bound(model, graphs, orders), total, **close)
    torch.testing.assert_close(inner_bound(model, graphs, orders), total, **close)
    torch.testing.assert_close(image_bound(model, graphs, orders), total - log_automorphisms(graphs), **close)
    torch.testing.assert_close(image_bound(model, graphs, orders).exp().sum(), torch.ones(()), **close)
    uniform = permutation_bound(model, graphs, Uniform(), math.factorial(num_nodes), replace=False)
    torch.testing.assert_close(uniform, total - math.lgamma(num_nodes + 1), **close)
    for bound, convention in ((total, Convention.SUMMED), (uniform, Convention.SYMMETRISED)):
        found = convert(bound, graphs, convention, Convention.ISOMORPHISM_CLASS)
        torch.testing.assert_close(found, exact(model, graphs, Convention.ISOMORPHISM_CLASS), **close)


def _means(values, copies):
    """Mean over copies and its standard error."""
    values = values.view(copies, -1)
    return values.mean(0), values.std(0) / copies**0.5


@torch.no_grad()
def test_with_latents_every_bound_is_below_the_likelihood_and_in_order():
    """Both are between the lecture's sum and that of p over the set; more particles, tighter; all by quadrature."""
    graph = random_graph(4, 0.5, seed=3, features=FEATURES)
    model, one = dense_model(), as_batch(graph)
    many, total = as_batch([graph] * DRAWS), exact(model, one, Convention.SUMMED, points=200)
    every = every_order(one)
    for count in (1, 6, 24):
        some = every[torch.randperm(24)[:count]]
        orders = (some[:, None] + 4 * torch.arange(DRAWS)[:, None]).flatten(1)
        part = relabelled(one, some)
        partial = quadrature(model, part, points=200).logsumexp(0)
        q = model.posterior(part)  # The lecture's sum, its expectations by quadrature.
        z = q.mean + q.stddev * torch.linspace(-9, 9, 1001)[:, None, None]
        weights = torch.softmax(-0.5 * torch.linspace(-9, 9, 1001) ** 2, 0)[:, None]
        value = torch.stack([model.log_likelihood(part, row) for row in z])
        lecture = ((weights * value).sum(0) - q.kl(model.prior(q.layout))).logsumexp(0)
        outer, outer_error = _means(outer_bound(model, many, orders), DRAWS)
        inner, inner_error = _means(inner_bound(model, many, orders), DRAWS)
        finer, finer_error = _means(inner_bound(model, many, orders, particles=20), DRAWS)
        assert lecture <= partial <= total + 1e-10
        assert lecture - 4 * outer_error <= outer <= partial + 4 * outer_error
        assert lecture - 4 * inner_error <= inner <= partial + 4 * inner_error
        assert inner < finer + 4 * inner_error
        assert partial - 0.05 < finer < partial + 4 * finer_error
    assert abs(partial - total) < 1e-10


@pytest.mark.parametrize("bound", [outer_bound, inner_bound, image_bound])
@torch.no_grad()
def test_sums_grow_with_the_set_draw_by_draw(bound):
    graphs = as_batch([random_graph(n, 0.5, seed=n, features=FEATURES) for n in (4, 4, 4)])
    for model, rows in ((dense_model(), 3), (node_model(), 12)):
        orders = every_order(graphs)[torch.randperm(24)]
        noise = torch.randn(24, rows, model.prior.latent)
        values = []
        for count in range(1, 25):
            values.append(bound(model, graphs, orders[:count], noise=noise[: count if bound is outer_bound else 1]))
        steps = torch.stack(values).diff(dim=0)
        assert (steps >= -1e-12).all()
        assert (steps.sum(0) > 0.5).all()


def _tuples(graph, count, r):
    """Every tuple of `count` orders with its probability under r, a distribution over orders."""
    every = every_order(as_batch(graph))
    log_r = r.log_prob(every)[:, 0]
    for chosen in itertools.product(range(len(every)), repeat=count):
        chosen = torch.tensor(chosen)
        if log_r[chosen].sum() > -torch.inf:
            yield log_r[chosen].sum().exp(), Scripted(every[chosen], log_r[chosen][:, None])


@pytest.mark.parametrize("orderings", [Uniform(), Defensive(BreadthFirst(), 0.3)], ids=["uniform", "defensive"])
@torch.no_grad()
def test_importance_sampled_orders_are_unbiased_and_rise(orderings):
    """The expectation over draws by enumeration: that of exp is exact for a full support, that of log below, rising."""
    graph = path()
    model, graphs = dense_model(informative=False), as_batch(graph)
    r = orderings(graphs)
    target, means = exact(model, graphs, Convention.SYMMETRISED), []
    for count in (1, 2, 3):
        found = [(p, permutation_bound(model, graphs, s, count)) for p, s in _tuples(graph, count, r)]
        torch.testing.assert_close(sum(p for p, _ in found), torch.ones(()), rtol=0, atol=1e-10)
        torch.testing.assert_close(sum(p * v.exp() for p, v in found), target.exp(), rtol=1e-10, atol=0)
        means.append(sum(p * v for p, v in found))
    assert means[0] < means[1] < means[2] < target


@torch.no_grad()
def test_orders_that_are_never_drawn_are_lost_to_the_bound():
    """Breadth first, the middle of a path comes first: two orders of six, and the bound is on their part of the sum."""
    model, graphs = dense_model(informative=False), as_batch(path())
    every = every_order(graphs)
    reached = labelled(model, graphs, every[every[:, 0] == 1]).logsumexp(0) - math.log(6)
    for replace in (True, False):
        orderings = BreadthFirst(refine=False)
        found = torch.stack([permutation_bound(model, graphs, orderings, 2, replace=replace) for _ in range(20)])
        torch.testing.assert_close(found, reached.expand_as(found), rtol=0, atol=1e-10)
    assert reached < exact(model, graphs, Convention.SYMMETRISED) - 0.1


@torch.no_grad()
def test_the_posterior_over_orders_has_no_variance():
    graph = random_graph(4, 0.5, seed=2, features=FEATURES)
    model, graphs = dense_model(informative=False), as_batch(graph)
    every = every_order(graphs)
    log_p = labelled(model, graph, every)
    log_r = log_p - log_p.logsumexp(0)
    target = exact(model, graphs, Convention.SYMMETRISED)
    for count in (1, 3):
        chosen = torch.randint(24, (count,))
        found = permutation_bound(model, graphs, Scripted(every[chosen], log_r[chosen][:, None]), count)
        torch.testing.assert_close(found, target, rtol=0, atol=1e-10)


@torch.no_grad()
def test_without_replacement_is_unbiased_and_tighter():
    """Uniform orders: the mean over subsets is exact inside the logarithm, and above that over tuples outside it."""
    graph = path()
    model, graphs = dense_model(informative=False), as_batch([graph] * 6000)
    target = exact(model, as_batch(graph), Convention.SYMMETRISED)
    for count in (4, 6):
        values = permutation_bound(model, graphs, Uniform(), count, replace=False)
        distinct, error = _means(values, 6000)
        repeated, other = _means(permutation_bound(model, graphs, Uniform(), count), 6000)
        assert distinct > repeated + 4 * (error + other)
        assert distinct <= target + 4 * error + 1e-12
        weights = values.exp()
        assert (weights.mean() - target.exp()).abs() <= 4.5 * weights.std() / 6000**0.5 + 1e-12
    torch.testing.assert_close(distinct, target, rtol=0, atol=1e-10)


@torch.no_grad()
def test_pitfall_orders_drawn_twice_would_break_the_sum_and_count_once():
    graph = random_graph(4, 0.5, seed=2, features=FEATURES)
    model, graphs = dense_model(informative=False), as_batch(graph)
    orders = every_order(graphs)[torch.randint(24, (200,))]
    naive = labelled(model, graph, orders).logsumexp(0)
    total = exact(model, graphs, Convention.SUMMED)
    assert naive > total + 1
    for bound in (outer_bound, inner_bound):
        found = bound(model, graphs, orders)
        torch.testing.assert_close(found, bound(model, graphs, orders.unique(dim=0)), rtol=0, atol=1e-10)
        assert found <= total + 1e-10


@torch.no_grad()
def test_pitfall_orders_with_one_image_count_once():
    """On a star, orders that differ by the leaves alone give one graph; their sum would exceed p([G])."""
    star = next(g for g in atlas(4) if sorted(g.edge_index[0].bincount(minlength=4).tolist()) == [1, 1, 1, 3])
    model, graphs = dense_model(informative=False), as_batch(star)
    every = every_order(graphs)
    target = exact(model, graphs, Convention.ISOMORPHISM_CLASS)
    torch.testing.assert_close(image_bound(model, graphs, every), target, rtol=0, atol=1e-10)
    assert (outer_bound(model, graphs, every) - target - math.log(6)).abs() < 1e-10
    centre_first = every[graphs.edge_index[0].bincount()[every[:, 0]] == 3]
    assert len(centre_first) == 6
    one = image_bound(model, graphs, centre_first[:1])
    torch.testing.assert_close(image_bound(model, graphs, centre_first), one, rtol=0, atol=1e-12)
    # Features tell the leaves apart again, where they are part of what the model gives a probability.
    star.x = torch.randn(4, FEATURES)
    graphs = as_batch(star)
    torch.testing.assert_close(image_bound(model, graphs, centre_first), one, rtol=0, atol=1e-12)
    full = node_model()
    nn.init.zeros_(full.edges.places.weight)
    full.features, noise = GaussianFeatures(Stack(nn.Linear(2, 4), nn.Tanh()), 4, FEATURES), torch.randn(1, 4, 2)
    one = image_bound(full, graphs, centre_first[:1], noise=noise)
    assert (image_bound(full, graphs, centre_first, noise=noise) - one - math.log(6)).abs() < 1e-10


@torch.no_grad()
def test_pitfall_features_without_a_likelihood_do_not_tell_graphs_apart():
    """All edges are certain: the class of the complete graph has probability one, whatever its nodes carry."""
    complete = next(g for g in atlas(3) if g.num_edges == 6)
    complete.x = torch.randn(3, FEATURES)
    model, graphs = dense_model(informative=False), as_batch(complete)
    model.edges.scores.bias.data.fill_(40.0)
    sampled = permutation_bound(model, graphs, Uniform(), 4)
    for value in (
        image_bound(model, graphs, every_order(graphs)),
        exact(model, graphs, Convention.ISOMORPHISM_CLASS),
        convert(sampled, graphs, Convention.SYMMETRISED, Convention.ISOMORPHISM_CLASS),
    ):
        torch.testing.assert_close(value, torch.zeros(1), rtol=0, atol=1e-10)


@torch.no_grad()
def test_pitfall_averaging_log_weights_first_is_not_used():
    graph = random_graph(4, 0.5, seed=2, features=FEATURES)
    model, graphs = dense_model(spread=2.0, informative=False), as_batch(graph)
    every = every_order(graphs)
    log_r = torch.full((24, 1), -math.log(24))
    averaged = labelled(model, graph, every).mean()
    found = permutation_bound(model, graphs, Scripted(every, log_r), 24)
    torch.testing.assert_close(found, exact(model, graphs, Convention.SYMMETRISED), rtol=0, atol=1e-10)
    assert found > averaged + 0.5


@torch.no_grad()
def test_pitfall_a_kl_in_closed_form_inside_the_exponential_is_no_bound():
    """exp(log p(G | z) - KL) can have a mean above p(G); with log q(z) of the draw itself it cannot."""
    graph = random_graph(4, 0.5, seed=3, features=FEATURES)
    model, one = dense_model(spread=3.0), as_batch(graph)
    many = as_batch([graph] * DRAWS)
    nn.init.zeros_(model.encoder.loc.weight)
    nn.init.zeros_(model.encoder.log_scale.weight)
    best = max(torch.linspace(-3, 3, 61), key=lambda loc: model.log_likelihood(one, loc.view(1, 1)).item())
    model.encoder.loc.bias.fill_(best)
    model.encoder.log_scale.bias.fill_(-0.3)
    q = model.posterior(many)
    noisy = (model.log_likelihood(many, q.rsample()) - q.kl(model.prior(q.layout))).exp()
    total = exact(model, one, Convention.LABELLED, points=200).exp()
    identity = torch.arange(4 * DRAWS)[None]
    weights = outer_bound(model, many, identity).exp()
    assert noisy.mean() > total + 4 * noisy.std() / DRAWS**0.5
    assert (weights.mean() - total).abs() < 4.5 * weights.std() / DRAWS**0.5


def _moved(order, orders):
    """The orders of a relabelled graph that give the images `orders` gave before."""
    return ranks(order[None])[0][orders]


@pytest.mark.parametrize("bound", [outer_bound, inner_bound, image_bound])
@torch.no_grad()
def test_invariant_under_relabelling(bound):
    graphs, orders = mixed_sizes()
    relabelling = torch.tensor([2, 0, 3, 1, 4, 9, 7, 5, 8, 6])
    moved = permute(graphs, relabelling)
    for model, rows in ((dense_model(), 3), (node_model(), 10)):
        noise = torch.randn(7 if bound is outer_bound else 1, rows, model.prior.latent)
        there = noise if rows == 3 else noise[:, relabelling]
        value = bound(model, graphs, orders, noise=noise)
        again = bound(model, moved, _moved(relabelling, orders), noise=there)
        torch.testing.assert_close(again, value, rtol=0, atol=1e-10)
        assert (bound(model, moved, orders, noise=there) - value).abs().max() > 1e-3


@torch.no_grad()
def test_sampled_orders_are_invariant_under_relabelling_too():
    """The expectation over a learned ordering, by enumeration."""
    graph = path()
    model, orderings = dense_model(informative=False), PlackettLuce(GCN(FEATURES, 4, 2), 4)
    values = []
    for order in itertools.permutations(range(3)):
        moved = permute(as_batch(graph), torch.tensor(order))
        r = orderings(moved)
        found = [p * permutation_bound(model, moved, s, 2) for p, s in _tuples(moved.to_data_list()[0], 2, r)]
        values.append(sum(found))
    torch.testing.assert_close(torch.stack(values), values[0].expand(6, 1), rtol=0, atol=1e-10)


def _by_loop(model, graphs, orders, noise, log_r, encode_each):
    """Order by order and graph by graph."""
    values = []
    for k, order in enumerate(orders):
        q = model.posterior(graphs)
        moved = permute(graphs, order)
        if encode_each:
            q = model.posterior(moved)
        z = q.rsample(noise[k])
        ratio = model.prior(q.layout).log_prob(z) - q.log_prob(z)
        if not encode_each and len(z) == graphs.num_nodes:
            z = z[order]
        values.append(model.log_likelihood(moved, z) + ratio - log_r[k])
    return torch.stack(values).logsumexp(0)


@pytest.mark.parametrize("encode_each", [False, True])
@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_one_batch_equals_a_loop(encode_each, chunk):
    graphs, orders = mixed_sizes()
    log_r = torch.randn(7, 3)
    features = GaussianFeatures(Stack(nn.Linear(2, 4), nn.Tanh()), 4, FEATURES)
    full = node_model()
    full.features, full.sizes = features, EmpiricalSizes([1, 4, 5])
    pooled = dense_model()
    pooled.sizes = EmpiricalSizes([1, 4, 5])
    log_orders = torch.tensor([math.lgamma(n + 1) for n in (4, 1, 5)])
    for model, rows in ((full, 10), (pooled, 3), (node_model(), 10)):
        noise = torch.randn(7, rows, model.prior.latent)
        expected = _by_loop(model, graphs, orders, noise, torch.zeros(7, 3), encode_each)
        found = outer_bound(model, graphs, orders, noise=noise, chunk=chunk, encode_each=encode_each)
        # One-node graphs have one order, which counts once.
        torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-10)
        expected = _by_loop(model, graphs, orders, noise, log_r, encode_each) - math.log(7) - log_orders
        scripted = Scripted(orders, log_r)
        found = joint_bound(model, graphs, scripted, 7, noise=noise, chunk=chunk, encode_each=encode_each)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        gradients = [torch.autograd.grad(v.sum(), list(model.encoder.parameters())) for v in (found, expected)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("chunk", [None, 2])
def test_shared_latents_equal_a_loop(chunk):
    graphs, orders = mixed_sizes()
    orders, log_r = orders[:5], torch.randn(5, 3)
    log_orders = torch.tensor([math.lgamma(n + 1) for n in (4, 1, 5)])
    pooled = dense_model()
    pooled.sizes = EmpiricalSizes([1, 4, 5])
    for model, rows in ((pooled, 3), (node_model(), 10)):
        noise = torch.randn(4, rows, model.prior.latent)
        expected = torch.stack([_by_loop(model, graphs, orders, [e] * 5, log_r, False) for e in noise]).logsumexp(0)
        found = permutation_bound(model, graphs, Scripted(orders, log_r), 5, particles=4, noise=noise, chunk=chunk)
        torch.testing.assert_close(found, expected - math.log(20) - log_orders, rtol=0, atol=1e-10)
        gradients = [torch.autograd.grad(v.sum(), list(model.parameters())) for v in (found, expected)]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


def _counted(module, counts):
    module.register_forward_hook(lambda *_: counts.__setitem__(module, counts.get(module, 0) + 1))


def test_encoder_and_dense_decoder_run_once():
    graphs, counts = as_batch([random_graph(n, 0.5, seed=n, features=FEATURES) for n in (4, 5)]), {}
    model = dense_model()
    for module in (model.encoder, model.edges):
        _counted(module, counts)
    permutation_bound(model, graphs, BreadthFirst(), 16, particles=3)
    assert set(counts.values()) == {1}
    shapes = []
    model.edges.register_forward_hook(lambda _, inputs, output: shapes.append(tuple(inputs[0].shape)))
    permutation_bound(model, graphs, BreadthFirst(), 16)
    assert shapes == [(2, 1)]
    other = node_model()
    counts.clear()
    _counted(other.encoder, counts)
    joint_bound(other, graphs, BreadthFirst(), 16)
    outer_bound(other, graphs, Uniform().sample(graphs, 4))
    assert set(counts.values()) == {2}


@torch.no_grad()
def test_joint_weights_rise_to_the_likelihood():
    graph = path()
    model, graphs = dense_model(), as_batch([graph] * 1000)
    for head in (model.encoder.loc, model.encoder.log_scale):
        nn.init.zeros_(head.weight)
    target, last = exact(model, as_batch(graph), Convention.SYMMETRISED, points=200), -math.inf
    for particles in (1, 8, 64, 256):
        mean, error = _means(joint_bound(model, graphs, Uniform(), particles), 1000)
        assert last + 4 * error < mean < target + 4 * error
        last = mean
    assert target - mean < 0.15
    weights = joint_bound(model, graphs, Uniform(), 64).exp()
    assert (weights.mean() - target.exp()).abs() < 4.5 * weights.std() / 1000**0.5


@torch.no_grad()
def test_an_encoder_that_is_not_equivariant_before_a_decoder_that_is():
    """Every relabelling has its own ELBO and one likelihood; their log-mean-exp is a bound, their sum is not."""

    class First(nn.Module):
        """Adds the node's place to its features."""

        def __init__(self):
            super().__init__()
            self.network = nn.Linear(FEATURES + 1, 4)

        def forward(self, x, edge_index, batch):
            place = torch.arange(len(x)) - batch.bincount().cumsum(0)[batch] + batch.bincount()[batch]
            return self.network(torch.cat([x, place[:, None].to(x)], 1)).tanh()

    torch.manual_seed(0)
    model = GraphVAE(StandardNormal(1), NormalEncoder(First(), 4, 1), InnerProduct(0.4))
    graph = random_graph(2, 1.0, seed=1, features=FEATURES)
    grid = torch.linspace(-8, 8, 401)
    z = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).flatten(0, 1)
    logits = model.edges(z.reshape(-1, 1)).logits(2 * torch.arange(len(z)) + torch.tensor([[0], [1]]))
    density = -0.5 * z.square().sum(1) - math.log(2 * math.pi)
    target = (nn.functional.logsigmoid(logits) + density).logsumexp(0) + 2 * (grid[1] - grid[0]).log()
    graphs, last = as_batch([graph] * 1000), -math.inf
    for particles in (1, 4, 16):
        mean, error = _means(joint_bound(model, graphs, Uniform(), particles, encode_each=True), 1000)
        assert last < mean < target + 4 * error
        last = mean
    assert target - mean < 0.05
    same = torch.arange(2000)
    both = torch.stack([same, same.view(-1, 2).flip(1).flatten()])
    summed, error = _means(outer_bound(model, graphs, both, encode_each=True), 1000)
    assert summed > target + 4 * error


def _exact_objective(model, graph, orderings, count):
    """E over K draws of r of the bound, by enumeration, differentiable in r."""
    r = orderings(as_batch(graph))
    total = 0
    for _, scripted in _tuples(graph, count, r):
        with torch.no_grad():
            log_f = labelled(model, graph, scripted.orders)
        log_r = r.log_prob(scripted.orders)[:, 0]
        value = (log_f - log_r).logsumexp(0) - math.log(count)
        total = total + log_r.sum().exp() * value
    return total


@pytest.mark.parametrize("bound", [permutation_bound, joint_bound])
@pytest.mark.parametrize("baseline", [None, vimco, leave_one_out])
def test_the_gradient_of_a_learned_ordering_is_unbiased(baseline, bound):
    """Its expectation over draws, by enumeration, is the gradient of the enumerated bound."""
    graph = path()
    model, orderings = dense_model(informative=False), PlackettLuce(GCN(FEATURES, 4, 2), 4)
    model.orderings = orderings
    parameters = list(orderings.parameters())
    expected = torch.autograd.grad(_exact_objective(model, graph, orderings, 2), parameters, allow_unused=True)
    found = [torch.zeros_like(p) for p in parameters]
    for probability, scripted in _tuples(graph, 2, orderings(as_batch(graph))):
        scripted.log_probs = orderings(as_batch(graph)).log_prob(scripted.orders)
        value = bound(model, as_batch(graph), scripted, 2, baseline=baseline)
        for mean, gradient in zip(found, torch.autograd.grad(value.sum(), parameters, allow_unused=True), strict=True):
            if gradient is not None:
                mean += probability.detach() * gradient
    assert max(e.abs().max() for e in expected if e is not None) > 1e-3
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-9, atol=1e-12)


def test_baselines_are_bounds_without_one_of_the_draws():
    log_weights = torch.randn(5, 3)
    for k in range(5):
        others = torch.cat([log_weights[:k], log_weights[k + 1 :]])
        alone = others.logsumexp(0) - math.log(4)
        filled = torch.cat([others, others.mean(0, keepdim=True)]).logsumexp(0) - math.log(5)
        torch.testing.assert_close(leave_one_out(log_weights)[k], alone, rtol=0, atol=1e-12)
        torch.testing.assert_close(vimco(log_weights)[k], filled, rtol=0, atol=1e-12)
    for baseline in (vimco, leave_one_out):
        with pytest.raises(ValueError, match="at least 2 rows"):
            baseline(log_weights[:1])


def test_the_baseline_that_is_given_is_used():
    graph, model = path(), dense_model(informative=False)
    orderings = PlackettLuce(GCN(FEATURES, 4, 2), 4)
    for bound in (permutation_bound, joint_bound):
        gradients = []
        for baseline in (vimco, torch.zeros_like):
            torch.manual_seed(0)
            value = bound(model, as_batch(graph), orderings, 4, baseline=baseline).sum()
            gradients.append(torch.autograd.grad(value, orderings.score.weight)[0])
        assert (gradients[0] - gradients[1]).abs().max() > 1e-6


def test_an_impossible_order_has_no_gradient_and_spoils_none():
    """Minus infinity among the weights, or for all of a graph that is larger than p(n) allows."""
    model, orderings = dense_model(), PlackettLuce(GCN(FEATURES, 4, 2), 4)
    model.sizes = EmpiricalSizes([1, 4])
    graphs = as_batch([random_graph(n, 0.5, seed=n, features=FEATURES) for n in (4, 5)])
    value = permutation_bound(model, graphs, orderings, 3)
    assert value[1] == -math.inf
    assert value[0].isfinite()
    log_weights = torch.tensor([[0.0], [-math.inf], [1.0]])
    for baseline in (vimco, leave_one_out):
        log_r = torch.zeros(3, 1, requires_grad=True)
        found = log_mean_exp(log_weights, log_r, baseline)
        torch.testing.assert_close(found, log_weights.logsumexp(0) - math.log(3))
        assert torch.autograd.grad(found.sum(), log_r)[0].isfinite().all()


def test_a_generator_decides_orders_and_latents():
    graphs = as_batch([random_graph(n, 0.5, seed=n, features=FEATURES) for n in (4, 5)])
    for model in (dense_model(), node_model()):
        for bound in (permutation_bound, joint_bound):
            values = [bound(model, graphs, Uniform(), 3, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
            assert torch.equal(values[0], values[1])
            assert not torch.equal(values[0], values[2])


def test_a_learned_ordering_is_scored_in_full_precision():
    """In bfloat16 log r has steps of a tenth of a nat and more, by which the bound would exceed what it bounds."""
    torch.set_default_dtype(torch.float32)
    graph = random_graph(30, 0.2, seed=1, features=FEATURES)
    encoder = NormalEncoder(GCN(FEATURES, 4, 2), 4, 1, pool=SumAggregation())
    orderings = PlackettLuce(GCN(FEATURES, 4, 2), 4)
    model = GraphVAE(StandardNormal(1), encoder, DenseEdges(30, 1, 0.2), orderings=orderings)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        expected = permutation_bound(model, graph, orderings, 4)
        graph.x = graph.x.bfloat16()
        found = permutation_bound(model.bfloat16(), graph, orderings, 4)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=1e-3)


def test_baselines_reduce_the_variance():
    graph = random_graph(5, 0.5, seed=4, features=FEATURES)
    model, orderings = dense_model(spread=2.0, informative=False), PlackettLuce(GCN(FEATURES, 4, 2), 4)
    graphs = as_batch(graph)

    def variance(baseline):
        torch.manual_seed(0)
        draws = []
        for _ in range(300):
            value = permutation_bound(model, graphs, orderings, 8, baseline=baseline).sum()
            draws.append(torch.autograd.grad(value, orderings.score.weight)[0].flatten())
        return torch.stack(draws).var(0).sum()

    plain = variance(torch.zeros_like)
    assert variance(vimco) < plain / 2
    assert variance(leave_one_out) < plain / 2


def test_a_learned_ordering_learns():
    """The decoder expects the hub of a star at the first place; the ordering finds out, and the bound becomes tight."""
    hub = torch.randint(5, (8,)).tolist()
    leaves = [torch.tensor([node for node in range(5) if node != centre]) for centre in hub]
    edges = [torch.stack([torch.full((4,), c), others]) for c, others in zip(hub, leaves, strict=True)]
    graphs = as_batch([Data(x=torch.ones(5, FEATURES), edge_index=torch.cat([e, e.flip(0)], 1)) for e in edges])
    model = dense_model(informative=False)
    first = torch.tensor([True, True, False, True, False, False, True, False, False, False])
    model.edges.scores.bias.data = torch.where(first, 4.0, -4.0)
    orderings = PlackettLuce(GraphConv(FEATURES, 1), 1)
    optimizer = torch.optim.Adam(orderings.parameters(), 0.05)
    target = exact(model, graphs, Convention.SYMMETRISED).mean()
    with torch.no_grad():
        assert permutation_bound(model, graphs, Uniform(), 2).mean() < target - 1
    for _ in range(150):
        optimizer.zero_grad()
        (-permutation_bound(model, graphs, orderings, 4).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        draws = torch.stack([permutation_bound(model, graphs, orderings, 2) for _ in range(50)])
    assert target - 0.05 < draws.mean() < target + 1e-3


def test_bad_input_is_refused():
    graphs = as_batch([random_graph(n, 0.5, seed=n, features=FEATURES) for n in (3, 2)])
    model = dense_model()
    for orders, message in (
        (torch.arange(5), "must be a \\(K, 5\\) int64"),
        (torch.arange(5)[None].float(), "must be a \\(K, 5\\) int64"),
        (torch.zeros(2, 5, dtype=torch.long), "must be permutations"),
        (torch.tensor([[3, 1, 2, 0, 4]]), "own graph"),
    ):
        for bound in (outer_bound, inner_bound, image_bound):
            with pytest.raises(ValueError, match=message):
                bound(model, graphs, orders)
    for bound in (permutation_bound, joint_bound):
        with pytest.raises(ValueError, match="'num_orders' must be positive"):
            bound(model, graphs, Uniform(), 0)
        with pytest.raises(TypeError, match=r"'num_orders' must be an integer, got 4\.0"):
            bound(model, graphs, Uniform(), 4.0)
        for wrong in (Uniform, None, "uniform", Uniform()(graphs)):
            with pytest.raises(TypeError, match="'orderings' must be an Ordering, such as"):
                bound(model, graphs, wrong, 2)
        with pytest.raises(ValueError, match="at least 2"):
            bound(model, graphs, PlackettLuce(GCN(FEATURES, 4, 2), 4), 1)
    with pytest.raises(ValueError, match="'replace' must be True"):
        permutation_bound(model, graphs, PlackettLuce(GCN(FEATURES, 4, 2), 4), 2, replace=False)
    with pytest.raises(ValueError, match="'chunk' must be positive"):
        permutation_bound(model, graphs, Uniform(), 2, chunk=0)
    with pytest.raises(TypeError, match=r"'orders' must be a .* tensor, got Uniform"):
        inner_bound(model, graphs, Uniform())
    with pytest.raises(ValueError, match="one draw for each of the 2 orders"):
        outer_bound(model, graphs, Uniform().sample(graphs, 2), noise=torch.randn(3, 2, 1), encode_each=True)
    point = GraphVAE(
        StandardNormal(1), PointEncoder(Nodewise(nn.Linear(3, 4)), 4, 1, SumAggregation()), DenseEdges(5, 1, 0.4)
    )
    estimated = GraphVAE(
        StandardNormal(2), NormalEncoder(GCN(3, 4, 1), 4, 2), Estimated(InnerProduct(0.4), SampledPairs(4))
    )
    for bound in (permutation_bound, joint_bound):
        with pytest.raises(TypeError, match="PointMass"):
            bound(point, graphs, Uniform(), 2)
        with pytest.raises(ValueError, match="estimates it"):
            bound(estimated, graphs, Uniform(), 2)
