"""The recipe of latents of nodes: its inputs, and that it trains, samples and is saved with every prior and decoder."""

import networkx as nx
import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import one_hot
from torch_geometric.data import Data

from conftest import graph_from
from graphvae import elbo, load, save
from graphvae.edges import HadamardMLP, InnerProduct
from graphvae.evaluation.vectors import active_units
from graphvae.graphs import as_batch, density, permute
from graphvae.hierarchy import GraphLevelPrior, SharedMixture
from graphvae.recipes.node_latents import (
    node_latent_vae,
    node_types,
    row_network,
    train_with_warm_up,
    with_structure,
)

PRIORS = {
    "standard": lambda: None,
    "shared mixture": lambda: SharedMixture(4, 3),
    "graph level": lambda: GraphLevelPrior(4, 2, 16, components=2),
}
EDGES = {
    "indefinite": lambda graphs: None,
    "inner product": lambda graphs: InnerProduct(density(graphs), row_network(4, 16)),
    "hadamard": lambda graphs: HadamardMLP(16, 16, density(graphs), row_network(4, 16)),
}


@pytest.fixture
def nets():
    """Paths, cycles, stars and trees."""
    nets = [nx.path_graph(5), nx.cycle_graph(6), nx.star_graph(4), nx.balanced_tree(2, 2), nx.empty_graph(3)]
    return [graph_from(net) for net in nets]


@pytest.fixture
def graphs(nets):
    return with_structure(nets * 3, largest=5, steps=3, eigenvectors=2)


def test_inputs_are_what_they_say(nets):
    for graph, net in zip(with_structure(nets, 4, steps=4), nets, strict=True):
        adjacency = torch.zeros(net.num_nodes, net.num_nodes)
        adjacency[tuple(net.edge_index)] = 1
        degree = adjacency.sum(1)
        assert torch.equal(graph.x[:, :5], one_hot(degree.long(), 5).float())
        walk = adjacency / degree.clamp(min=1)[:, None]
        expected = [torch.linalg.matrix_power(walk, k).diagonal() for k in (2, 3, 4, 5)]
        torch.testing.assert_close(graph.x[:, 5:], torch.stack(expected, 1))
        assert torch.equal(graph.edge_index, net.edge_index)


def test_degrees_beyond_the_largest_are_taken_as_that(nets):
    star = with_structure(nets, 2)[2]
    assert star.x.size(1) == 3
    assert star.x[0].tolist() == [0, 0, 1]


def test_eigenvectors_solve_their_equation_and_have_no_padding(nets):
    x = [graph.x[:, 3:].double() for graph in with_structure(nets, 2, eigenvectors=6)]
    path = x[0]
    assert path[:, 4:].abs().max() < 1e-6, "a path of 5 nodes has 4 after the first"
    torch.testing.assert_close(path[:, :4].square().mean(0), torch.ones(4, dtype=torch.double))
    adjacency = torch.zeros(5, 5, dtype=torch.double)
    adjacency[tuple(nets[0].edge_index)] = 1
    scale = adjacency.sum(1).rsqrt()
    moved = (scale[:, None] * adjacency * scale) @ path[:, :4]
    values = (moved * path[:, :4]).mean(0)
    torch.testing.assert_close(moved, values * path[:, :4], atol=1e-5, rtol=0)
    assert (values.diff() < 0).all()


def test_degrees_and_returns_move_with_the_nodes(nets):
    tree, order = nets[3], torch.randperm(7)
    renamed = permute(as_batch([tree]), order).to_data_list()
    before, after = (with_structure(part, 5, steps=3)[0].x for part in ([tree], renamed))
    torch.testing.assert_close(after, before[order])


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("edges", EDGES)
def test_it_trains_and_samples(graphs, prior, edges, tmp_path):
    model = node_latent_vae(graphs, PRIORS[prior](), EDGES[edges](graphs), hidden=16, latent=4, layers=2)
    model.eval()
    with torch.no_grad():
        before = torch.stack([elbo(model, graphs).mean() for _ in range(20)]).mean()
    train_with_warm_up(model, graphs, epochs=30, progress=False, accelerator=Accelerator(cpu=True))
    with torch.no_grad():
        after = torch.stack([elbo(model, graphs).mean() for _ in range(20)]).mean()
    assert after > before
    assert active_units(model, graphs).shape == (4,)
    drawn = model.sample(10, generator=1)
    assert as_batch(drawn.to_data_list()).layout.num_graphs == 10
    save(model, tmp_path)
    assert torch.equal(load(tmp_path).sample(10, generator=1).edge_index, drawn.edge_index)


def test_node_types_are_part_of_a_graph_where_they_are_given(nets):
    graphs = [
        Data(x=one_hot(torch.arange(net.num_nodes) % 2, 2).float(), edge_index=net.edge_index) for net in nets * 3
    ]
    model = node_latent_vae(graphs, features=node_types(4, 16, 2), hidden=16, latent=4, layers=2)
    train_with_warm_up(model, graphs, epochs=5, progress=False, accelerator=Accelerator(cpu=True))
    drawn = model.sample(10, generator=1)
    assert torch.equal(drawn.x.sum(1), torch.ones(drawn.num_nodes))


def test_epochs_must_be_positive(graphs):
    model = node_latent_vae(graphs, hidden=16, latent=4, layers=2)
    with pytest.raises(ValueError, match="'epochs' must be positive, got 0"):
        train_with_warm_up(model, graphs, epochs=0, progress=False)
