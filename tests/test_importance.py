import itertools
import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, constraints
from torch_geometric.data import Data
from torch_geometric.nn import GCN, GCNConv
from torch_geometric.nn.aggr import SumAggregation

from conftest import random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo, importance_bound
from graphvae.backbones import GraphConvolution, Nodewise, Stack
from graphvae.bounds import Gradient, effective_sample_size, log_importance_weights
from graphvae.bounds.importance import draws
from graphvae.distributions import BernoulliEdges, EstimatedEdges, PerGraph
from graphvae.edges import Bilinear, Estimated, InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.estimates import SampledPairs
from graphvae.features import GaussianFeatures
from graphvae.graphs import permute
from graphvae.layout import Layout
from graphvae.priors import EmpiricalSizes, StandardNormal

pytestmark = pytest.mark.usefixtures("double")
COPIES = 4000
PARTICLES = (1, 2, 5, 20, 100)


def lecture_model(directed=False, pool=None):
    """GNN encoder, MLP and product for A, GNN on (Z, A) for X; with p(n)."""
    mlp = nn.Sequential(nn.Linear(3, 6), nn.Tanh())
    edges = Bilinear(6, 0.3, mlp) if directed else InnerProduct(0.3, mlp)
    features = GaussianFeatures(Stack(GraphConvolution(3, 8), nn.Tanh(), GCNConv(8, 8)), 8, 5)
    if pool:
        edges, features = OfWholeGraph(edges), OfWholeGraph(features)
    encoder = NormalEncoder(GCN(5, 8, 2), 8, 3, pool)
    return GraphVAE(StandardNormal(3), encoder, edges, features, EmpiricalSizes([1, 6, 9]))


class OfWholeGraph(nn.Module):
    """A factor of latents of nodes as one of latents of whole graphs: all nodes get that of their graph."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        for name in ("directed", "features", "support"):
            if hasattr(factor, name):
                setattr(self, name, getattr(factor, name))

    def forward(self, z, *edge_index, layout=None):
        *edge_index, layout = edge_index if layout is None else (*edge_index, layout)
        return self.factor(z[layout.batch], *edge_index, layout)


class LinearFeatures(nn.Module):
    """x = W z + b + noise of standard deviation 0.7, with W of orthogonal columns: all that follows is known."""

    support = constraints.real
    features = 3

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.5], [0.5, -1.0], [1.0, 0.0]]))
        self.bias = nn.Parameter(torch.tensor([0.2, -0.4, 0.1]))

    def forward(self, z, edge_index, layout=None):
        loc = z @ self.weight.T + self.bias
        return PerGraph(Normal(loc, torch.full_like(loc, 0.7)), layout)

    def log_prob_of_nodes_that_share(self, x):
        """Log p of the rows `x` `(n, 3)` of nodes with one latent in common."""
        weight = self.weight.repeat(len(x), 1)
        covariance = weight @ weight.T + 0.49 * torch.eye(len(weight))
        return MultivariateNormal(self.bias.repeat(len(x)), covariance).log_prob(x.flatten()).item()

    def posterior(self, x):
        """Mean and standard deviation of the latent of one node."""
        precision = 1 + (self.weight**2).sum(0) / 0.49
        return (x - self.bias) @ self.weight / 0.49 / precision, precision**-0.5


def linear_gaussian(copies, loc=(0.6, -0.1), scale=0.75):
    """Copies of a vector, each with a normal posterior of its own that is not the exact one; and log p(x)."""
    x, features = torch.tensor([[1.0, -0.3, 0.8]]), LinearFeatures()
    model = GraphVAE(StandardNormal(2), FreeNormal(copies, 2), features=features)
    model.encoder.loc.data[:] = torch.tensor(loc)
    model.encoder.log_scale.data.fill_(math.log(scale))
    return model, edgeless(x.repeat(copies, 1)), features.log_prob_of_nodes_that_share(x)


def linear_gaussian_of_graphs(copies):
    """Copies of a graph of three nodes, whose one latent is encoded by a pooled network; and log p(G)."""
    x, features = torch.tensor([[1.0, -0.3, 0.8], [0.1, 0.5, 1.2], [1.5, 0.0, 0.0]]), LinearFeatures()
    encoder = NormalEncoder(Nodewise(nn.Linear(3, 2)), 2, 2, SumAggregation())
    for head in (encoder.loc, encoder.log_scale):
        head.weight.data.zero_()
    encoder.loc.bias.data[:] = torch.tensor([0.9, 0.1])
    encoder.log_scale.bias.data.fill_(math.log(0.6))
    model = GraphVAE(StandardNormal(2), encoder, features=OfWholeGraph(features))
    graph = Data(x=x, edge_index=torch.empty(2, 0, dtype=torch.long))
    return model, as_batch([graph] * copies), features.log_prob_of_nodes_that_share(x)


def exact_posterior(copies):
    model, graphs, exact = linear_gaussian(copies)
    loc, scale = model.features.posterior(graphs.x)
    model.encoder.loc.data.copy_(loc)
    model.encoder.log_scale.data.copy_(scale.log().expand_as(loc))
    return model, graphs, exact


def assert_mean(values, expected, errors=4.0):
    assert (values.mean(0) - expected).abs().max() < errors * values.std(0).max() / len(values) ** 0.5


def assert_positive(values, errors=4.0):
    assert values.mean() > errors * values.std() / len(values) ** 0.5


@pytest.mark.parametrize("example", [linear_gaussian, linear_gaussian_of_graphs])
@torch.no_grad()
def test_the_bound_rises_from_the_elbo_to_the_exact_likelihood(example):
    model, graphs, exact = example(COPIES)
    weights = log_importance_weights(model, graphs, 100)
    bounds = {k: weights[:k].logsumexp(0) - math.log(k) for k in PARTICLES}
    assert_mean(bounds[1] - elbo(model, graphs), 0)
    for fewer, more in itertools.pairwise(PARTICLES):
        assert_positive(bounds[more] - bounds[fewer])
    assert exact - bounds[1].mean() > 0.05
    # E[w / p - 1] = 0, and taking it off leaves little noise: what remains of log p - L_K.
    ratios = {k: (bound - exact).exp() for k, bound in bounds.items()}
    for k, ratio in ratios.items():
        assert_positive(ratio - 1 - (bounds[k] - exact))
        assert_mean(ratio, 1)
    gap = (ratios[100] - 1 - (bounds[100] - exact)).mean()
    assert gap < 0.01
    variance = (weights - exact).exp().var()
    torch.testing.assert_close(gap, variance / 200, rtol=0.1, atol=0)


def _log_p_of_an_edge(model):
    """log p(A) of two joined nodes with one latent each, by a grid over both latents."""
    grid = torch.linspace(-7, 7, 141)
    z = torch.cartesian_prod(grid, grid)
    step = (grid[1] - grid[0]).log() * 2
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    layout = Layout.of(torch.full((len(z),), 2))
    scores = model.edges(z.reshape(-1, 1), layout).logits(torch.arange(2 * len(z)).view(-1, 2).T)
    return (log_prior + nn.functional.logsigmoid(scores)).logsumexp(0) + step


@torch.no_grad()
def test_the_bound_on_an_edge_rises_to_the_likelihood():
    graphs = as_batch([random_graph(2, 1.0, seed=0)] * COPIES)
    model = GraphVAE(StandardNormal(1), FreeNormal(2 * COPIES, 1), InnerProduct(0.1))
    model.encoder.loc.data.fill_(0.8)
    exact = _log_p_of_an_edge(model)
    weights = log_importance_weights(model, graphs, 32)
    assert_mean(weights[0].exp(), exact.exp())
    bounds = [weights[:k].logsumexp(0) - math.log(k) for k in (1, 2, 8, 32)]
    assert_mean(bounds[0] - elbo(model, graphs), 0)
    for fewer, more in itertools.pairwise(bounds):
        assert_positive(more - fewer)
    assert_positive(exact - bounds[-1])
    assert bounds[-1].mean() > exact - 0.2
    assert bounds[0].mean() < exact - 0.4


@torch.no_grad()
def test_two_other_averages_of_the_weights_are_not_the_bound():
    model, graphs, exact = linear_gaussian(COPIES)
    weights = log_importance_weights(model, graphs, 20)
    bound = weights.logsumexp(0) - math.log(20)
    weighted = (weights.softmax(0) * weights).sum(0)
    assert (weighted >= bound).all()
    assert_positive(weighted - exact)
    assert_mean(weights.mean(0) - elbo(model, graphs), 0)


@torch.no_grad()
def test_where_the_posterior_is_exact_every_weight_is_the_likelihood():
    model, graphs, exact = exact_posterior(5)
    weights = log_importance_weights(model, graphs, 7)
    torch.testing.assert_close(weights, torch.full((7, 5), exact), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(effective_sample_size(weights), torch.full((5,), 7.0), rtol=1e-12, atol=0)


def _weights_one_by_one(model, graphs, noise):
    q = model.posterior(graphs)
    prior, weights = model.prior(q.layout), []
    for eps in noise:
        z = q.mean + q.stddev * eps
        weights.append(model.log_likelihood(graphs, z) + prior.log_prob(z) - q.log_prob(z))
    return torch.stack(weights)


def _example(name):
    """A model, a batch of mixed sizes with a graph of one node, and the number of rows of the latents."""
    directed = name == "directed"
    graphs = as_batch([random_graph(n, 0.4, seed=n, directed=directed) for n in (6, 1, 9)], directed)
    model = lecture_model(directed, SumAggregation() if name == "whole graphs" else None)
    if name == "edges alone":
        model.features = None
    if name == "sparse features":
        graphs = as_batch(random_graph(9, 0.4, seed=1))
        graphs.x = graphs.x.to_sparse_csr()
        model.encoder.backbone = Stack(GraphConvolution(5, 8), nn.Tanh())
    return model, graphs, model.posterior(graphs).mean.size(0)


EXAMPLES = ["nodes", "whole graphs", "directed", "edges alone", "sparse features"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_batch_of_particles_equals_one_after_another(name):
    model, graphs, rows = _example(name)
    noise = torch.randn(4, rows, 3)
    expected = _weights_one_by_one(model, graphs, noise)
    found = log_importance_weights(model, graphs, 4, noise)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    bound = importance_bound(model, graphs, 4, noise)
    torch.testing.assert_close(bound, expected.exp().mean(0).log(), rtol=1e-10, atol=1e-10)
    gradients = [
        torch.autograd.grad(value.sum(), list(model.parameters()), allow_unused=True)
        for value in (bound, expected.logsumexp(0))
    ]
    assert sum(g is not None for g in gradients[0]) > 8
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def _gradients(model, graphs, noise, gradient, chunk=None):
    model.zero_grad()
    value = importance_bound(model, graphs, len(noise), noise, chunk, gradient)
    (value * torch.arange(1.0, 1 + len(value))).sum().backward()
    return value.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("gradient", Gradient)
@pytest.mark.parametrize("name", ["nodes", "whole graphs"])
def test_chunks_change_neither_value_nor_gradient(name, gradient):
    model, graphs, rows = _example(name)
    noise = torch.randn(7, rows, 3)
    value, expected = _gradients(model, graphs, noise, gradient)
    for chunk in (1, 3, 7, 50):
        found, gradients = _gradients(model, graphs, noise, gradient, chunk)
        torch.testing.assert_close(found, value, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-10)


def test_chunks_keep_dropout_as_it_was_drawn(batch):
    model, noise = lecture_model(), torch.randn(4, 16, 3)
    model.edges.network.append(nn.Dropout(0.5))
    values = list(model.parameters())
    torch.manual_seed(1)
    value = importance_bound(model, batch, 4, noise, chunk=1).sum()
    torch.manual_seed(1)
    weights = torch.stack([log_importance_weights(model, batch, 1, eps[None])[0] for eps in noise])
    torch.testing.assert_close(value, (weights.logsumexp(0) - math.log(4)).sum())
    gradients = [torch.autograd.grad(v, values) for v in (value, weights.logsumexp(0).sum())]
    torch.testing.assert_close(*gradients)
    assert importance_bound(model, batch, 4, noise, chunk=1).sum() != value, "it does drop"


def test_chunks_keep_less_for_the_backward_pass(batch):
    model, noise, kept = lecture_model(), torch.randn(24, 16, 3), {None: 0, 2: 0}

    def keep(tensor):
        kept[chunk] += tensor.numel()
        return tensor

    for chunk in kept:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            importance_bound(model, batch, 24, noise, chunk)
    assert 0 < kept[2] < 0.2 * kept[None]


def test_the_encoder_runs_once_and_the_decoders_once_for_a_chunk(batch):
    model, calls = lecture_model(), []
    for name in ("encoder", "edges", "features", "prior"):
        getattr(model, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    importance_bound(model, batch, 6)
    assert sorted(calls) == ["edges", "encoder", "features", "prior"]
    calls.clear()
    with torch.no_grad():
        importance_bound(model, batch, 6, chunk=4)
    assert sorted(calls) == ["edges", "edges", "encoder", "features", "features", "prior"]


def test_invariant_under_relabelling_if_the_noise_moves_along(batch):
    model, noise = lecture_model(), torch.randn(3, 16, 3)
    value = importance_bound(model, batch, 3, noise)
    for _ in range(20):
        order = torch.cat([torch.randperm(6), torch.tensor([6]), 7 + torch.randperm(9)])
        moved = permute(batch, order)
        found = importance_bound(model, moved, 3, noise[:, order])
        torch.testing.assert_close(found, value, rtol=1e-10, atol=1e-10)
    assert (importance_bound(model, moved, 3, noise) - value).abs().max() > 1e-3
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(importance_bound(model, batch, 3, noise[order]), value, rtol=1e-12, atol=0)


def _by_the_formula(model, graphs, noise, gradient):
    """The gradients of loc and log_scale of a FreeNormal as the docstring of `Gradient` writes them."""
    loc, log_scale = model.encoder.loc.detach(), model.encoder.log_scale.detach()
    total = [torch.zeros_like(loc), torch.zeros_like(loc)]
    weights = _weights_one_by_one(model, graphs, noise).detach()
    shares = weights.softmax(0)[:, graphs.layout.batch, None]
    for k, (share, eps) in enumerate(zip(shares, noise, strict=True)):
        z = (loc + log_scale.exp() * eps).requires_grad_()
        free = [loc.clone().requires_grad_(), log_scale.clone().requires_grad_()]
        log_q = Normal(free[0], free[1].exp()).log_prob(z).sum()
        log_p = (model.log_likelihood(graphs, z) + model.prior(graphs.layout).log_prob(z)).sum()
        slope, *scores = torch.autograd.grad(log_p - log_q, [z, *free])
        along, beside = {
            Gradient.PLAIN: (share, share),
            Gradient.STL: (share, 0),
            Gradient.DREG: (share**2, 0),
            Gradient.VIMCO: (0, share - _advantage(weights, k, True)[graphs.layout.batch, None]),
            Gradient.LEAVE_ONE_OUT: (0, share - _advantage(weights, k, False)[graphs.layout.batch, None]),
        }[gradient]
        for sum_, path, score in zip(total, (1, log_scale.exp() * eps), scores, strict=True):
            sum_ += along * slope * path + beside * score
    return total


def _advantage(weights, k, filled):
    """The bound less that from the other draws, with the mean of their log-weights in place of the k-th or nothing."""
    others = weights[[j for j in range(len(weights)) if j != k]]
    rest = torch.cat([others, others.mean(0, keepdim=True)]) if filled else others
    return weights.logsumexp(0) - math.log(len(weights)) - rest.logsumexp(0) + math.log(len(rest))


@pytest.mark.parametrize("chunk", [None, 2])
@pytest.mark.parametrize("gradient", Gradient)
def test_each_gradient_is_its_formula(batch, gradient, chunk):
    model, noise = lecture_model(), torch.randn(5, 16, 3)
    model.encoder = FreeNormal(16, 3)
    model.encoder.loc.data.normal_()
    model.encoder.log_scale.data.normal_()
    importance_bound(model, batch, 5, noise, chunk, gradient).sum().backward()
    expected = _by_the_formula(model, batch, noise, gradient)
    found = [model.encoder.loc.grad, model.encoder.log_scale.grad]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_value_and_decoder_gradient_are_the_same_in_all(batch):
    model, noise = lecture_model(), torch.randn(5, 16, 3)
    (plain, first), *others = [_gradients(model, batch, noise, gradient) for gradient in Gradient]
    of_q = {name for name in first if name.startswith("encoder.")}
    for value, gradients in others:
        assert torch.equal(value, plain)
        for name in first.keys() - of_q:
            torch.testing.assert_close(gradients[name], first[name], rtol=1e-12, atol=1e-12)
        assert all((gradients[name] - first[name]).abs().max() > 1e-6 for name in of_q)


def _gradients_of_copies(particles, gradient, copies=COPIES):
    """`(copies, 4)` independent draws of the gradient with respect to loc and log_scale, of one noise for all three."""
    torch.manual_seed(particles)
    model, graphs, _ = linear_gaussian(copies)
    importance_bound(model, graphs, particles, gradient=gradient).sum().backward()
    return torch.cat([model.encoder.loc.grad, model.encoder.log_scale.grad], 1)


def test_stl_is_unbiased_for_one_particle_and_dreg_for_any():
    for particles, gradient in ((1, Gradient.STL), (1, Gradient.DREG), (2, Gradient.DREG), (8, Gradient.DREG)):
        plain = _gradients_of_copies(particles, Gradient.PLAIN, 20000)
        found = _gradients_of_copies(particles, gradient, 20000)
        for column in (plain - found).T:
            assert_mean(column, 0)
        assert (found.mean(0).abs() > 6 * found.std(0) / 20000**0.5).any(), "there is a gradient to be unbiased for"
    biased = _gradients_of_copies(8, Gradient.STL) - _gradients_of_copies(8, Gradient.PLAIN)
    assert (biased.mean(0).abs() > 6 * biased.std(0) / COPIES**0.5).any()


def test_many_particles_drown_the_plain_gradient_in_noise_and_not_that_of_dreg():
    variances = {g: _gradients_of_copies(64, g).var(0) for g in (Gradient.PLAIN, Gradient.DREG)}
    assert (variances[Gradient.DREG] < 0.2 * variances[Gradient.PLAIN]).all()


def test_at_the_exact_posterior_only_the_plain_gradient_is_noise():
    model, graphs, _ = exact_posterior(5)
    for gradient, particles in ((Gradient.STL, 1), (Gradient.STL, 6), (Gradient.DREG, 6)):
        _, found = _gradients(model, graphs, torch.randn(particles, 5, 2), gradient)
        assert found["encoder.loc"].abs().max() < 1e-10
        assert found["encoder.log_scale"].abs().max() < 1e-10
    _, found = _gradients(model, graphs, torch.randn(6, 5, 2), Gradient.PLAIN)
    assert found["encoder.loc"].abs().min() > 1e-3


def test_the_effective_sample_size_counts_the_particles_that_matter():
    weights = torch.tensor([[1.0, 1.0, 1.0, 3.0], [1.0, 0.0, 0.0, 3.0], [1.0, 0.0, 1.0, 1.0]])
    expected = torch.tensor([3.0, 1.0, 2.0, 49 / 19])
    torch.testing.assert_close(effective_sample_size(weights.log() - 2000), expected)
    found = effective_sample_size(3 * torch.randn(16, 500))
    assert ((found >= 1) & (found <= 16)).all()


def _free_nodes(num_nodes):
    """A graph of nodes that have nothing to do with each other, and a posterior that is off by little at each."""
    x = torch.tensor([[1.0, -0.3, 0.8]]).repeat(num_nodes, 1)
    model, graphs, _ = linear_gaussian(num_nodes, loc=(0.75, -0.1), scale=0.55)
    return model, as_batch(Data(x=x, edge_index=graphs.edge_index))


def test_latents_of_many_nodes_leave_one_particle_with_all_the_weight():
    sizes = {}
    for num_nodes in (2, 20, 500):
        model, graphs = _free_nodes(num_nodes)
        weights = torch.cat([log_importance_weights(model, graphs, 16).detach() for _ in range(20)], 1)
        sizes[num_nodes] = effective_sample_size(weights).mean()
    assert sizes[2] > 7
    assert sizes[2] > sizes[20] > sizes[500]
    assert sizes[500] < 3


def test_many_latents_of_a_graph_are_warned_of():
    model, graphs = _free_nodes(501)
    with pytest.warns(UserWarning, match=r"1002 latent numbers, more than 1000.*one of the 2 particles") as caught:
        importance_bound(model, graphs, 2)
    assert caught[0].filename == __file__
    importance_bound(model, graphs, 1)  # The ELBO, which has a meaning.
    importance_bound(*linear_gaussian(600)[:2], 2)  # 1200 in all, 2 in each graph.
    assert importance_bound(*_free_nodes(500), 2).shape == (1,)


def test_half_precision_is_left_for_sums_and_draws(batch):
    model = GraphVAE(StandardNormal(3), NormalEncoder(Nodewise(nn.Linear(5, 8)), 8, 3), InnerProduct(0.3))
    model = model.to(torch.bfloat16)
    graphs = as_batch([Data(x=g.x.bfloat16(), edge_index=g.edge_index) for g in batch.to_data_list()])
    assert importance_bound(model, graphs, 4, gradient=Gradient.DREG).dtype == torch.float32
    q = model.posterior(graphs)
    z, log_ratio, *_ = draws(model, q, 4)
    wide = PerGraph(Normal(q.mean.double(), q.stddev.double()), q.layout)
    prior = StandardNormal(3)(q.layout)
    expected = torch.stack([prior.log_prob(v) - wide.log_prob(v) for v in z.double().split(16)])
    torch.testing.assert_close(log_ratio.double(), expected, rtol=1e-5, atol=1e-5)


def test_an_estimated_likelihood_is_refused(batch):
    model = GraphVAE(
        StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), Estimated(InnerProduct(0.3), SampledPairs(10))
    )
    assert elbo(model, batch).shape == (3,), "the ELBO takes it"
    with pytest.raises(ValueError, match=r"edge factor Estimated estimates it.*model\.edges\.factor"):
        importance_bound(model, batch, 2)
    model.edges = model.edges.factor
    assert importance_bound(model, batch, 2).shape == (3,)


class EstimatedInside(nn.Module):
    """An edge factor of one's own that does not say that its distribution is estimated."""

    directed = False

    def __init__(self):
        super().__init__()
        self.density = nn.Parameter(torch.tensor(0.3))

    def forward(self, z, layout=None):
        return EstimatedEdges(BernoulliEdges(z, z, self.density, layout), SampledPairs(3))


def test_an_estimate_that_a_factor_hides_is_refused(batch):
    model = GraphVAE(StandardNormal(2), FreeNormal(6, 2), EstimatedInside())
    for chunk in (None, 1):
        with pytest.raises(ValueError, match="must compute log p"):
            importance_bound(model, random_graph(6, 0.5, seed=1), 2, chunk=chunk)
    inner = Estimated(InnerProduct(0.3), SampledPairs(10))
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), OfWholeGraph(inner))
    with pytest.raises(ValueError, match="edge factor OfWholeGraph estimates it"):
        importance_bound(model, batch, 2)


def test_noise_in_the_likelihood_would_break_the_bound():
    """Why it is refused: the same sum over noisy log p exceeds the exact likelihood."""
    z = torch.zeros(40, 2)
    z[0], z[1] = torch.tensor([9.0, 0]), torch.tensor([9.0, 0])
    edges, none = InnerProduct(0.001)(z), torch.empty(2, 0, dtype=torch.long)
    exact = edges.log_prob(none).item()
    noisy = torch.stack([SampledPairs(20)(edges, none) for _ in range(400)])
    assert noisy.logsumexp(0).item() - math.log(400) > exact + 1


def test_bad_arguments_are_refused(batch):
    plain = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    with pytest.raises(TypeError, match="'model' must have an encoder with a density"):
        importance_bound(plain, batch, 2)
    model = lecture_model()
    with pytest.raises(ValueError, match="'particles' must be positive, got 0"):
        importance_bound(model, batch, 0)
    for shape in ((2, 16, 3), (16, 3), (3, 16, 1), (3, 1, 3)):
        with pytest.raises(
            ValueError, match=r"'noise' must have one draw for each of the 3 particles, of shape \(3, 16"
        ):
            importance_bound(model, batch, 3, torch.randn(shape))
    with pytest.raises(ValueError, match="'chunk' must be positive, got 0"):
        importance_bound(model, batch, 3, chunk=0)
    with pytest.raises(TypeError, match=r"'gradient' must be a bounds\.Gradient, such as Gradient\.DREG, got 'stl'"):
        importance_bound(model, batch, 3, gradient="stl")
