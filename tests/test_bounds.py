import dataclasses
import math

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GCN, GCNConv
from torch_geometric.nn.aggr import SumAggregation

from conftest import all_edge_sets, random_graph
from graphvae import GraphVAE, as_batch, edgeless, elbo, fit
from graphvae.backbones import Nodewise, Stack
from graphvae.bounds import masked_elbo
from graphvae.datasets.splits import LinkSplit
from graphvae.distributions import BernoulliEdges
from graphvae.edges import Bilinear, Estimated, InnerProduct
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.estimates import SampledPairs
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures
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
