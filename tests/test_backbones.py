import pytest
import torch
from torch import nn
from torch_geometric.nn import APPNP, GCNConv, SGConv

from conftest import random_graph
from graphvae.backbones import HopMix, Nodewise, Stack

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
    propagated = head(APPNP(K=1, alpha=0.0)(graph.x, graph.edge_index))
    torch.testing.assert_close(propagated, convolution(graph.x, graph.edge_index))


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
