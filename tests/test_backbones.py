import itertools

import pytest
import torch
from torch import nn
from torch_geometric.nn import APPNP, GCNConv, SGConv

from conftest import random_graph
from graphvae.backbones import AtPlaces, GraphConvolution, HopMix, Nodewise, Propagation, SparseLinear, Stack
from graphvae.descriptions import build, describe

pytestmark = pytest.mark.usefixtures("double")


def test_nodewise_sees_no_edges():
    graph = random_graph(6, 0.5, seed=0)
    network = nn.Sequential(nn.Linear(5, 3), nn.ReLU())
    assert torch.equal(Nodewise(network)(graph.x, graph.edge_index), network(graph.x))


def test_stack_gives_edges_to_the_layers_that_take_them():
    graph = random_graph(6, 0.5, seed=0)
    first, second = GCNConv(5, 4), GCNConv(4, 3)
    expected = second(first(graph.x, graph.edge_index).relu(), graph.edge_index)
    assert torch.equal(Stack(first, nn.ReLU(), second)(graph.x, graph.edge_index), expected)


def test_a_propagation_before_the_heads_is_the_graph_convolution_of_the_paper():
    """A(HW) = (AH)W: linear heads after a propagation are the GCN heads of Kipf and Welling."""
    graph = random_graph(6, 0.5, seed=0)
    convolution, head = GCNConv(5, 2), nn.Linear(5, 2)
    head.weight.data, head.bias.data = convolution.lin.weight.data, convolution.bias.data
    for propagation in (APPNP(K=1, alpha=0.0), Propagation()):
        propagated = head(propagation(graph.x, graph.edge_index))
        torch.testing.assert_close(propagated, convolution(graph.x, graph.edge_index))


def pair(widths, bias=True):
    """PyG's layer and ours, from one seed."""
    layers = []
    for kind in (GCNConv, GraphConvolution):
        torch.manual_seed(3)
        layers.append(kind(*widths, bias=bias))
    return layers


@pytest.mark.parametrize("bias", [True, False])
def test_graph_convolution_starts_as_pyg_does_and_exchanges_weights(bias):
    theirs, mine = pair((5, 4), bias)
    after = torch.rand(3)
    assert list(theirs.state_dict()) == list(mine.state_dict()) == ["bias", "lin.weight"][1 - bias :]
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), mine.parameters(), strict=True))
    torch.manual_seed(3)
    GCNConv(5, 4, bias=bias)
    assert torch.equal(torch.rand(3), after)  # The generator is left in the same state.
    theirs.load_state_dict(mine.state_dict())
    mine.load_state_dict(theirs.state_dict())


@pytest.mark.parametrize("widths", [(5, 2), (5, 9)])  # Multiplied before, and after, propagating.
@pytest.mark.parametrize(("directed", "needs_grad"), list(itertools.product([False, True], repeat=2)))
def test_graph_convolution_is_pygs(widths, directed, needs_grad):
    graph = random_graph(9, 0.3, seed=2, directed=directed)
    results = []
    for layer in pair(widths):
        x = graph.x.clone().requires_grad_(needs_grad)
        nn.init.normal_(layer.bias, generator=torch.Generator().manual_seed(0))
        out = layer(x, graph.edge_index)
        out.square().sum().backward()
        results.append([out.detach(), layer.lin.weight.grad, layer.bias.grad, x.grad])
        with torch.no_grad():
            torch.testing.assert_close(layer(x, graph.edge_index), out.detach())
    torch.testing.assert_close(*(r[: 3 + needs_grad] for r in results))


@pytest.mark.parametrize("bias", [True, False])
def test_sparse_linear_is_torchs(bias):
    layers = []
    for kind in (nn.Linear, SparseLinear):
        torch.manual_seed(3)
        layers.append(kind(5, 4, bias=bias))
    theirs, mine = layers
    assert theirs.state_dict().keys() == mine.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), mine.parameters(), strict=True))
    x = random_graph(9, 0.3, seed=2).x
    assert torch.equal(theirs(x), mine(x))
    assert str(mine).removeprefix("Sparse") == str(theirs)


@pytest.mark.parametrize(
    "layer", [GraphConvolution(4, 3), GraphConvolution(4, 3, bias=False), Propagation(), SparseLinear(4, 3, bias=False)]
)
def test_layers_are_described_by_their_arguments(layer):
    rebuilt = build(describe(Stack(layer)))
    assert {k: v.shape for k, v in rebuilt.state_dict().items()} == {
        k: v.shape for k, v in Stack(layer).state_dict().items()
    }


def test_hop_mix_is_a_convex_mix_of_powers():
    graph = random_graph(7, 0.4, seed=1)
    mix = HopMix(3)
    mix.weight.data = torch.randn(4)
    expected = torch.zeros_like(graph.x)
    for hop, weight in enumerate(mix.weight.softmax(0)):
        power = SGConv(5, 5, K=hop, bias=False)
        power.lin.weight.data = torch.eye(5)
        expected += weight * (power(graph.x, graph.edge_index) if hop else graph.x)
    torch.testing.assert_close(mix(graph.x, graph.edge_index), expected)
    with pytest.raises(ValueError, match="'hops' must not be negative, got -1"):
        HopMix(-1)


def test_graphs_at_places_are_rows_of_their_types(double):
    backbone = AtPlaces(nn.Identity(), 3, 2, 2)
    x = torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0], [1, 0]])
    edge_index = torch.tensor([[0, 1, 2, 4, 3, 4], [1, 0, 4, 2, 4, 3]])
    rows = backbone(x, edge_index, torch.tensor([0, 0, 1, 1, 1]), torch.tensor([1, 1, 0, 0, 1, 1]))
    assert rows.shape == (5, AtPlaces.width(3, 2, 2)) == (5, 12)
    # Nodes at places 0, 1, 2, then pairs 01, 02, 12 by type.
    assert rows[0].tolist() == rows[1].tolist() == [1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    assert rows[3].tolist() == [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 1]
    untyped = AtPlaces(nn.Identity(), 3, 2)(x[:2], edge_index[:, :2])
    assert untyped[0].tolist() == [1, 0, 0, 1, 0, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="2 features and 2 nodes at most, got 2 columns and 3 nodes"):
        AtPlaces(nn.Identity(), 2, 2)(x, edge_index, torch.tensor([0, 0, 1, 1, 1]))
