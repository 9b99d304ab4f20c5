"""Estimates of log p(A | Z): enumerated where draws can be enumerated, else within standard errors."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch_geometric.nn import GCN

from conftest import all_edge_sets, random_graph
from graphvae import GraphVAE, as_batch, elbo, fit, load, save
from graphvae.controls import score_moments
from graphvae.distributions import BernoulliEdges
from graphvae.edges import Bilinear, Estimated, IndefiniteInnerProduct, InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.estimates import Clustered, Quadratic, SampledPairs, Uniform, agreement
from graphvae.layout import Layout
from graphvae.nonedges import NonEdges, Parted, parted
from graphvae.objectives import kipf_welling
from graphvae.pairs import softplus, softplus_sum
from graphvae.priors import StandardNormal

pytestmark = pytest.mark.usefixtures("double")
ESTIMATORS = {
    "uniform": lambda: SampledPairs(20),
    "two hops": lambda: SampledPairs(20, hops=2),
    "quadratic": lambda: SampledPairs(20, control=Quadratic(30)),
    "clustered": lambda: SampledPairs(20, proposal=Clustered(4)),
    "clustered, two hops, quadratic": lambda: SampledPairs(20, 2, Clustered(4), Quadratic(30)),
}
FACTORS = {
    "inner product": lambda: InnerProduct(0.2),
    "indefinite": lambda: IndefiniteInnerProduct(3, 0.2),
    "bilinear": lambda: Bilinear(3, 0.2),
}


@pytest.fixture(params=FACTORS)
def factor(request):
    return FACTORS[request.param]()


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return ESTIMATORS[request.param]()


class Distances:
    """Edges by distance: scores that are no inner products."""

    directed = False

    def __init__(self, z, layout=None):
        self.z, self.layout = z, layout or Layout.single(z.size(0))

    def logits(self, pairs):
        return 1 - (self.z[pairs[0]] - self.z[pairs[1]]).norm(dim=1)


class DistanceEdges(nn.Module):
    directed = False

    def forward(self, z, layout=None):
        return Distances(z, layout)


def every_pair(sizes, directed=False):
    """All pairs of graphs of these sizes, by brute force."""
    found, start = [], 0
    for size in sizes:
        nodes = range(start, start + size)
        found += [(i, j) for i in nodes for j in nodes if (i != j if directed else i < j)]
        start += size
    return torch.tensor(found).reshape(-1, 2).T


def with_gradient(log_prob, *inputs):
    """The value of each graph, and the gradient of their sum, in one vector."""
    value = log_prob()
    gradients = torch.autograd.grad(value.sum(), inputs, materialize_grads=True)
    return torch.cat([value.detach(), *(g.flatten() for g in gradients)])


def assert_unbiased(draw, exact, repeats, bound=4.5):
    """The mean of many draws is within `bound` standard errors of `exact` in every entry."""
    draws = torch.stack([draw() for _ in range(repeats)])
    error = draws.std(0) / repeats**0.5
    assert (error > 0).any(), "an estimate that does not vary tests nothing"
    assert ((draws.mean(0) - exact).abs() <= bound * error + 1e-9 * exact.abs().max()).all()
    return draws


# Enumeration.


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("sizes", [[7], [4, 1, 6, 2], [1, 1]])
def test_every_absent_pair_has_one_rank(sizes, directed):
    graphs = [random_graph(n, 0.4, seed=n, directed=directed) for n in sizes]
    batch = as_batch(graphs, directed=directed)
    absent = NonEdges(batch.edge_index, batch.layout, directed)
    found = set(map(tuple, absent.at(torch.arange(absent.count)).T.tolist()))
    present = set(map(tuple, batch.edge_index.T.tolist()))
    expected = set(map(tuple, every_pair(sizes, directed).T.tolist())) - present
    assert len(found) == absent.count
    assert found == expected
    kept = present if directed else {(i, j) for i, j in present if i < j}
    assert set(map(tuple, absent.present.T.tolist())) == kept


def test_all_small_graphs_are_enumerated_without_their_edges():
    for directed, size in ((False, 4), (True, 3)):
        for edge_index in all_edge_sets(size, directed):
            absent = NonEdges(edge_index, Layout.single(size), directed)
            pairs = absent.at(torch.arange(absent.count))
            assert absent.contains(pairs).all()
            assert not absent.contains(absent.present).any()
            assert absent.count + absent.present.size(1) == size * (size - 1) // (1 if directed else 2)


@pytest.mark.parametrize("directed", [False, True])
def test_ranks_of_a_million_nodes_are_exact(directed):
    """5e11 pairs: ranks at and beside the ends of rows, where a rounded root would be off by one."""
    layout = Layout.single(1_000_000)
    every = NonEdges.every(layout, directed)
    assert every.count == 10**6 * (10**6 - 1) // (1 if directed else 2)
    ends = torch.tensor([2, 3, 1000, 94_906_267 % 10**6, 777_777, 999_999])
    starts = ends * (10**6 - 1) if directed else ends * (ends - 1) // 2
    ranks = torch.cat([starts - 1, starts, starts + 1, torch.tensor([every.count - 1])])
    pairs = every.at(ranks)
    assert torch.equal(every.index(pairs), ranks)
    assert (pairs[0] != pairs[1]).all() if directed else (pairs[0] < pairs[1]).all()
    assert ((pairs >= 0) & (pairs < 10**6)).all()


def test_non_edges_are_drawn_uniformly():
    graph = random_graph(6, 0.4, seed=1)
    absent = NonEdges(graph.edge_index, Layout.single(6))
    draws = absent.sample(20000, torch.Generator().manual_seed(0))
    counts = torch.zeros(6, 6)
    counts.index_put_(tuple(draws), torch.ones(20000), accumulate=True)
    expected = torch.zeros(6, 6)
    expected[tuple(absent.at(torch.arange(absent.count)))] = 20000 / absent.count
    assert (counts[expected == 0] == 0).all()
    share = counts[expected > 0]
    chi_square = ((share - 20000 / absent.count) ** 2 / (20000 / absent.count)).sum() / (absent.count - 1)
    assert chi_square < 3


def test_a_complete_graph_has_no_absent_pair():
    complete = random_graph(4, 1.1, seed=0)
    absent = NonEdges(complete.edge_index, Layout.single(4))
    assert absent.count == 0
    with pytest.raises(ValueError, match="'edge_index' must lack some pair"):
        absent.sample(3)


@pytest.mark.parametrize("hops", [2, 3])
@pytest.mark.parametrize("directed", [False, True])
def test_near_pairs_are_those_joined_by_walks(hops, directed):
    graph = random_graph(15, 0.1, seed=2, directed=directed)
    step = torch.zeros(15, 15)
    step[tuple(graph.edge_index)] = 1
    reached = sum(torch.matrix_power(step, k) for k in range(1, hops + 1)) > 0
    reached.fill_diagonal_(False)
    near = Parted.by_hops(graph.edge_index, Layout.single(15), directed, hops)
    expected = reached if directed else reached.triu(1)
    found = torch.zeros(15, 15, dtype=torch.bool)
    found[tuple(near.far.present)] = True
    assert torch.equal(found, expected)
    assert torch.equal(near.joined, step[tuple(near.far.present)].bool())


def test_the_near_set_is_remembered_until_the_tensor_changes():
    graph, layout = random_graph(9, 0.3, seed=1), Layout.single(9)
    first = parted(graph.edge_index, layout, False, 2)
    assert parted(graph.edge_index, Layout.single(9), False, 2) is first
    assert parted(graph.edge_index, layout, False, 1) is not first
    before = parted(graph.edge_index, layout, False, 1)
    graph.edge_index.copy_(graph.edge_index.flip(1))
    assert parted(graph.edge_index, layout, False, 1) is not before
    with torch.inference_mode():
        assert parted(graph.edge_index + 0, layout, False, 1).far.count == before.far.count


@pytest.mark.parametrize("hops", [1, 2])
def test_the_mean_over_every_single_draw_is_the_exact_sum(factor, hops):
    """M = 1: its draws are the ranks, all equally likely."""
    graph = random_graph(9, 0.25, seed=3, directed=factor.directed)
    edges = factor(torch.randn(9, 3))
    far = Parted.by_hops(graph.edge_index, edges.layout, factor.directed, hops).far
    assert far.count > 5
    values = []
    for rank in range(far.count):

        class Fixed(nn.Module):
            def forward(self, edges, far, num, generator, rank=rank):
                draws = Uniform()(edges, far, num, generator)
                return draws._replace(pairs=far.at(torch.tensor([rank])))

        values.append(SampledPairs(1, hops, Fixed())(edges, graph.edge_index))
    values = torch.cat(values)
    torch.testing.assert_close(values.mean(), edges.log_prob(graph.edge_index)[0], rtol=1e-12, atol=1e-12)
    # The stated variance, for one draw: the squared number of pairs times the variance over pairs.
    terms = softplus(edges.logits(far.at(torch.arange(far.count))))
    torch.testing.assert_close(values.var(correction=0), far.count**2 * terms.var(correction=0))


@pytest.mark.parametrize("directed", [False, True])
def test_stated_weights_of_clustered_draws_are_those_of_their_frequencies(directed):
    """E[weight * count] is 1 for each far pair: the probability that the weight claims is the one it is drawn with."""
    graph = random_graph(6, 0.3, seed=1, directed=directed)
    far = NonEdges(graph.edge_index, Layout.single(6), directed)
    z = torch.randn(6, 2)
    edges = BernoulliEdges(z, z @ torch.randn(2, 2) if directed else z, -2.0, directed=directed)
    counts, repeats = [], 400
    for _ in range(repeats):
        draws = Clustered(3)(edges, far, 100, None)
        kept = draws.weights > 0
        pairs = draws.pairs[:, kept] if directed else draws.pairs[:, kept].sort(0).values
        counts.append(torch.zeros(36).index_add(0, pairs[0] * 6 + pairs[1], draws.weights[kept]))
    counts = torch.stack(counts)
    expected = torch.zeros(36)
    absent = far.at(torch.arange(far.count))
    expected[absent[0] * 6 + absent[1]] = 1
    assert (counts[:, expected == 0] == 0).all()
    error = counts.std(0) / repeats**0.5
    assert ((counts.mean(0) - expected).abs() <= 4.5 * error).all()


# Monte Carlo.


def test_value_and_gradient_are_unbiased(factor, estimator):
    graph = random_graph(14, 0.2, seed=5, directed=factor.directed)
    z = torch.randn(14, 3, requires_grad=True)
    inputs = (z, *(p for p in factor.parameters()))
    exact = with_gradient(lambda: factor(z).log_prob(graph.edge_index), *inputs)
    noisy = Estimated(factor, estimator)
    assert_unbiased(lambda: with_gradient(lambda: noisy(z).log_prob(graph.edge_index), *inputs), exact, 200)


def test_the_log_normalizer_is_unbiased(factor, estimator):
    z = torch.randn(14, 3, requires_grad=True)
    exact = with_gradient(lambda: factor(z).log_normalizer(), z)
    noisy = Estimated(factor, estimator)
    assert_unbiased(lambda: with_gradient(lambda: noisy(z).log_normalizer(), z), exact, 200)


@pytest.mark.parametrize("control", [None, Quadratic(50)])
@pytest.mark.parametrize("directed", [False, True])
def test_each_graph_of_a_batch_is_estimated_without_bias(control, directed):
    sizes = [4, 1, 9, 2]
    batch = as_batch([random_graph(n, 0.4, seed=n, directed=directed) for n in sizes], directed=directed)
    factor = Bilinear(3, 0.3) if directed else InnerProduct(0.3)
    z = torch.randn(16, 3, requires_grad=True)
    exact = with_gradient(lambda: factor(z, batch.layout).log_prob(batch.edge_index), z)
    noisy = Estimated(factor, SampledPairs(12, 2 if directed else 1, control=control))
    assert_unbiased(lambda: with_gradient(lambda: noisy(z, batch.layout).log_prob(batch.edge_index), z), exact, 300)
    vectors = Layout.singles(3)
    none = noisy(torch.randn(3, 3), vectors).log_prob(torch.empty(2, 0, dtype=torch.long))
    assert torch.equal(none, torch.zeros(3))


@pytest.mark.parametrize("hops", [1, 2])
def test_any_decoder_will_do(hops):
    graph = random_graph(10, 0.3, seed=2)
    z = torch.randn(10, 2, requires_grad=True)
    pairs = every_pair([10])
    present = torch.zeros(10, 10)
    present[tuple(graph.edge_index)] = 1

    def exact():
        scores = Distances(z).logits(pairs)
        return torch.distributions.Bernoulli(logits=scores).log_prob(present[tuple(pairs)]).sum()[None]

    noisy = Estimated(DistanceEdges(), SampledPairs(8, hops))
    assert_unbiased(lambda: with_gradient(lambda: noisy(z).log_prob(graph.edge_index), z), with_gradient(exact, z), 300)
    for part in (SampledPairs(8, control=Quadratic()), SampledPairs(8, proposal=Clustered())):
        with pytest.raises(TypeError, match="needs scores that are inner products"):
            Estimated(DistanceEdges(), part)(z).log_prob(graph.edge_index)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("sizes", [[8], [3, 1, 5]])
def test_moments_are_those_of_all_pairs(sizes, directed):
    layout = Layout.of(sizes)
    left = torch.randn(sum(sizes), 3)
    right = torch.randn(sum(sizes), 3) if directed else left * torch.tensor([1.0, -2.0, 0.5])
    edges = BernoulliEdges(left, right, torch.tensor(-1.3), layout, directed)
    pairs = every_pair(sizes, directed)
    scores, owner = edges.logits(pairs), layout.batch[pairs[0]]
    for power, found in enumerate(score_moments(edges)):
        expected = torch.zeros(len(sizes)).index_add(0, owner, scores**power)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_quadratic_control_leaves_no_variance_where_softplus_is_a_parabola():
    """Scores near 0: softplus(s) = log 2 + s/2 + s²/8 - O(s⁴)."""
    graph = random_graph(30, 0.1, seed=1)
    z = 0.1 * torch.randn(30, 3)
    edges = BernoulliEdges(z, z, 0.0)
    spreads = [
        torch.cat([SampledPairs(40, control=control)(edges, graph.edge_index) for _ in range(50)]).std().item()
        for control in (None, Quadratic(200))
    ]
    assert spreads[1] < 1e-3 * spreads[0]


def test_a_constant_score_is_no_trouble_for_the_control():
    graph, z = random_graph(10, 0.3, seed=1), torch.zeros(10, 2)
    edges = BernoulliEdges(z, z, -3.0)
    found = SampledPairs(5, control=Quadratic(10))(edges, graph.edge_index)
    torch.testing.assert_close(found, edges.log_prob(graph.edge_index))


def test_a_complete_graph_is_computed():
    graph = random_graph(5, 1.1, seed=0)
    edges = InnerProduct(0.3)(torch.randn(5, 2))
    for estimator in (SampledPairs(7), SampledPairs(7, 2, Clustered(2), Quadratic(5))):
        found = estimator.estimate(edges, graph.edge_index)
        torch.testing.assert_close(found.value, edges.log_prob(graph.edge_index))
        assert found.standard_error.item() == 0


# Standard errors, and saying when they are too large.


def test_stratified_draws_have_the_variance_of_their_strata():
    """64 absent pairs and 16 draws: one from each block of four ranks."""
    graph = random_graph(13, 0.2, seed=8)
    edges = InnerProduct(0.2)(torch.randn(13, 3))
    far = NonEdges(graph.edge_index, edges.layout)
    num = far.count // 4
    assert far.count == 64
    terms = softplus(edges.logits(far.at(torch.arange(far.count))))
    within = 16 * terms.view(num, 4).var(1, correction=0).sum()
    independent = far.count**2 / num * terms.var(correction=0)
    assert within <= independent
    draws = torch.cat([SampledPairs(num)(edges, graph.edge_index) for _ in range(2000)])
    assert abs(draws.var() / within - 1) < 5 * (2 / 2000) ** 0.5


def _stated_and_found(estimator, edges, edge_index):
    """The mean stated standard error and the spread of the values, over 200 estimates."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = [estimator.estimate(edges, edge_index) for _ in range(200)]
    return torch.stack([f.standard_error for f in found]).mean(0), torch.stack([f.value for f in found]).std(0)


@pytest.mark.parametrize("control", [None, Quadratic(500)])
def test_the_stated_standard_error_is_the_spread_of_estimates(control):
    batch = as_batch([random_graph(n, 0.05, seed=n) for n in (60, 40)])
    edges = InnerProduct(0.3)(0.7 * torch.randn(100, 4), batch.layout)
    stated, found = _stated_and_found(SampledPairs(400, control=control), edges, batch.edge_index)
    assert (found < 1.15 * stated).all(), "independent draws would vary more, these are stratified"
    assert (found > 0.5 * stated).all()


def test_the_stated_standard_error_of_weighted_draws_is_their_spread():
    graph = as_batch(random_graph(60, 0.05, seed=60))
    edges = InnerProduct(0.02)(1.5 * torch.randn(60, 4), graph.layout)
    stated, found = _stated_and_found(SampledPairs(400, 2, Clustered(8)), edges, graph.edge_index)
    assert 0.7 < found / stated < 1.2


def test_a_graph_without_a_draw_has_an_infinite_standard_error():
    batch = as_batch([random_graph(n, 0.2, seed=n) for n in (40, 3, 1)])
    edges = InnerProduct(0.2)(torch.randn(44, 3), batch.layout)
    with pytest.warns(UserWarning, match="hopelessly noisy"):
        found = SampledPairs(1).estimate(edges, batch.edge_index, torch.Generator().manual_seed(0))
    assert found.standard_error[1] == torch.inf
    assert found.standard_error[2] == 0, "one node has no pairs"


def _calibrated():
    """A sparse graph of groups whose likelihood is held by few pairs: scores around -12, and above within groups."""
    torch.manual_seed(3)
    groups = torch.arange(300) % 30
    z = 3.5 * nn.functional.normalize(torch.randn(30, 8), dim=1)[groups] + 0.1 * torch.randn(300, 8)
    edges = BernoulliEdges(z, z, -13.0)
    return z, edges, edges.sample(torch.Generator().manual_seed(0))


def test_the_estimator_says_when_it_is_hopeless():
    _, edges, edge_index = _calibrated()
    with pytest.warns(UserWarning, match=r"hopelessly noisy: 200 draws leave a standard error of \d+ %"):
        SampledPairs(200).estimate(edges, edge_index)
    balanced = BernoulliEdges(0.1 * edges.left, 0.1 * edges.right, 0.0)
    assert SampledPairs(2000).estimate(balanced, edge_index).relative.item() < 0.05  # Warnings are errors.


def test_clusters_find_the_few_pairs_that_matter():
    _, edges, edge_index = _calibrated()
    uniform, clustered = (
        torch.cat([SampledPairs(1000, proposal=proposal)(edges, edge_index) for _ in range(60)]).std()
        for proposal in (Uniform(), Clustered(30))
    )
    assert clustered < 0.4 * uniform


def test_agreement_tells_noise_from_gradients():
    z, edges, edge_index = _calibrated()

    def estimate(z, estimator):
        return estimator(BernoulliEdges(z, z, edges.bias), edge_index)

    assert agreement(lambda z: BernoulliEdges(z, z, edges.bias).log_prob(edge_index), z) == pytest.approx(1)
    poor, good = (
        agreement(lambda z, e=e: estimate(z, e), z) for e in (SampledPairs(100), SampledPairs(5000, 2, Clustered(30)))
    )
    assert poor < 0.5 < 0.9 < good


# As a part of models.


def test_a_generator_decides_the_draw_and_the_global_one_is_left_alone(estimator):
    graph = random_graph(14, 0.2, seed=5)
    edges = InnerProduct(0.2)(torch.randn(14, 3))
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(1)
    first, second = (estimator(edges, graph.edge_index, generator) for _ in range(2))
    again = estimator(edges, graph.edge_index, torch.Generator().manual_seed(1))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def _model(estimator, seed=0):
    torch.manual_seed(seed)
    edges = InnerProduct(0.2)
    return GraphVAE(
        StandardNormal(3),
        NormalEncoder(GCN(5, 8, 2), 8, 3),
        edges if estimator is None else Estimated(edges, estimator),
    )


@pytest.mark.parametrize("objective", [elbo, kipf_welling])
def test_objectives_are_unbiased_with_it(objective):
    batch, noise = as_batch([random_graph(n, 0.3, seed=n) for n in (8, 5)]), torch.randn(13, 3)
    exact, noisy = _model(None), _model(SampledPairs(15))
    expected = with_gradient(lambda: objective(exact, batch, noise=noise), *exact.parameters())
    assert_unbiased(
        lambda: with_gradient(lambda: objective(noisy, batch, noise=noise), *noisy.parameters()), expected, 150, 5
    )


def test_what_is_not_estimated_is_that_of_the_factor(factor):
    noisy, z = Estimated(factor, SampledPairs(5)), torch.randn(6, 3)
    exact, edges = factor(z), noisy(z)
    pairs = every_pair([6], factor.directed)
    assert noisy.directed is factor.directed
    assert edges.directed is factor.directed
    torch.testing.assert_close(edges.logits(pairs), exact.logits(pairs))
    torch.testing.assert_close(edges.expected_edges(), exact.expected_edges())
    torch.testing.assert_close(edges.shifted(1.0).double().logits(pairs), exact.logits(pairs) + 1)
    same = (e.sample(torch.Generator().manual_seed(1)) for e in (edges, exact))
    assert torch.equal(*same)
    assert edges.layout.num_rows == 6
    assert copy.copy(edges).exact is edges.exact
    with pytest.raises(AttributeError, match="nothing"):
        _ = edges.nothing


def test_training_with_it_is_reproducible_and_learns(tmp_path):
    graph = random_graph(30, 0.1, seed=1)
    estimator = SampledPairs(100, 2, Clustered(5), Quadratic(50))
    models = [_model(copy.deepcopy(estimator)) for _ in range(2)]
    for model in models:
        fit(model, graph, elbo, epochs=30, seed=1)
    for one, two in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(one, two)
    before = elbo(GraphVAE(models[0].prior, _model(None).encoder, InnerProduct(0.2)), graph)
    after = elbo(GraphVAE(models[0].prior, models[0].encoder, models[0].edges.factor), graph)
    assert (after > before).all()


def test_a_checkpoint_keeps_the_estimator(tmp_path, estimator):
    model = _model(estimator)
    save(model, tmp_path)
    loaded = load(tmp_path).edges.estimator
    assert (loaded.num, loaded.hops) == (estimator.num, estimator.hops)
    assert type(loaded.proposal) is type(estimator.proposal)
    assert type(loaded.control) is type(estimator.control)
    if isinstance(estimator.proposal, Clustered):
        assert loaded.proposal.clusters == 4
    if estimator.control is not None:
        assert loaded.control.fitted == 30


def test_half_precision_scores_are_summed_in_float32():
    graph = random_graph(40, 0.1, seed=1)
    z = torch.randn(40, 4, dtype=torch.bfloat16)
    found = SampledPairs(50, control=Quadratic())(BernoulliEdges(z, z, 0.0), graph.edge_index)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SampledPairs(0), "'num' and 'hops' must be positive, got 0 and 1"),
        (lambda: SampledPairs(5, 0), "'num' and 'hops' must be positive, got 5 and 0"),
        (lambda: Clustered(0), "'clusters' must be positive"),
        (lambda: Clustered(4, 0.0), r"'uniform' in \(0, 1\], got 4 and 0.0"),
        (lambda: Quadratic(2), "'fitted' must be at least 3"),
        (lambda: Estimated(Estimated(InnerProduct(0.1), SampledPairs(3)), SampledPairs(3)), "is estimated already"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_factors_and_estimators_are_not_mixed_up():
    with pytest.raises(TypeError, match="'factor' must be an edge factor"):
        Estimated(SampledPairs(3), InnerProduct(0.1))
    with pytest.raises(TypeError, match="'estimator' must be one of"):
        Estimated(InnerProduct(0.1), InnerProduct(0.1))


def test_clusters_are_refused_for_batches():
    batch = as_batch([random_graph(n, 0.3, seed=n) for n in (8, 5)])
    edges = InnerProduct(0.2)(torch.randn(13, 3), batch.layout)
    with pytest.raises(ValueError, match="'proposal' Clustered is for one large graph, got 2"):
        SampledPairs(5, proposal=Clustered())(edges, batch.edge_index)


def test_many_draws_of_a_large_graph_come_near_the_exact_sum():
    """A check of scale: weights, moments and near set together, on 2,000 nodes in single precision."""
    z = torch.randn(2000, 8, dtype=torch.float32) / 2
    factor = BernoulliEdges(z, z, -4.0)
    edge_index = factor.sample(torch.Generator().manual_seed(0))
    exact = factor.log_prob(edge_index)
    assert factor.log_normalizer().item() == pytest.approx(softplus_sum(z, z, factor.bias, factor.layout).item())
    for estimator in (SampledPairs(20_000, control=Quadratic()), SampledPairs(20_000, 2, Clustered())):
        found = estimator.estimate(factor, edge_index)
        assert ((found.value - exact).abs() < 5 * found.standard_error).all()


@pytest.mark.parametrize("estimator", [SampledPairs(5000, control=Quadratic()), SampledPairs(5000, 2, Clustered())])
def test_autocast_does_not_coarsen_an_estimate(estimator):
    _, edges, edge_index = _calibrated()
    edges = BernoulliEdges(edges.left.float(), edges.right.float(), edges.bias.float())
    found = [estimator(edges, edge_index, torch.Generator().manual_seed(0))]
    with torch.autocast("cpu", torch.bfloat16):
        found.append(estimator(edges, edge_index, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(*found, rtol=1e-6, atol=0)


@pytest.mark.filterwarnings("ignore:log p:UserWarning")
def test_one_draw_has_no_standard_error():
    _, edges, edge_index = _calibrated()
    assert SampledPairs(1).estimate(edges, edge_index).standard_error.item() == torch.inf


def test_an_estimate_follows_edges_whose_data_were_replaced():
    z = torch.randn(30, 3)
    edges, one, two = BernoulliEdges(z, z, -1.0), random_graph(30, 0.2, seed=1), random_graph(30, 0.2, seed=2)
    edge_index = one.edge_index.clone()
    SampledPairs(10)(edges, edge_index)
    edge_index.data = two.edge_index
    found, fresh = (
        SampledPairs(10)(edges, given, torch.Generator().manual_seed(0)) for given in (edge_index, two.edge_index)
    )
    assert torch.equal(found, fresh)
