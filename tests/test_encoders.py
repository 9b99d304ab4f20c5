import math

import pytest
import torch
from torch import nn
from torch_geometric.nn import (
    GAT,
    GCN,
    GIN,
    PNA,
    GATConv,
    GCNConv,
    GPSConv,
    GraphNorm,
    GraphSAGE,
    SAGEConv,
    TransformerConv,
)
from torch_geometric.nn.aggr import MeanAggregation, SumAggregation

from conftest import random_graph
from graphvae.backbones import HopMix, Nodewise, Stack
from graphvae.encoders import FreeNormal, NormalEncoder, PointEncoder
from graphvae.graphs import as_batch, permute
from graphvae.layout import Layout

HIDDEN = 8
BACKBONES = {
    "GCN": lambda: GCN(5, HIDDEN, 2),
    "GAT": lambda: GAT(5, HIDDEN, 2, heads=2),
    "SAGE": lambda: GraphSAGE(5, HIDDEN, 2),
    "GIN": lambda: GIN(5, HIDDEN, 2),
    "PNA": lambda: PNA(
        5, HIDDEN, 2, aggregators=["mean", "max"], scalers=["identity", "attenuation"], deg=torch.tensor([1, 4, 6, 2])
    ),
    "Transformer": lambda: Stack(TransformerConv(5, 4, heads=2), nn.ReLU()),
    "GATConv": lambda: Stack(GATConv(5, 4, heads=2), nn.ELU()),
    "SAGEConv": lambda: Stack(SAGEConv(5, HIDDEN), nn.ReLU()),
    "graph norm": lambda: Stack(GCNConv(5, HIDDEN), GraphNorm(HIDDEN), nn.ReLU()),
    "GCN with graph norm": lambda: GCN(5, HIDDEN, 2, norm="GraphNorm"),
    "attention over the graph": lambda: Stack(
        nn.Linear(5, HIDDEN), GPSConv(HIDDEN, GCNConv(HIDDEN, HIDDEN), heads=2, norm=None)
    ),
    "hop mix": lambda: Stack(nn.Linear(5, HIDDEN), HopMix(2)),
    "vector network": lambda: Nodewise(nn.Sequential(nn.Linear(5, HIDDEN), nn.Tanh())),
}
pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture(params=BACKBONES)
def encoder(request):
    return NormalEncoder(BACKBONES[request.param](), HIDDEN, 3).eval()


@pytest.fixture
def batch():
    return as_batch([random_graph(n, 0.5, seed=n) for n in (6, 1, 4)])


def test_every_backbone_gives_an_equivariant_posterior(encoder, batch):
    q = encoder(batch.x, batch.edge_index, batch.layout)
    assert q.mean.shape == (11, 3)
    order = torch.cat([torch.randperm(6), torch.tensor([6]), 7 + torch.randperm(4)])
    moved = permute(batch, order)
    p = encoder(moved.x, moved.edge_index, moved.layout)
    torch.testing.assert_close(q.mean[order], p.mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(q.stddev[order], p.stddev, rtol=1e-10, atol=1e-10)


def test_a_batch_equals_its_graphs(encoder, batch):
    q = encoder(batch.x, batch.edge_index, batch.layout)
    alone = torch.cat([encoder(g.x, g.edge_index).mean for g in batch.to_data_list()])
    torch.testing.assert_close(q.mean, alone, rtol=1e-10, atol=1e-10)


def test_every_parameter_gets_a_gradient(encoder, batch):
    q = encoder(batch.x, batch.edge_index, batch.layout)
    (q.rsample() ** 2).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("pool", [SumAggregation(), MeanAggregation()])
@pytest.mark.parametrize("kind", [NormalEncoder, PointEncoder])
def test_pooled_latents_are_one_per_graph_and_invariant(kind, pool, batch):
    encoder = kind(GCN(5, HIDDEN, 2), HIDDEN, 3, pool)
    q = encoder(batch.x, batch.edge_index, batch.layout)
    assert q.mean.shape == (3, 3)
    assert q.layout.num_graphs == q.layout.num_rows == 3
    moved = permute(batch, torch.cat([torch.randperm(6), torch.tensor([6]), 7 + torch.randperm(4)]))
    torch.testing.assert_close(q.mean, encoder(moved.x, moved.edge_index, moved.layout).mean)
    single = batch.to_data_list()[0]
    torch.testing.assert_close(q.mean[:1], encoder(single.x, single.edge_index).mean)


def test_point_encoder_is_its_mean(batch):
    q = PointEncoder(GCN(5, HIDDEN, 2), HIDDEN, 3)(batch.x, batch.edge_index, batch.layout)
    assert torch.equal(q.mean, q.rsample())
    assert torch.equal(q.mean, q.sample())


def test_a_batch_vector_in_place_of_a_layout_is_told(batch):
    encoder = NormalEncoder(GCN(5, HIDDEN, 2), HIDDEN, 3, SumAggregation())
    with pytest.raises(TypeError, match=r"got a Tensor; use Layout.from_batch\(batch\)"):
        encoder(batch.x, batch.edge_index, batch.batch)
    q = encoder(batch.x, batch.edge_index, Layout.from_batch(batch.batch))
    torch.testing.assert_close(q.mean, encoder(batch.x, batch.edge_index, batch.layout).mean)


def test_free_normal_starts_at_the_prior_and_is_tied_to_its_data(batch):
    encoder = FreeNormal(11, 3)
    q = encoder(batch.x, batch.edge_index, batch.layout)
    assert torch.equal(q.mean, torch.zeros(11, 3))
    assert torch.equal(q.stddev, torch.ones(11, 3))
    with pytest.raises(ValueError, match="'x' must have the 11 rows this FreeNormal was made for, got 4"):
        encoder(batch.x[:4], batch.edge_index)


def test_extreme_log_scales_stay_finite(batch):
    encoder = NormalEncoder(Nodewise(nn.Identity()), 5, 2)
    encoder.log_scale.bias.data = torch.tensor([1e6, -1e6])
    q = encoder(batch.x, batch.edge_index, batch.layout)
    assert math.isclose(q.stddev.max().item(), math.exp(10))
    assert math.isclose(q.stddev.min().item(), math.exp(-10))


@pytest.mark.parametrize(("hidden", "latent"), [(0, 2), (2, 0), (-1, 2)])
def test_bad_sizes_are_refused(hidden, latent):
    for kind in (NormalEncoder, PointEncoder):
        with pytest.raises(ValueError, match="must be positive"):
            kind(Nodewise(nn.Identity()), hidden, latent)


class Classifier(nn.Module):
    """A plain PyG classifier: it knows the encoder only as a module called with x and edge_index."""

    def __init__(self, encoder, latent, classes):
        super().__init__()
        self.encoder = encoder
        self.convolution = GCNConv(latent, classes)

    def forward(self, x, edge_index):
        return self.convolution(self.encoder(x, edge_index).mean, edge_index)


def test_an_encoder_is_a_layer_of_a_plain_classifier(batch):
    graph = random_graph(60, 0.02, seed=5)
    labels = (graph.x[:, 0] > 0).long()
    model = Classifier(NormalEncoder(GCN(5, HIDDEN, 2), HIDDEN, 3), 3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(graph.x, graph.edge_index), labels).backward()
        optimizer.step()
    accuracy = (model(graph.x, graph.edge_index).argmax(1) == labels).double().mean().item()
    assert accuracy > 0.9
    assert model.encoder.backbone.convs[0].lin.weight.grad.abs().max() > 0
    assert model.encoder.log_scale.weight.grad is None  # The classifier asked for the mean only.


@pytest.mark.parametrize("name", ["GCN", "SAGE", "GIN", "vector network"])
def test_encoders_compile_without_a_graph_break(name):
    graph = random_graph(20, 0.2, seed=5)
    model = Classifier(NormalEncoder(BACKBONES[name](), HIDDEN, 3), 3, 2)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True, dynamic=True)
    expected, found = model(graph.x, graph.edge_index), compiled(graph.x, graph.edge_index)
    torch.testing.assert_close(expected, found)
    other = random_graph(33, 0.2, seed=6)
    torch.testing.assert_close(model(other.x, other.edge_index), compiled(other.x, other.edge_index))
    ours = torch.autograd.grad(expected.sum(), model.encoder.loc.weight)
    theirs = torch.autograd.grad(found.sum(), model.encoder.loc.weight)
    torch.testing.assert_close(ours, theirs)


def test_backbone_weights_load_into_the_plain_backbone():
    encoder = NormalEncoder(GCN(5, HIDDEN, 2), HIDDEN, 3)
    prefix = "backbone."
    weights = {k.removeprefix(prefix): v for k, v in encoder.state_dict().items() if k.startswith(prefix)}
    plain = GCN(5, HIDDEN, 2)
    plain.load_state_dict(weights)
    graph = random_graph(6, 0.5, seed=0)
    assert torch.equal(plain(graph.x, graph.edge_index), encoder.backbone(graph.x, graph.edge_index))
