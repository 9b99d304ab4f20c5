import dataclasses
import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN, GCNConv
from torch_geometric.nn.aggr import SumAggregation

from conftest import all_edge_sets, random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo, fit
from graphvae.backbones import Nodewise, Stack
from graphvae.bounds import importance_bound, log_importance_weights, masked_elbo
from graphvae.datasets.splits import LinkSplit
from graphvae.distributions import BernoulliEdges
from graphvae.edges import Bilinear, Estimated, InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.estimates import SampledPairs
from graphvae.evaluation.likelihood import quadrature
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures, LearnedScale
from graphvae.graphs import permute
from graphvae.masking import MaskedGraphs
from graphvae.priors import EmpiricalSizes, StandardNormal

pytestmark = pytest.mark.usefixtures("double")


def lecture_model(features=5, latent=3):
    """GNN encoder, MLP and inner product for A, GNN on (Z, A) for X."""
    mlp = nn.Sequential(nn.Linear(latent, 6), nn.Tanh())
    decoder = GaussianFeatures(Stack(GCNConv(latent, 8), nn.Tanh()), 8, features)
    return GraphVAE(
        StandardNormal(latent), NormalEncoder(GCN(features, 8, 2), 8, latent), InnerProduct(0.3, mlp), decoder
    )


def test_a_batch_equals_its_graphs(batch):
    model, noise = lecture_model(), torch.randn(16, 3)
    together = elbo(model, batch, noise=noise)
    alone = [elbo(model, g, noise=e) for g, e in zip(batch.to_data_list(), noise.split([6, 1, 9]), strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-10, atol=1e-10)


def test_invariant_under_relabelling_if_the_noise_moves_along(batch):
    model, noise = lecture_model(), torch.randn(16, 3)
    value = elbo(model, batch, noise=noise)
    for _ in range(20):
        order = torch.cat([torch.randperm(6), torch.tensor([6]), 7 + torch.randperm(9)])
        moved = permute(batch, order)
        torch.testing.assert_close(elbo(model, moved, noise=noise[order]), value, rtol=1e-10, atol=0)
    # With the noise left behind it is another sample, and not the same number.
    assert (elbo(model, moved, noise=noise) - value).abs().max() > 1e-3


class FlatEdges(nn.Module):
    """An edge factor that is not equivariant: an MLP on all latents of a 9-node graph, written out in a row."""

    directed = False

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(27, 30), nn.Tanh(), nn.Linear(30, 27))

    def forward(self, z, layout=None):
        h = self.network(z.flatten()).view(9, 3)
        return BernoulliEdges(h, h, torch.zeros(()), layout)


def test_a_decoder_that_is_not_equivariant_fails_that_test():
    model = GraphVAE(StandardNormal(3), NormalEncoder(GCN(5, 8, 2), 8, 3), FlatEdges())
    graph, noise, order = as_batch(random_graph(9, 0.4, seed=1)), torch.randn(9, 3), torch.randperm(9)
    difference = elbo(model, permute(graph, order), noise=noise[order]) - elbo(model, graph, noise=noise)
    assert difference.abs().item() > 1e-2


def test_vectors_give_the_textbook_elbo_exactly():
    x = (torch.rand(20, 7) < 0.4).double()
    encode = nn.Sequential(nn.Linear(7, 6), nn.Tanh())
    decode = nn.Sequential(nn.Linear(2, 6), nn.Tanh())
    encoder, features = NormalEncoder(Nodewise(encode), 6, 2), BernoulliFeatures(Nodewise(decode), 6, 7)
    model = GraphVAE(StandardNormal(2), encoder, InnerProduct(0.5), features)
    noise = torch.randn(20, 2)
    mean, log_scale = encoder.loc(encode(x)), encoder.log_scale(encode(x))
    logits = features.logits(decode(mean + log_scale.exp() * noise))
    reconstruction = -nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kl = 0.5 * (mean**2 + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
    # The edge factor is there, and silent: a graph of one node has no pairs.
    torch.testing.assert_close(elbo(model, edgeless(x), noise=noise), reconstruction - kl, rtol=0, atol=1e-12)
    torch.testing.assert_close(elbo(model, edgeless(x), 0.3, noise), reconstruction - 0.3 * kl, rtol=0, atol=1e-12)


COPIES = 4000


def test_the_elbo_equals_the_likelihood_at_the_exact_posterior():
    """Orthogonal columns make the posterior of a linear-Gaussian model diagonal; then the bound is tight."""
    x = torch.randn(6, 5)
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 5, FixedScale(0.8))
    model = GraphVAE(StandardNormal(2), FreeNormal(6 * COPIES, 2), features=features)
    sigma = features(torch.zeros(1, 2), torch.empty(2, 0, dtype=torch.long)).stddev[0, 0].item()
    weight = torch.linalg.qr(torch.randn(5, 2)).Q @ torch.diag(torch.tensor([1.5, 0.7]))
    features.loc.weight.data = weight
    precision = torch.diag(weight.T @ weight) / sigma**2 + 1
    model.encoder.loc.data = ((x - features.loc.bias.data) @ weight / sigma**2 / precision).repeat(COPIES, 1)
    model.encoder.log_scale.data = (-0.5 * precision.log()).repeat(6 * COPIES, 1)
    covariance = weight @ weight.T + sigma**2 * torch.eye(5)
    exact = torch.distributions.MultivariateNormal(features.loc.bias, covariance).log_prob(x)
    vectors = edgeless(x.repeat(COPIES, 1))
    q = model.posterior(vectors)
    z = q.rsample()
    ratio = model.log_likelihood(vectors, z) + model.prior(q.layout).log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(ratio.view(COPIES, 6), exact.expand(COPIES, 6), rtol=1e-10, atol=1e-10)
    draws = elbo(model, vectors).view(COPIES, 6)
    assert ((draws.mean(0) - exact).abs() < 4.5 * draws.std(0) / COPIES**0.5).all()
    model.encoder.loc.data += 0.5
    assert (elbo(model, vectors).view(COPIES, 6).mean(0) < exact - 0.1).all()


def test_the_bound_is_below_the_likelihood_by_quadrature():
    """Two nodes, one latent each: log p(A) by a grid over both latents, against means over many draws."""
    graphs = as_batch([random_graph(2, 1.0, seed=0)] * COPIES)
    model = GraphVAE(StandardNormal(1), NormalEncoder(GCN(5, 8, 1), 8, 1), InnerProduct(0.3))
    model.edges.log_scale.data.fill_(0.8)
    grid = torch.linspace(-9, 9, 1201)
    first, second = torch.meshgrid(grid, grid, indexing="ij")
    logit = math.exp(0.8) * first * second + model.edges.bias
    density = -0.5 * (first**2 + second**2) - math.log(2 * math.pi)
    exact = torch.logsumexp((density + nn.functional.logsigmoid(logit)).flatten(), 0) + 2 * (grid[1] - grid[0]).log()
    draws = elbo(model, graphs)
    assert (draws.mean() + 4 * draws.std() / COPIES**0.5 < exact).item()
    # The mean of the weights themselves, not of their logarithms, is the likelihood; at q = p they are bounded.
    nn.init.zeros_(model.encoder.loc.weight)
    nn.init.zeros_(model.encoder.log_scale.weight)
    q = model.posterior(graphs)
    z = q.rsample()
    weights = (model.log_likelihood(graphs, z) + model.prior(q.layout).log_prob(z) - q.log_prob(z)).exp()
    assert ((weights.mean() - exact.exp()).abs() < 4 * weights.std() / COPIES**0.5).item()


def test_the_factors_add_up(batch):
    model = lecture_model()
    z = torch.randn(16, 3)
    edges = model.edges(z, batch.layout).log_prob(batch.edge_index)
    features = model.features(z, batch.edge_index, batch.layout).log_prob(batch.x)
    torch.testing.assert_close(model.log_likelihood(batch, z), edges + features)
    model.sizes = EmpiricalSizes([6, 1, 9])
    sizes = model.sizes().log_prob(torch.tensor([6, 1, 9]))
    torch.testing.assert_close(model.log_likelihood(batch, z), edges + features + sizes)


def test_pooled_latents_have_a_kl_per_graph(batch):
    encoder = NormalEncoder(GCN(5, 8, 2), 8, 3, SumAggregation())
    q = encoder(batch.x, batch.edge_index, batch.layout)
    kl = q.kl(StandardNormal(3)(q.layout))
    expected = 0.5 * (q.mean**2 + q.stddev**2 - 1 - 2 * q.stddev.log()).sum(1)
    torch.testing.assert_close(kl, expected)


def test_a_plain_autoencoder_has_no_elbo(batch):
    model = GraphVAE(StandardNormal(3), PointEncoder(GCN(5, 8, 2), 8, 3), InnerProduct(0.3))
    with pytest.raises(TypeError, match=r"no ELBO of a plain autoencoder; use objectives\.reconstruction"):
        elbo(model, batch)


def test_gradients_of_the_bound_are_right():
    graph = as_batch(random_graph(5, 0.5, seed=2))
    model, noise = lecture_model(), torch.randn(5, 3)
    names, values = zip(*model.named_parameters(), strict=True)

    def value(*parameters):
        return torch.func.functional_call(
            _Bound(model), {f"model.{n}": p for n, p in zip(names, parameters, strict=True)}, (graph, noise)
        )

    assert torch.autograd.gradcheck(value, values, atol=1e-6)


class _Bound(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, graph, noise):
        return elbo(self.model, graph, noise=noise)


def _columns(edge_index):
    return set(map(tuple, edge_index.T.tolist()))


def _link_model(directed=False, point=False):
    edges = Bilinear(3, 0.3) if directed else InnerProduct(0.3, nn.Linear(3, 3))
    return GraphVAE(StandardNormal(3), (PointEncoder if point else NormalEncoder)(GCN(5, 8, 2), 8, 3), edges)


def _visible_and_hidden_sets(directed):
    """A visible graph of 4 nodes (directed: 3), and every set of edges that may be hidden beside it."""
    num_nodes = 3 if directed else 4
    edge_index = torch.tensor([[0, 1], [1, 2]])
    visible = edge_index if directed else torch.cat([edge_index, edge_index.flip(0)], 1)
    sets = [hidden for hidden in all_edge_sets(num_nodes, directed) if not _columns(hidden) & _columns(visible)]
    graph = as_batch(Data(x=torch.randn(num_nodes, 5), edge_index=visible), directed)
    assert len(sets) == 2**4
    return graph, sets


@pytest.mark.parametrize("directed", [False, True])
def test_masked_likelihoods_of_all_hidden_sets_sum_to_one(directed):
    graph, sets = _visible_and_hidden_sets(directed)
    model, noise = _link_model(directed), torch.randn(graph.x.size(0), 3)
    values = torch.cat([masked_elbo(model, graph, hidden, noise) for hidden in sets])
    torch.testing.assert_close(values.logsumexp(0), torch.zeros(()), rtol=0, atol=1e-12)


@torch.no_grad()
def test_masked_elbo_stays_below_the_conditional_likelihood():
    graph, sets = _visible_and_hidden_sets(directed=False)
    model, draws = _link_model(), 3000
    model.encoder.log_scale.bias += 0.5
    copies = as_batch([Data(x=graph.x, edge_index=graph.edge_index)] * draws)
    noise = torch.randn(2, 4 * draws, 3)
    total = torch.zeros(())
    for hidden in sets:
        everywhere = hidden.repeat(1, draws) + 4 * torch.arange(draws).repeat_interleave(hidden.size(1))
        bound = masked_elbo(model, copies, everywhere, noise[0])
        log_likelihood = masked_elbo(model, copies, everywhere, noise[1]).logsumexp(0) - math.log(draws)
        assert bound.mean() < log_likelihood - 3 * bound.std() / draws**0.5
        total += log_likelihood.exp()
    torch.testing.assert_close(total, torch.ones(()), rtol=0, atol=1e-10)


def test_masked_elbo_of_a_point_mass_is_the_conditional_likelihood():
    graph, sets = _visible_and_hidden_sets(directed=False)
    model = _link_model(point=True)
    edges = model.edges(model.posterior(graph).mean)
    joint = [edges.log_prob(torch.cat([graph.edge_index, hidden], 1)) for hidden in sets]
    expected = torch.cat(joint).log_softmax(0)  # Of edge sets that hold the visible one.
    found = torch.cat([masked_elbo(model, graph, hidden) for hidden in sets])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_masked_elbo_of_a_batch_equals_its_graphs_and_survives_relabelling(batch):
    (masked,) = MaskedGraphs(batch, 0.3).epoch(torch.Generator().manual_seed(0))
    model, noise = _link_model(), torch.randn(16, 3)
    together, ptr = masked_elbo(model, masked, noise=noise), masked.layout.ptr
    torch.testing.assert_close(masked_elbo(model, masked, masked.hidden, noise), together)
    for k, graph in enumerate(masked.to_data_list()):
        inside = (masked.hidden[0] >= ptr[k]) & (masked.hidden[0] < ptr[k + 1])
        rows = slice(int(ptr[k]), int(ptr[k + 1]))
        alone = masked_elbo(model, graph, masked.hidden[:, inside] - ptr[k], noise[rows])
        torch.testing.assert_close(alone[0], together[k], rtol=1e-10, atol=1e-10)
    order = torch.cat([torch.randperm(6), torch.tensor([6]), 7 + torch.randperm(9)])
    moved = masked_elbo(model, permute(masked, order), order.argsort()[masked.hidden], noise[order])
    torch.testing.assert_close(moved, together, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ([[0, 1], [1, 0]], "'hidden' must not be visible, 2 of its 2 columns are in 'graphs'"),
        ([[0], [3]], "'hidden': 'edge_index' must hold both directions"),
        ([[0, 4, 1], [4, 0, 1]], "'hidden': 'edge_index' must have no self loops"),
        ([[0, 9], [9, 0]], "'hidden': 'edge_index' must hold nodes 0 to 8"),
        ([[0, 6], [6, 0]], "'hidden' must join nodes of one graph"),
        (None, "'hidden' must be given"),
    ],
)
def test_bad_hidden_edges_are_refused(hidden, message):
    path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    graphs = [Data(x=torch.randn(n, 5), edge_index=path) for n in (5, 4)]
    with pytest.raises(ValueError, match=message):
        masked_elbo(_link_model(), graphs, None if hidden is None else torch.tensor(hidden))


def test_masked_elbo_needs_an_edge_factor():
    model = lecture_model()
    model.edges = None
    with pytest.raises(ValueError, match="'model' must have an edge factor"):
        masked_elbo(model, random_graph(6, 0.4, seed=1), torch.tensor([[0, 1], [1, 0]]))


def test_a_split_with_supervision_of_its_own_feeds_masked_elbo():
    whole = random_graph(40, 0.2, seed=1)
    split = LinkSplit.random(whole, seed=1)
    parts = split.message.split([split.message.size(1) - 30, 30], 1)
    split = dataclasses.replace(split, message=parts[0], supervision=parts[1])
    visible, hidden = split.graph(whole), torch.cat([split.supervision, split.supervision.flip(0)], 1)

    def objective(model, graphs):
        return masked_elbo(model, graphs, hidden)

    model = _link_model(point=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    history = fit(model, visible, objective, epochs=150, optimizer=optimizer, progress=False)
    # The best that one probability for all can do, for 30 edges among the pairs that are not visible.
    pairs = 40 * 39 // 2 - split.message.size(1)
    constant = 30 * math.log(30 / pairs) + (pairs - 30) * math.log(1 - 30 / pairs)
    assert history.objective[0] < constant < history.objective[-1]


def test_masked_elbo_takes_an_estimated_factor():
    graph = random_graph(12, 0.4, seed=3)
    once = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    hidden, visible = (torch.cat([part, part.flip(0)], 1) for part in once.split([5, once.size(1) - 5], 1))
    exact = InnerProduct(0.2)
    model = GraphVAE(StandardNormal(2), FreeNormal(12, 2), exact)
    model.encoder.loc.data.normal_()
    noise, seen = torch.randn(12, 2), Data(x=graph.x, edge_index=visible)
    value = masked_elbo(model, seen, hidden, noise)
    model.edges = Estimated(exact, SampledPairs(40))
    found = torch.cat([masked_elbo(model, seen, hidden, noise) for _ in range(200)])
    assert abs(found.mean() - value) < 4 * found.std() / 200**0.5


class PlainVAE(nn.Module):
    """A VAE of vectors as one writes it without this library, 7-6-3 and back."""

    def __init__(self, gaussian):
        super().__init__()
        self.encode, self.loc, self.log_scale = nn.Linear(7, 6), nn.Linear(6, 3), nn.Linear(6, 3)
        self.decode, self.out = nn.Linear(3, 6), nn.Linear(6, 7)
        self.gaussian = gaussian

    def elbo(self, x, noise, beta):
        hidden = torch.tanh(self.encode(x))
        loc, scale = self.loc(hidden), self.log_scale(hidden).exp()
        out = self.out(torch.tanh(self.decode(loc + scale * noise)))
        if self.gaussian:
            sigma = torch.tensor(0.3).log().exp()
            likelihood = -((x - out) ** 2) / (2 * sigma**2) - sigma.log() - math.log(math.sqrt(2 * math.pi))
        else:
            likelihood = -nn.functional.binary_cross_entropy_with_logits(out, x, reduction="none")
        kl = 0.5 * (scale**2 + loc**2 - 1 - (scale**2).log())
        return likelihood.sum(1) - beta * kl.sum(1)


def same_vae(plain):
    """The same networks, the very same parameters, as factors."""
    encoder = NormalEncoder(Nodewise(nn.Sequential(plain.encode, nn.Tanh())), 6, 3)
    decoder = Nodewise(nn.Sequential(plain.decode, nn.Tanh()))
    for head in ("loc", "log_scale"):
        getattr(encoder, head).weight, getattr(encoder, head).bias = getattr(plain, head).parameters()
    if plain.gaussian:
        features = GaussianFeatures(decoder, 6, 7, FixedScale(0.3))
        features.loc = plain.out
    else:
        features = BernoulliFeatures(decoder, 6, 7)
        features.logits = plain.out
    return GraphVAE(StandardNormal(3), encoder, features=features)


@pytest.mark.parametrize("rows", [1, 2, 50])
@pytest.mark.parametrize("gaussian", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vector_vae_is_bit_equal_to_one_of_linear_layers(dtype, gaussian, rows):
    torch.set_default_dtype(dtype)
    plain = PlainVAE(gaussian)
    model = same_vae(plain)
    x, noise = torch.rand(rows, 7).round() if not gaussian else torch.randn(rows, 7), torch.randn(rows, 3)
    for beta in (1.0, 0.7):
        expected, found = plain.elbo(x, noise, beta), elbo(model, edgeless(x), beta, noise)
        assert found.dtype == dtype
        assert torch.equal(found, expected)
        with_graphs = elbo(
            model, as_batch([Data(x=row[None], edge_index=torch.empty(2, 0).long()) for row in x]), beta, noise
        )
        assert torch.equal(with_graphs, expected)


def test_the_draw_comes_from_the_generator_as_before(batch):
    """With a closed KL the value and its gradient are those of drawing after the KL, bit for bit."""
    model = lecture_model()
    torch.manual_seed(3)
    found = elbo(model, batch)
    torch.manual_seed(3)
    q = model.posterior(batch)
    kl = q.kl(model.prior(q.layout))
    expected = model.log_likelihood(batch, q.rsample()) - kl
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(value.sum(), list(model.parameters())) for value in (found, expected)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_loss_of_the_lecture_is_the_negative_elbo():
    """C ||x - x̂||² + KL, for C = 1 / 2σ², is minus the ELBO plus a constant."""
    x, noise = torch.randn(20, 7), torch.randn(20, 3)
    plain = PlainVAE(gaussian=True)
    model = same_vae(plain)
    q = model.posterior(edgeless(x))
    error = (x - plain.out(torch.tanh(plain.decode(q.rsample(noise))))).square().sum(1)
    kl = q.kl(model.prior(q.layout))
    constant = 7 / 2 * math.log(2 * math.pi * 0.3**2)
    torch.testing.assert_close(elbo(model, edgeless(x), noise=noise), -(error / (2 * 0.3**2) + kl) - constant)


@torch.no_grad()
def test_the_mean_over_draws_does_not_depend_on_their_number():
    """A sum over draws in place of the mean would grow with their number."""
    x, copies = torch.randn(3, 7), 20_000
    model = same_vae(PlainVAE(gaussian=True))
    means, errors = [], []
    for draws in (1, 4, 16):
        vectors = edgeless(x.repeat(copies // draws, 1))
        value = torch.stack([elbo(model, vectors).view(-1, 3) for _ in range(draws)]).mean(0)
        means.append(value.mean(0))
        errors.append(value.std(0) / len(value) ** 0.5)
    for other in (1, 2):
        assert ((means[0] - means[other]).abs() < 4 * (errors[0] ** 2 + errors[other] ** 2).sqrt()).all()
    assert errors[0].max() < 0.2


@torch.no_grad()
def test_bounds_on_vectors_are_in_order_and_below_the_integral():
    x, copies = (torch.rand(3, 7) < 0.4).double(), 4000
    plain = PlainVAE(gaussian=False)
    model = same_vae(plain)
    for part in (plain.decode, plain.out):
        part.weight.mul_(2.5)  # So that the posterior is not the prior.
    exact = quadrature(model, edgeless(x), points=40)
    assert (exact - quadrature(model, edgeless(x), points=30)).abs().max() < 1e-4
    vectors, means, errors = edgeless(x.repeat(copies, 1)), [], []
    for values in (elbo(model, vectors), *(importance_bound(model, vectors, k) for k in (2, 5, 20))):
        means.append(values.view(copies, 3).mean(0))
        errors.append(values.view(copies, 3).std(0) / copies**0.5)
    for k in range(3):
        assert (means[k] + 3 * (errors[k] + errors[k + 1]) < means[k + 1]).all()
    assert (means[3] < exact + 3 * errors[3]).all()
    weights = (log_importance_weights(model, edgeless(x), 20_000) - exact).exp()
    assert ((weights.mean(0) - 1).abs() < 4 * weights.std(0) / len(weights) ** 0.5).all()


def test_the_gap_of_the_best_diagonal_posterior_is_its_closed_form():
    """A linear-Gaussian model with columns that are not orthogonal: log p - ELBO = (sum log L_ii - log det L) / 2."""
    x = torch.randn(5, 4)
    features = GaussianFeatures(Nodewise(nn.Identity()), 2, 4, FixedScale(0.8))
    features.loc.weight.data = torch.tensor([[1.0, 0.5], [0.2, 1.0], [0.7, 0.1], [0.0, -0.4]])
    weight, bias = features.loc.weight.detach(), features.loc.bias.detach()
    precision = torch.eye(2) + weight.T @ weight / 0.64
    model = GraphVAE(StandardNormal(2), FreeNormal(5 * COPIES, 2), features=features)
    model.encoder.loc.data = ((x - bias) @ weight @ precision.inverse() / 0.64).repeat(COPIES, 1)
    model.encoder.log_scale.data = (-0.5 * precision.diagonal().log()).repeat(5 * COPIES, 1)
    exact = torch.distributions.MultivariateNormal(bias, weight @ weight.T + 0.64 * torch.eye(4)).log_prob(x)
    draws = elbo(model, edgeless(x.repeat(COPIES, 1))).view(COPIES, 5)
    gap = 0.5 * (precision.diagonal().log().sum() - precision.logdet())
    assert ((exact - gap - draws.mean(0)).abs() < 4.5 * draws.std(0) / COPIES**0.5).all()
    # The closed form of the expectation, to rounding: E||x - Wz - b||² is known for a normal z.
    q = model.encoder(x.repeat(COPIES, 1), None, None)
    mean, variance = q.mean[:5], q.stddev[:5] ** 2
    expected_error = (x - bias - mean @ weight.T).square().sum(1) + variance @ weight.square().sum(0)
    likelihood = -0.5 * expected_error / 0.64 - 2 * math.log(2 * math.pi * 0.64)
    kl = 0.5 * (mean**2 + variance - 1 - variance.log()).sum(1)
    torch.testing.assert_close(exact - (likelihood - kl), gap.expand(5), rtol=0, atol=1e-10)
    assert gap > 0.01


def exact_elbo(model, vectors):
    """The expectation of the ELBO for a likelihood quadratic in z: the mean over points with the noise's moments."""
    latent = model.prior.latent
    points = latent**0.5 * torch.cat([torch.eye(latent), -torch.eye(latent)])
    rows = vectors.x.size(0)
    return torch.stack([elbo(model, vectors, noise=point.expand(rows, latent)) for point in points]).mean(0)


def test_a_linear_vae_at_probabilistic_pca_is_at_its_maximum():
    """Digits, 5 components: the ELBO is the closed-form maximum of the likelihood, and no parameter can raise it."""
    x, latent = torch.from_numpy(load_digits().data) / 16, 5
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    values, basis = values.flip(0), vectors.flip(1)[:, :latent]
    noise = values[latent:].mean()
    weight = basis * (values[:latent] - noise).sqrt()
    model = GraphVAE(
        StandardNormal(latent),
        NormalEncoder(Nodewise(nn.Identity()), 64, latent),
        features=GaussianFeatures(Nodewise(nn.Identity()), latent, 64, LearnedScale()),
    )
    model.features.loc.weight.data, model.features.loc.bias.data = weight, x.mean(0)
    model.features.scale.log_scale.data = (noise.log() / 2 + 6).expm1().log()[None] - 6  # Undoes the soft floor.
    precision = values[:latent] / noise
    model.encoder.loc.weight.data = (weight / noise / precision).T
    model.encoder.loc.bias.data = -model.encoder.loc.weight.data @ x.mean(0)
    model.encoder.log_scale.weight.data.zero_()
    model.encoder.log_scale.bias.data = -0.5 * precision.log()
    maximum = -0.5 * (64 * math.log(2 * math.pi) + values[:latent].log().sum() + (64 - latent) * noise.log() + 64)
    found = exact_elbo(model, edgeless(x)).mean()
    torch.testing.assert_close(found, maximum, rtol=1e-12, atol=0)
    for gradient in torch.autograd.grad(found, list(model.parameters())):
        assert gradient.abs().max() < 1e-8


@torch.no_grad()
def test_three_ways_to_write_the_elbo_agree():
    """With the KL in closed form, with the entropy in closed form, and as the mean of log p(x, z) - log q(z | x)."""
    x, copies = torch.randn(3, 7), 20_000
    model, vectors = same_vae(PlainVAE(gaussian=True)), edgeless(x.repeat(copies, 1))
    q = model.posterior(vectors)
    z = q.rsample()
    joint = model.log_likelihood(vectors, z) + model.prior(q.layout).log_prob(z)
    forms = [
        elbo(model, vectors, noise=(z - q.mean) / q.stddev),
        joint + q.base.entropy().sum(1),
        joint - q.log_prob(z),
    ]
    means, errors = zip(*((f.view(-1, 3).mean(0), f.view(-1, 3).std(0) / copies**0.5) for f in forms), strict=True)
    for k in (1, 2):
        assert ((means[0] - means[k]).abs() < 4 * (errors[0] ** 2 + errors[k] ** 2).sqrt()).all()
    assert max(error.max() for error in errors) < 0.2
