"""The ELBO and the multi-sample bound of discrete latents, against sums over every code; and the bound by its path."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli
from torch_geometric.data import Data
from torch_geometric.nn import GCN
from torch_geometric.nn.aggr import SumAggregation

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo, fit, importance_bound, load, save
from graphvae.backbones import Nodewise
from graphvae.bounds import Gradient, expected_elbo, log_importance_weights
from graphvae.distributions import PerGraph
from graphvae.edges import Bilinear, DenseEdges, InnerProduct
from graphvae.encoders import BernoulliEncoder, CategoricalEncoder, FreeNormal, NormalEncoder, PointEncoder
from graphvae.evaluation.likelihood import enumerated
from graphvae.expectations import Enumeration, Pathwise, Relaxation, ScoreFunction, codes, log_probs
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures
from graphvae.graphs import copies, permute
from graphvae.layout import Layout
from graphvae.objectives import reconstruction, relaxed
from graphvae.priors import BernoulliPrior, CategoricalPrior, NormalMixture, StandardNormal

SCORES = [Gradient.VIMCO, Gradient.LEAVE_ONE_OUT]
double = pytest.mark.usefixtures("double")


def binary_vectors(bits=4, learned=True):
    """A sigmoid belief network of one layer over six visible bits."""
    features = BernoulliFeatures(Nodewise(nn.Sequential(nn.Linear(bits, 5), nn.Tanh())), 5, 6)
    model = GraphVAE(
        BernoulliPrior(bits, learned), BernoulliEncoder(Nodewise(nn.Linear(6, 7)), 7, bits), None, features
    )
    return _spread(model)


def node_bits():
    """Two bits for every node of graphs with edges, which see the graph on both ways."""
    edges = InnerProduct(0.3, nn.Linear(2, 4))
    features = GaussianFeatures(GCN(2, 6, 1), 6, 5, FixedScale(0.8))
    return _spread(GraphVAE(BernoulliPrior(2, True), BernoulliEncoder(GCN(5, 6, 2), 6, 2), edges, features))


def blocks(pool=None):
    """One of three classes for every node, a block model; or for every graph."""
    edges = Bilinear(3, 0.3) if pool is None else DenseEdges(3, 3, 0.4)
    return _spread(GraphVAE(CategoricalPrior(3, True), CategoricalEncoder(GCN(5, 6, 2), 6, 3, pool), edges))


def _spread(model):
    """With weights large enough for latents to matter."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(std=0.7)
    return model


def few_vectors(count=5):
    return edgeless(torch.bernoulli(torch.full((count, 6), 0.5)))


def few_graphs(directed=False):
    return as_batch([random_graph(n, 0.5, seed=n, directed=directed) for n in (2, 1, 3)], directed)


CASES = {
    "vectors": (binary_vectors, few_vectors),
    "nodes": (node_bits, few_graphs),
    "blocks": (blocks, partial(few_graphs, True)),
    "pooled": (partial(blocks, SumAggregation()), few_graphs),
}


def exact_elbo(model, graphs):
    """E_q of log p(x, z) - log q(z), code after code and graph after graph."""
    return torch.cat([_exact_of_one(model, as_batch(g, graphs.directed)) for g in graphs.to_data_list()])


def _every_weight(model, graph):
    """`(C,)` log q and log of p(x, z) / q(z) for every code of one graph."""
    q = model.posterior(graph)
    size = q.base.logits.size(-1)
    rows = torch.eye(size).tolist() if q.base.event_shape else list(itertools.product([0.0, 1.0], repeat=size))
    every = [torch.tensor(z).view(q.layout.num_rows, size) for z in itertools.product(rows, repeat=q.layout.num_rows)]
    log_q = torch.cat([q.log_prob(z) for z in every])
    p = model.prior(q.layout)
    return log_q, torch.cat([model.log_likelihood(graph, z) + p.log_prob(z) for z in every]) - log_q


def _exact_of_one(model, graph):
    log_q, log_w = _every_weight(model, graph)
    return (log_q.exp() * log_w).sum()[None]


def gradient_of(model, value):
    """Of all parameters that are trained, as one row."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.cat([g.flatten() for g in torch.autograd.grad(value.sum(), parameters)])


def off_by(found, expected):
    """The largest distance of the mean from what is expected, in standard errors of each coordinate."""
    found = found.detach()
    error = found.std(0) / len(found) ** 0.5
    return float(((found.mean(0) - expected).abs() / error.clamp(min=1e-9)).max())  # A lone node has no noise.


@double
@pytest.mark.parametrize("case", CASES)
def test_enumeration_is_the_exact_elbo(case):
    make_model, make_graphs = CASES[case]
    model, graphs = make_model(), make_graphs()
    found, expected = expected_elbo(model, graphs, Enumeration()), exact_elbo(model, graphs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    slopes = gradient_of(model, found)
    torch.testing.assert_close(slopes, gradient_of(model, expected), rtol=1e-9, atol=1e-9)
    chunked = expected_elbo(model, graphs, Enumeration(), chunk=3)
    torch.testing.assert_close(gradient_of(model, chunked), slopes, rtol=1e-9, atol=1e-9)
    kl = model.posterior(graphs).kl(model.prior(model.posterior(graphs).layout))
    torch.testing.assert_close(expected_elbo(model, graphs, Enumeration(), beta=3.0), found - 2 * kl)


@double
@pytest.mark.parametrize("case", CASES)
def test_elbo_and_multi_sample_bounds_rise_to_the_exact_likelihood(case):
    """All three exact: L_K from every K-tuple of codes."""
    make_model, make_graphs = CASES[case]
    model, graphs = make_model(), make_graphs()
    log_p = enumerated(model, graphs)
    for b, graph in enumerate(graphs.to_data_list()):
        log_q, log_w = _every_weight(model, as_batch(graph, graphs.directed))
        torch.testing.assert_close((log_q + log_w).logsumexp(0), log_p[b], rtol=1e-10, atol=1e-10)
        ladder = [_tuples(log_q, log_w, count) for count in (1, 2, 3) if len(log_q) ** count < 5000]
        assert len(ladder) > 1
        assert all(a < b for a, b in itertools.pairwise([*ladder, log_p[b]]))


def _tuples(log_q, log_w, count):
    """E of the log of the mean of `count` weights, over all tuples of codes."""
    which = torch.cartesian_prod(*[torch.arange(len(log_q))] * count).view(-1, count)
    bounds = log_w[which].logsumexp(1) - math.log(count)
    return (log_q[which].sum(1).exp() * bounds).sum()


@double
@pytest.mark.parametrize("gradient", SCORES)
def test_the_multi_sample_bound_and_its_gradient_are_unbiased(gradient):
    model, graphs = binary_vectors(), few_vectors(1)
    log_q, log_w = _every_weight(model, graphs)
    expected = _tuples(log_q, log_w, 3)
    slope = torch.autograd.grad(expected, model.encoder.logits.bias)[0]
    many = edgeless(graphs.x.repeat(20_000, 1))
    logits = model.posterior(many).base.logits.detach().requires_grad_()
    model.encoder = Given(logits)
    bound = importance_bound(model, many, 3, gradient=gradient)
    assert off_by(bound[:, None], expected.detach()) < 4
    found = torch.autograd.grad(bound.sum(), logits)[0]
    assert off_by(found, slope) < 4
    assert off_by(found, 0) > 10, "there is a gradient to be unbiased for"


class Given(nn.Module):
    """Discrete latents of given logits, whatever the data."""

    def __init__(self, logits, family=Bernoulli, pool=None):
        super().__init__()
        self.logits, self.family, self.pool = logits, family, pool

    def forward(self, x, edge_index, layout=None):
        layout = layout if self.pool is None else Layout.singles(layout.num_graphs)
        return PerGraph(self.family(logits=self.logits, validate_args=False), layout)


BOUNDS = {
    "score": partial(expected_elbo, expectation=ScoreFunction(4)),
    "score, no baseline": partial(expected_elbo, expectation=ScoreFunction(4, baseline=None)),
    "relaxed": partial(relaxed, relaxation=Relaxation(0.7, 4)),
}


@double
@pytest.mark.parametrize("case", ["nodes", "blocks", "pooled"])
def test_latents_of_graphs_with_edges_by_score_function(case):
    """Of the logits of every node, from many copies of the graphs; the relaxation is off, the baseline less noisy."""
    make_model, make_graphs = CASES[case]
    model, graphs = make_model(), make_graphs()
    q = model.posterior(graphs)
    model.encoder = Given(q.base.logits.detach().clamp(-1, 1), type(q.base), model.encoder.pool)
    exact = gradients_of_copies(model, graphs, partial(expected_elbo, expectation=Enumeration()), 1)
    found = {name: gradients_of_copies(model, graphs, bound, 4000) for name, bound in BOUNDS.items()}
    for name in ("score", "score, no baseline"):
        assert off_by(found[name], exact) < 4
        assert off_by(found[name], 0) > 10, "there is a gradient to be unbiased for"
    assert off_by(found["relaxed"], exact) > 8
    assert found["score"].var(0).sum() < 0.7 * found["score, no baseline"].var(0).sum()


def gradients_of_copies(model, graphs, bound, count):
    """`(count, R D)` independent gradients in the logits of a `Given` encoder."""
    once = model.encoder
    model.encoder = Given(once.logits.repeat(count, 1).requires_grad_(), once.family, once.pool)
    value = bound(model, copies(model.batch(graphs), count)).sum()
    found = torch.autograd.grad(value, model.encoder.logits)[0].view(count, -1)
    model.encoder = once
    return found


@double
def test_a_relaxed_objective_is_no_bound():
    """x halfway between what two codes decode to: between them it is likely, at neither of them."""
    features = GaussianFeatures(Nodewise(nn.Identity()), 1, 1, FixedScale(0.05))
    encoder = BernoulliEncoder(Nodewise(nn.Linear(1, 1)), 1, 1)
    model = GraphVAE(BernoulliPrior(1), encoder, None, features)
    encoder.logits.weight.data.zero_()
    features.loc.weight.data.fill_(1)
    features.loc.bias.data.zero_()
    graphs = edgeless(torch.full((1, 1), 0.5))
    log_p = enumerated(model, graphs)
    found = torch.stack([relaxed(model, graphs, Relaxation(20.0)) for _ in range(100)])
    assert found.mean() - log_p > 40
    straight = torch.stack([relaxed(model, graphs, Relaxation(20.0, straight_through=True)) for _ in range(100)])
    torch.testing.assert_close(straight, expected_elbo(model, graphs, Enumeration()).expand(100, 1))
    with pytest.raises(ValueError, match=r"must be unbiased for a bound, Relaxation is not; use objectives\.relaxed"):
        expected_elbo(model, graphs, Relaxation(1.0))


def linear_gaussian(count):
    """x = W z + b + 0.7 noise, a free q: copies of one vector, each with loc and scale of its own."""
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 3, FixedScale(0.7))
    model = GraphVAE(StandardNormal(2), FreeNormal(count, 2), None, features)
    features.loc.weight.data = torch.tensor([[1.0, 0.3], [-0.5, 0.8], [0.2, -1.1]])
    features.loc.bias.data = torch.tensor([0.1, 0.0, -0.2])
    model.encoder.loc.data[:] = torch.tensor([0.4, -0.7])
    model.encoder.log_scale.data[:] = torch.tensor([0.6, 0.9]).log()
    return model, edgeless(torch.tensor([[1.0, -0.3, 0.8]]).repeat(count, 1))


def analytic_elbo(model, x):
    """In closed form for a linear decoder and a diagonal normal q, `(B,)`."""
    weight, bias = model.features.loc.weight, model.features.loc.bias
    loc, scale = model.encoder.loc, model.encoder.log_scale.exp()
    error = ((x - loc @ weight.T - bias) ** 2).sum(1) + (scale**2 * (weight**2).sum(0)).sum(1)
    fit_ = -error / (2 * 0.7**2) - 3 * math.log(0.7) - 1.5 * math.log(2 * math.pi)
    return fit_ - (loc**2 + scale**2 - 1 - 2 * scale.log()).sum(1) / 2


@double
@pytest.mark.parametrize("expectation", [Pathwise(), Pathwise(5), ScoreFunction(1, None), ScoreFunction(5)])
def test_normal_latents_have_the_analytic_value_and_gradients(expectation):
    """Of q's parameters, copy by copy, and of the decoder's: whichever the estimator, and for any number of draws."""
    model, graphs = linear_gaussian(20_000)
    of_q = [model.encoder.loc, model.encoder.log_scale]
    expected = analytic_elbo(model, graphs.x)
    exact = torch.cat(torch.autograd.grad(expected.sum(), of_q, retain_graph=True), 1)[0]
    value = expected_elbo(model, graphs, expectation)
    assert off_by(value[:, None], expected[0].detach()) < 4
    assert off_by(torch.cat(torch.autograd.grad(value.sum(), of_q, retain_graph=True), 1), exact) < 4
    of_p = [model.features.loc.weight, model.features.loc.bias]
    for found, wanted in zip(
        torch.autograd.grad(value.mean(), of_p), torch.autograd.grad(expected.mean(), of_p), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05)


@double
def test_one_pathwise_draw_is_the_elbo():
    model, graphs = linear_gaussian(6)
    torch.manual_seed(3)
    one = elbo(model, graphs)
    torch.manual_seed(3)
    assert torch.equal(expected_elbo(model, graphs, Pathwise()), one)


@double
def test_a_kl_without_closed_form_is_part_of_the_expectation():
    """Of the path and of the score, whose gradients agree, also in the prior's parameters."""
    model, graphs = linear_gaussian(20_000)
    model.prior = NormalMixture(2, 3)
    of_q, of_p = [model.encoder.loc, model.encoder.log_scale], [model.prior.loc]
    torch.manual_seed(5)
    one = elbo(model, graphs, 0.7)
    torch.manual_seed(5)
    torch.testing.assert_close(expected_elbo(model, graphs, Pathwise(), 0.7), one, rtol=1e-12, atol=1e-12)
    found, of_prior = [], []
    for expectation in (Pathwise(2), ScoreFunction(4)):
        value = expected_elbo(model, graphs, expectation)
        found.append(torch.cat(torch.autograd.grad(value.sum(), of_q, retain_graph=True), 1))
        of_prior.append(torch.autograd.grad(value.mean(), of_p)[0])
    assert off_by(found[0] - found[1], 0) < 4
    assert off_by(found[0], 0) > 20, "there is a gradient to agree on"
    torch.testing.assert_close(of_prior[0], of_prior[1], rtol=0.05, atol=0.01)


@double
def test_score_functions_of_normal_latents_are_those_of_the_path_on_average():
    model, graphs = linear_gaussian(20_000)
    of_q = [model.encoder.loc, model.encoder.log_scale]
    found = [
        torch.cat(torch.autograd.grad(importance_bound(model, graphs, 3, gradient=g).sum(), of_q), 1)
        for g in (Gradient.PLAIN, *SCORES)
    ]
    assert all(off_by(found[0] - other, 0) < 4 for other in found[1:])


@double
def test_enumeration_does_not_depend_on_the_numbering():
    model, graphs = node_bits(), few_graphs()
    order = torch.tensor([1, 0, 2, 5, 3, 4])
    moved = permute(graphs, order)
    for value in (partial(expected_elbo, expectation=Enumeration()), enumerated):
        torch.testing.assert_close(value(model, moved), value(model, graphs), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "objective",
    [
        partial(expected_elbo, expectation=Enumeration()),
        partial(expected_elbo, expectation=ScoreFunction(8)),
        partial(importance_bound, particles=8, gradient=Gradient.VIMCO),
        partial(relaxed, relaxation=Relaxation(0.5)),
    ],
)
def test_training_finds_what_the_bits_are(objective):
    """Four prototypes, two bits: every way comes near the entropy of the data, from far below."""
    prototypes = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1]]).float()
    x = prototypes.repeat(16, 1)
    torch.manual_seed(1)
    features = BernoulliFeatures(Nodewise(nn.Sequential(nn.Linear(2, 16), nn.Tanh())), 16, 6)
    encoder = BernoulliEncoder(Nodewise(nn.Sequential(nn.Linear(6, 16), nn.Tanh())), 16, 2)
    model = GraphVAE(BernoulliPrior(2), encoder, None, features)
    before = enumerated(model, edgeless(x)).mean()
    fit(model, edgeless(x), objective, epochs=150, optimizer=torch.optim.Adam(model.parameters(), 0.03), progress=False)
    after = enumerated(model, edgeless(x)).mean()
    assert before < -4 < -2.3 < after < -math.log(4)
    bound = expected_elbo(model, edgeless(x), Enumeration()).mean()
    assert bound > after - 0.5
    assert set(model.sample(5, 0).x.unique().tolist()) <= {0.0, 1.0}


def test_models_are_saved_with_all_they_have(tmp_path):
    for k, (make_model, make_graphs) in enumerate(CASES.values()):
        model, graphs = make_model().eval(), make_graphs()
        save(model, tmp_path / str(k))
        again = load(tmp_path / str(k)).eval()
        values = [expected_elbo(m, graphs, Enumeration()) for m in (model, again)]
        assert torch.equal(*values)
        assert again.prior.logits.requires_grad == model.prior.learned


def test_half_precision_is_left_for_probabilities():
    model = binary_vectors().to(torch.bfloat16)
    graphs = edgeless(few_vectors().x.bfloat16())
    q = model.posterior(graphs)
    assert log_probs(q, codes(q)[0]).dtype == torch.float32
    for value in (
        expected_elbo(model, graphs, Enumeration()),
        importance_bound(model, graphs, 4, gradient=Gradient.VIMCO),
        relaxed(model, graphs, Relaxation(1.0)),
    ):
        assert value.dtype == torch.float32
        assert gradient_of(model, value).isfinite().all()


def test_what_does_not_fit_is_refused_with_the_way_out():
    model, graphs = binary_vectors(), few_vectors()
    for call in (elbo, partial(importance_bound, particles=2)):
        with pytest.raises(
            TypeError, match=r"draws of Bernoulli have no gradient; use bounds\.expected_elbo with Enum"
        ):
            call(model, graphs)
    for gradient in SCORES:
        with pytest.raises(ValueError, match="'particles' must be at least 2 for the baseline of Gradient"):
            importance_bound(model, graphs, 1, gradient=gradient)
        with torch.no_grad():
            assert log_importance_weights(model, graphs, 1, gradient=gradient).shape == (1, 5)
    with pytest.raises(TypeError, match="'noise' needs a normal distribution, this is Bernoulli"):
        importance_bound(model, graphs, 2, torch.zeros(2, 5, 4), gradient=Gradient.VIMCO)
    model.encoder = PointEncoder(Nodewise(nn.Linear(6, 7)), 7, 4)
    with pytest.raises(TypeError, match="a PointMass has none"):
        expected_elbo(model, graphs, Pathwise())
    assert reconstruction(model, graphs).shape == (5,)
    model.encoder = NormalEncoder(Nodewise(nn.Linear(6, 7)), 7, 4)
    for call in (expected_elbo, relaxed):
        with pytest.raises(
            TypeError, match="'prior' must be of the same kind of latents as the encoder, got Bernoulli and N"
        ):
            call(model, graphs, Pathwise())
    with pytest.raises(TypeError, match="of the same kind of latents as the encoder"):
        importance_bound(model, graphs, 2)
    with pytest.raises(ValueError, match=r"the prior .* do not fit together: 'prior' must be of the same kind"):
        fit(model, graphs, partial(expected_elbo, expectation=Pathwise()), progress=False)
    model.prior = StandardNormal(4)
    with pytest.raises(TypeError, match="'q' must be Bernoulli or one-hot categorical to be relaxed"):
        relaxed(model, graphs, Relaxation(1.0))
    with pytest.raises(TypeError, match="values of Normal cannot be enumerated"):
        enumerated(model, graphs)
    for make in (BernoulliPrior, CategoricalPrior):
        with pytest.raises(ValueError, match="'latent' must be positive, got 0"):
            make(0)
    with pytest.raises(ValueError, match=r"sizes must be positive"):
        BernoulliEncoder(nn.Identity(), 0, 2)
    assert BernoulliPrior(3)(Layout.singles(2)).mean.tolist() == [[0.5] * 3] * 2


def test_a_graph_without_a_batch_is_encoded_too():
    x, edge_index = torch.randn(3, 5), torch.tensor([[0, 1], [1, 0]])
    for make in (BernoulliEncoder, CategoricalEncoder):
        q = make(GCN(5, 6, 2), 6, 3)(x, edge_index)
        assert q.mean.shape == q.sample().shape == (3, 3)
        assert q.log_prob(q.sample()).shape == (1,)
    value = expected_elbo(blocks(), Data(x=x, edge_index=edge_index), ScoreFunction())
    assert value.shape == (1,)
