"""Exact likelihoods: quadrature against other integration, and isomorphism classes whose probabilities add to one."""

import itertools
import math

import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, constraints
from torch_geometric.data import Data
from torch_geometric.nn import GCN, SumAggregation

from conftest import graph_from, random_graph
from graphvae.backbones import Nodewise
from graphvae.conventions import Convention, convert
from graphvae.distributions import EstimatedEdges, PerGraph
from graphvae.edges import DenseEdges, InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.estimates import SampledPairs
from graphvae.evaluation import likelihood
from graphvae.features import FixedScale, GaussianFeatures
from graphvae.graphs import as_batch, edgeless, relabelled
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.priors import EmpiricalSizes, Flow, NormalMixture, StandardNormal

LABELLED, SYMMETRISED, SUMMED = Convention.LABELLED, Convention.SYMMETRISED, Convention.SUMMED
ISOMORPHISM_CLASS = Convention.ISOMORPHISM_CLASS
CLASSES = {3: 4, 4: 11, 5: 34}


class Numbered(nn.Module):
    """Independent edges between numbered nodes, log-odds linear in a latent of the graph: not equivariant."""

    directed = False

    def __init__(self, size: int, latent: int):
        super().__init__()
        self.size = size
        self.logits = nn.Linear(latent, size * (size - 1) // 2)

    def forward(self, z: Tensor, layout: Layout) -> "Joined":
        return Joined(self.logits(z), layout, self.size)


class Alike(nn.Module):
    """Every pair is joined with the same probability, which depends on the latent of the graph: equivariant."""

    directed = False

    def __init__(self, size: int, latent: int):
        super().__init__()
        self.size = size
        self.logits = nn.Linear(latent, 1)

    def forward(self, z: Tensor, layout: Layout) -> "Joined":
        return Joined(self.logits(z).expand(-1, self.size * (self.size - 1) // 2), layout, self.size)


class Joined:
    def __init__(self, logits: Tensor, layout: Layout, size: int):
        self.layout, self.size = layout, size
        self.base = Bernoulli(logits=logits, validate_args=False)

    def log_prob(self, edge_index: Tensor) -> Tensor:
        present = self.base.logits.new_zeros(self.layout.num_graphs, self.size, self.size)
        graph_of = self.layout.batch[edge_index[0]]
        rows, columns = edge_index - self.layout.ptr[graph_of]
        present[graph_of, rows, columns] = 1
        i, j = torch.triu_indices(self.size, self.size, 1)
        return self.base.log_prob(present[:, i, j]).sum(1)


class NumberedFeatures(nn.Module):
    """A binary feature of each numbered node, log-odds linear in a latent of the graph: not equivariant."""

    features, support = 1, constraints.boolean

    def __init__(self, size: int, latent: int):
        super().__init__()
        self.logits = nn.Linear(latent, size)

    def forward(self, z: Tensor, edge_index: Tensor, layout: Layout) -> PerGraph:
        return PerGraph(Bernoulli(logits=self.logits(z).view(-1, 1), validate_args=False), layout)


def model_of(edges: nn.Module | None, latent: int, features: nn.Module | None = None, **rest) -> GraphVAE:
    encoder = NormalEncoder(Nodewise(nn.Linear(1, 3)), hidden=3, latent=latent, pool=SumAggregation())
    model = GraphVAE(StandardNormal(latent), encoder, edges, features, **rest)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def classes(size: int) -> list[Data]:
    """One graph of each isomorphism class."""
    return [data(graph) for graph in nx.graph_atlas_g() if len(graph) == size]


def data(graph: nx.Graph) -> Data:
    return graph_from(graph, torch.ones(len(graph), 1))


def test_quadrature_is_the_integral_on_a_fine_grid(double):
    model, graphs = model_of(Numbered(4, 1), latent=1), as_batch(classes(4))
    z = torch.linspace(-12, 12, 4001)[:, None]
    copies = relabelled(graphs, torch.arange(graphs.num_nodes).expand(len(z), -1))
    inside = model.log_likelihood(copies, z.repeat_interleave(graphs.num_graphs, 0)).view(len(z), -1)
    expected = torch.trapezoid((inside + Normal(0.0, 1.0).log_prob(z)).exp(), z[:, 0], dim=0).log()
    torch.testing.assert_close(likelihood.quadrature(model, graphs), expected, rtol=0, atol=1e-8)


def test_quadrature_agrees_with_monte_carlo_in_three_dimensions(double):
    model, graphs, draws = model_of(Numbered(3, 3), latent=3), as_batch(classes(3)), 40_000
    copies = relabelled(graphs, torch.arange(graphs.num_nodes).expand(draws, -1))
    inside = model.log_likelihood(copies, torch.randn(draws, 3).repeat_interleave(graphs.num_graphs, 0))
    values = inside.view(draws, -1).exp()
    error = (likelihood.quadrature(model, graphs, points=16).exp() - values.mean(0)).abs()
    assert (error < 4 * values.std(0) / math.sqrt(draws)).all()


def test_quadrature_does_not_depend_on_its_chunks_or_its_number_of_points(double, monkeypatch):
    model, graphs = model_of(Numbered(4, 2), latent=2), as_batch(classes(4))
    expected = likelihood.quadrature(model, graphs, points=60)
    torch.testing.assert_close(likelihood.quadrature(model, graphs, points=40), expected, rtol=0, atol=1e-5)
    monkeypatch.setattr(likelihood, "_ROWS", 100)
    torch.testing.assert_close(likelihood.quadrature(model, graphs, points=60), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", CLASSES)
def test_probabilities_of_isomorphism_classes_add_to_one(size, double):
    model, graphs = model_of(Numbered(size, 1), latent=1), as_batch(classes(size))
    assert graphs.num_graphs == CLASSES[size]
    of_class = likelihood.exact(model, graphs, ISOMORPHISM_CLASS, points=12)
    assert of_class.exp().sum().item() == pytest.approx(1, abs=1e-10)
    symmetrised = likelihood.exact(model, graphs, SYMMETRISED, points=12)
    again = convert(symmetrised, graphs, SYMMETRISED, ISOMORPHISM_CLASS)
    assert again.exp().sum().item() == pytest.approx(1, abs=1e-10)
    # Pitfall: the sum over all relabellings counts a graph once for each of its automorphisms, and is no probability.
    summed = likelihood.exact(model, graphs, SUMMED, points=12)
    assert summed.exp().sum().item() > 1.5


def test_features_count_in_isomorphism_classes(double):
    """All 64 graphs on 3 nodes with a binary feature: one of each class under relabelling stands for it."""
    model = model_of(Numbered(3, 1), 1, NumberedFeatures(3, 1), sizes=EmpiricalSizes([3], smoothing=0))
    seen, kept = set(), []
    for bits in itertools.product([0, 1], repeat=6):
        adjacency = torch.zeros(3, 3, dtype=torch.long)
        adjacency[[0, 0, 1], [1, 2, 2]] = torch.tensor(bits[:3])
        adjacency, x = adjacency + adjacency.T, torch.tensor(bits[3:])
        orders = itertools.permutations(range(3))
        images = {str((adjacency[o, :][:, o].tolist(), x[o].tolist())) for o in map(list, orders)}
        if min(images) not in seen:
            seen.add(min(images))
            kept.append(Data(x=x[:, None].double(), edge_index=adjacency.nonzero().T.contiguous()))
    assert len(kept) == 20
    total = likelihood.exact(model, kept, ISOMORPHISM_CLASS, points=12).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-10)


def test_labelled_is_symmetrised_if_and_only_if_the_model_is_equivariant(double):
    graphs = as_batch(classes(4))
    equal = model_of(Alike(4, 2), latent=2)
    torch.testing.assert_close(
        likelihood.exact(equal, graphs, LABELLED, 10), likelihood.exact(equal, graphs, SYMMETRISED, 10)
    )
    numbered = model_of(Numbered(4, 2), latent=2)
    gap = likelihood.exact(numbered, graphs, LABELLED, 10) - likelihood.exact(numbered, graphs, SYMMETRISED, 10)
    assert gap.abs().max() > 0.1


def test_every_order_is_there_once():
    graphs = as_batch(classes(4)[:3])
    orders = likelihood.every_order(graphs)
    assert orders.shape == (24, 12)
    assert len(set(map(tuple, orders.tolist()))) == 24
    own = torch.arange(3).repeat_interleave(4)
    assert torch.equal(own[orders], own.expand(24, -1))
    assert torch.equal(orders.sort(1).values, torch.arange(12).expand(24, -1))


def test_what_cannot_be_enumerated_or_integrated_is_refused(double):
    with pytest.raises(ValueError, match=r"same number of nodes, at most 8, got \[3, 4\]"):
        likelihood.every_order([*classes(3), *classes(4)])
    with pytest.raises(ValueError, match=r"at most 8, got \[9\]"):
        likelihood.every_order(data(nx.path_graph(9)))
    with pytest.raises(ValueError, match="at most 3 dimensions"):
        likelihood.quadrature(model_of(Numbered(3, 4), 4), classes(3))
    with pytest.raises(ValueError, match="'points' must be positive, got 0"):
        likelihood.quadrature(model_of(Numbered(3, 1), 1), classes(3), points=0)
    of_nodes = GraphVAE(StandardNormal(2), NormalEncoder(Nodewise(nn.Linear(1, 3)), 3, 2), InnerProduct(0.5))
    with pytest.raises(ValueError, match="one latent per graph"):
        likelihood.quadrature(of_nodes, classes(3))
    other = model_of(Numbered(3, 1), 1)
    other.prior = nn.Identity()
    with pytest.raises(TypeError, match="a prior with a 'latent' dimension for quadrature, Identity has none"):
        likelihood.quadrature(other, classes(3))
    noisy = model_of(Numbered(3, 1), 1)
    noisy.edges.estimated = True
    with pytest.raises(ValueError, match="estimates it"):
        likelihood.quadrature(noisy, classes(3))


def test_an_estimate_that_a_factor_hides_is_refused():
    class Hidden(nn.Module):
        directed = False

        def __init__(self):
            super().__init__()
            self.factor = DenseEdges(4, 1, 0.4)

        def forward(self, z, layout=None):
            return EstimatedEdges(self.factor(z, layout), SampledPairs(4))

    encoder = NormalEncoder(GCN(5, 4, 1), 4, 1, pool=SumAggregation())
    with pytest.raises(ValueError, match="estimates it"):
        likelihood.quadrature(GraphVAE(StandardNormal(1), encoder, Hidden()), random_graph(4, 0.5, seed=1), 4)


def linear_gaussian(prior):
    """p(x | z) = N(Wz + b, 0.8² I) on vectors of 4 features."""
    features = GaussianFeatures(Nodewise(nn.Identity()), prior.latent, 4, FixedScale(0.8))
    return GraphVAE(prior, NormalEncoder(Nodewise(nn.Identity()), 4, prior.latent), features=features)


def test_quadrature_of_vectors_is_the_closed_form(double):
    model, x = linear_gaussian(StandardNormal(2)), torch.randn(6, 4)
    weight, bias = model.features.loc.weight, model.features.loc.bias
    expected = MultivariateNormal(bias, weight @ weight.T + 0.64 * torch.eye(4)).log_prob(x)
    torch.testing.assert_close(likelihood.quadrature(model, edgeless(x)), expected.detach(), rtol=0, atol=1e-8)


def test_quadrature_of_a_mixture_prior_is_the_closed_form(double):
    prior = NormalMixture(2, 3)
    nn.init.normal_(prior.logits)
    nn.init.normal_(prior.log_scale, std=0.2)
    model, x = linear_gaussian(prior), torch.randn(6, 4)
    weight, bias = model.features.loc.weight, model.features.loc.bias
    parts = [
        MultivariateNormal(bias + weight @ loc, weight @ torch.diag(scale**2) @ weight.T + 0.64 * torch.eye(4))
        for loc, scale in zip(prior.loc, prior.log_scale.exp(), strict=True)
    ]
    densities = torch.stack([part.log_prob(x) for part in parts], 1)
    expected = (densities + prior.logits.log_softmax(0)).logsumexp(1).detach()
    torch.testing.assert_close(likelihood.quadrature(model, edgeless(x), points=100), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_quadrature_of_a_flow_agrees_with_monte_carlo(double):
    pytest.importorskip("zuko", reason="flows need zuko: pip install 'graphvae[flows]'")
    model, x, draws = linear_gaussian(Flow(1, 2, (8,))), torch.randn(3, 4), 40_000
    z = model.prior(Layout.singles(draws)).sample()
    p = model.features(z, torch.empty(2, 0, dtype=torch.long), Layout.singles(draws)).base
    weights = torch.stack([p.log_prob(row).sum(1).exp() for row in x])
    error = (likelihood.quadrature(model, edgeless(x), points=200).exp() - weights.mean(1)).abs()
    assert (error < 4 * weights.std(1) / math.sqrt(draws) + 1e-3 * weights.mean(1)).all()
