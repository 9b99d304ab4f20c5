"""What must fit together is checked before training, and said by name."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch
from torch_geometric.nn import GCN, MLP

from conftest import random_graph
from graphvae import GraphVAE, edgeless, elbo, fit
from graphvae.backbones import Nodewise
from graphvae.bounds import expected_elbo
from graphvae.distributions import BernoulliEdges
from graphvae.edges import IndefiniteInnerProduct, InnerProduct
from graphvae.encoders import BernoulliEncoder, CategoricalEncoder, FreeNormal, NormalEncoder
from graphvae.expectations import Enumeration
from graphvae.features import GaussianFeatures
from graphvae.hierarchy import GraphLevelPrior, SharedMixture
from graphvae.priors import BernoulliPrior, CategoricalPrior, Flow, NormalMixture, StandardNormal


class _Lopsided(nn.Module):
    directed = False

    def __init__(self, layout_passed=True, symmetric=True):
        super().__init__()
        self.layout_passed, self.symmetric = layout_passed, symmetric
        self.weight = nn.Parameter(torch.randn(3, 3))

    def forward(self, z, layout=None):
        right = z if self.symmetric else z @ self.weight
        return BernoulliEdges(z, right, -1.0, layout if self.layout_passed else None)


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        (
            lambda: {"encoder": NormalEncoder(GCN(9, 8, 1), 8, 3)},
            "^the encoder and 4 features do not fit together: m",
        ),
        (
            lambda: {"encoder": NormalEncoder(GCN(4, 9, 1), 8, 3)},
            "^the encoder and 4 features do not fit together: m",
        ),
        (lambda: {"prior": StandardNormal(5)}, "^'prior' must have as many latents as the encoder gives, got 5 and 3"),
        (lambda: {"edges": IndefiniteInnerProduct(5, 0.2)}, "^the decoders and latents of dimension 3 do not fit"),
        (
            lambda: {"edges": _Lopsided(symmetric=False)},
            "^'edges' must have symmetric scores, or directed = True",
        ),
        (
            lambda: {"edges": _Lopsided(layout_passed=False)},
            "^'edges' must give one log-probability for each of the",
        ),
    ],
)
def test_factors_that_do_not_fit_are_told_by_name(factors, message):
    parts = {"prior": StandardNormal(3), "encoder": NormalEncoder(GCN(4, 8, 1), 8, 3), "edges": InnerProduct(0.2)}
    graphs = [random_graph(6, 0.5, seed=seed, features=4) for seed in range(3)]
    with pytest.raises(ValueError, match=message):
        fit(GraphVAE(**parts | factors()), graphs, epochs=1, progress=False)


def test_an_objective_must_be_one_value_per_graph_and_the_optimizer_of_this_model():
    def make():
        return GraphVAE(StandardNormal(3), NormalEncoder(GCN(4, 8, 1), 8, 3), InnerProduct(0.2))

    graphs = [random_graph(6, 0.5, seed=seed, features=4) for seed in range(3)]
    with pytest.raises(ValueError, match=r"'objective' must return one value for each of the 3 graphs, got shape \(\)"):
        fit(make(), graphs, lambda model, batch: elbo(model, batch).mean(), epochs=1, progress=False)
    other = torch.optim.Adam(make().parameters())
    with pytest.raises(ValueError, match="'optimizer' must be over the parameters of 'model', it has none of them"):
        fit(make(), graphs, epochs=1, optimizer=other, progress=False)


def test_factors_without_their_flags_are_refused():
    with pytest.raises(TypeError, match="'edges' must have the attribute 'directed', Linear has none"):
        GraphVAE(StandardNormal(3), NormalEncoder(GCN(4, 8, 1), 8, 3), nn.Linear(3, 3))


@pytest.mark.parametrize("network", [nn.Sequential(nn.Linear(4, 8), nn.Tanh()), MLP([4, 8, 8])])
def test_a_network_on_vectors_is_a_backbone_as_it_is(network):
    graph = random_graph(6, 0.5, seed=0, features=4)
    direct, wrapped = NormalEncoder(network, 8, 3).eval(), NormalEncoder(Nodewise(network), 8, 3).eval()
    wrapped.loc = direct.loc
    assert torch.equal(direct(graph.x, graph.edge_index).mean, wrapped(graph.x, graph.edge_index).mean)


def test_free_posteriors_train_on_the_whole_batch_they_were_made_for():
    graphs = [random_graph(6, 0.5, seed=seed, features=4) for seed in range(3)]
    model = GraphVAE(StandardNormal(3), FreeNormal(18, 3), InnerProduct(0.5))
    fit(model, Batch.from_data_list(graphs), epochs=2, progress=False)
    fit(model, graphs, epochs=2, batch_size=1, progress=False)
    with pytest.raises(ValueError, match="'x' must have the 18 rows this FreeNormal was made for, got 12"):
        fit(model, graphs[:2], epochs=1, progress=False)


def test_a_prior_of_another_width_is_refused():
    for width in (1, 5):
        message = f"'prior' must have as many latents as the encoder gives, got {width} and 3; give both the same"
        for prior in (
            StandardNormal,
            lambda d: NormalMixture(d, 2),
            lambda d: SharedMixture(d, 4),
            *_priors_of_graphs(),
        ):
            with pytest.raises(ValueError, match=message):
                GraphVAE(prior(width), NormalEncoder(GCN(4, 8, 1), 8, 3), InnerProduct(0.5))
        model = GraphVAE(StandardNormal(width), _Unnamed(), InnerProduct(0.5))
        with pytest.raises(ValueError, match=message):
            fit(model, [random_graph(6, 0.4, seed=0, features=4)], epochs=1, progress=False)


def _priors_of_graphs():
    yield lambda latent: GraphLevelPrior(latent, 4)
    if find_spec("zuko") is not None:
        yield Flow


class _Unnamed(nn.Module):
    """An encoder that does not say how many latents it gives."""

    def __init__(self):
        super().__init__()
        self.inside = nn.ModuleList([NormalEncoder(GCN(4, 8, 1), 8, 3)])

    def forward(self, x, edge_index, layout=None):
        return self.inside[0](x, edge_index, layout)


def test_bits_and_classes_are_not_compared():
    features = GaussianFeatures(nn.Linear(3, 4), 4, 4)
    for encoder, prior in ((BernoulliEncoder, CategoricalPrior), (CategoricalEncoder, BernoulliPrior)):
        model = GraphVAE(prior(3), encoder(nn.Linear(4, 8), 8, 3), features=features)
        with pytest.raises(TypeError, match="'prior' must be of the same kind of latents as the encoder"):
            expected_elbo(model, edgeless(torch.randn(5, 4)), Enumeration())
