"""The recipe of latents of nodes: its inputs, and that it trains, samples and is saved with every prior and decoder."""

import networkx as nx
import pytest
import torch
from accelerate import Accelerator
from torch.nn.functional import one_hot
from torch_geometric.data import Data

from conftest import graph_from
from graphvae import elbo, fit, load, save
from graphvae.edges import HadamardMLP, InnerProduct
from graphvae.evaluation.vectors import active_units
from graphvae.graphs import as_batch, density, permute
from graphvae.hierarchy import GraphLevelPrior, SharedMixture
from graphvae.objectives import WarmUp
from graphvae.recipes.fixed_order import fixed_order_vae, with_degrees
from graphvae.recipes.node_latents import (
    node_latent_vae,
    node_types,
    row_network,
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
    _train(model, graphs, epochs=30)
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
    _train(model, graphs, epochs=5)
    drawn = model.sample(10, generator=1)
    assert torch.equal(drawn.x.sum(1), torch.ones(drawn.num_nodes))


def test_all_but_features_is_kept(nets):
    for number, net in enumerate(nets):
        net.edge_type = net.edge_index.sum(0) % 2
        net.y, net.x = torch.tensor([number]), torch.zeros(net.num_nodes, 1, dtype=torch.long)
    found, degrees = with_structure(nets, 3, steps=1), with_degrees(nets, 3)
    for number, (graph, other, net) in enumerate(zip(found, degrees, nets, strict=True)):
        for kept in (graph, other):
            assert torch.equal(kept.edge_type, net.edge_type)
            assert kept.y.item() == number
        assert net.x.dtype == torch.long, "what was given is left as it was"
        assert torch.equal(other.x, graph.x[:, :4])


def test_a_batch_and_one_graph_are_taken(nets):
    expected = with_structure(nets, 3, steps=2)
    for graph, found in zip(expected, with_structure(as_batch(nets), 3, steps=2), strict=True):
        assert torch.equal(graph.x, found.x)
        assert torch.equal(graph.edge_index, found.edge_index)
    (alone,) = with_degrees(nets[1], 3)
    assert torch.equal(alone.x, expected[1].x[:, :4])


@pytest.mark.parametrize("inputs", [with_structure, with_degrees])
def test_inputs_of_what_is_no_graph_are_told(inputs, nets):
    with pytest.raises(TypeError, match=r"'graphs\[0\]' must be a PyG Data, got Graph; see .*from_networkx"):
        inputs([nx.path_graph(3)], 3)
    with pytest.raises(ValueError, match="'graphs' must hold at least one graph"):
        inputs([], 3)
    with pytest.raises(ValueError, match="'largest' must not be negative, got -1"):
        inputs(nets, -1)


@pytest.mark.parametrize("name", ["steps", "eigenvectors"])
def test_counts_of_inputs_are_not_negative(name, nets):
    with pytest.raises(ValueError, match=f"'{name}' must not be negative, got -1"):
        with_structure(nets, 3, **{name: -1})
    with pytest.raises(TypeError, match=f"'{name}' must be an integer, got 1.5"):
        with_structure(nets, 3, **{name: 1.5})


@pytest.mark.parametrize("recipe", [node_latent_vae, lambda train, **sizes: fixed_order_vae(train, 7, **sizes)])
def test_recipes_say_what_they_need(recipe, nets, graphs):
    with pytest.raises(ValueError, match="'graphs' must hold at least one graph"):
        recipe([])
    with pytest.raises(ValueError, match=r"'train' must have node features 'x', got bare graphs; .*with_structure"):
        recipe(nets)
    for name in ("latent", "hidden"):
        with pytest.raises(ValueError, match=f"'{name}' must be positive, got -1"):
            recipe(graphs, **{name: -1})


def test_there_are_places_for_all_nodes(graphs):
    assert fixed_order_vae(graphs).edges.max_nodes == 7
    for too_few, message in ((6, "size of the largest graph, got 6 for one of 7"), (0, "positive, got 0")):
        with pytest.raises(ValueError, match=f"'max_nodes' must be .*{message}"):
            fixed_order_vae(graphs, too_few)


def _train(model, graphs, epochs):
    optimizer = torch.optim.Adam(model.parameters(), 0.003, fused=True)
    settings = {"batch_size": 32, "progress": False, "accelerator": Accelerator(cpu=True)}
    fit(model, graphs, WarmUp(epochs // 3), epochs=epochs, optimizer=optimizer, **settings)
