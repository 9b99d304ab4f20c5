import math

import pytest
import torch
import torch_geometric.nn as pyg
from scipy.stats import chisquare
from torch_geometric.data import Data

from conftest import random_graph
from graphvae.neighbors import NeighborSampler, _subsets

pytestmark = pytest.mark.usefixtures("double")


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _columns(edge_index):
    return set(map(tuple, edge_index.T.tolist()))


def _with_hub(num_nodes, seed, directed=False):
    """A sparse graph with a node that all others but the last, which is isolated, are joined to."""
    graph = random_graph(num_nodes, 0.05, seed, directed=directed)
    spokes = torch.stack([torch.arange(1, num_nodes - 1), torch.zeros(num_nodes - 2, dtype=torch.long)])
    edges = torch.cat([graph.edge_index, spokes, spokes[:, :0] if directed else spokes.flip(0)], 1).unique(dim=1)
    return Data(x=graph.x, edge_index=edges[:, (edges < num_nodes - 1).all(0)])


NETWORKS = {
    "mean": (lambda: pyg.GraphSAGE(5, 4, 2), 2),
    "sum": (lambda: pyg.GIN(5, 4, 3), 3),
    "maximum": (lambda: pyg.GraphSAGE(5, 4, 2, aggr="max"), 2),
    "GCN, one hop more": (lambda: pyg.GCN(5, 4, 2), 3),
}


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_full_neighbourhoods_give_the_seeds_what_the_whole_graph_gives(name, directed):
    make, hops = NETWORKS[name]
    network, graph = make(), _with_hub(40, seed=1, directed=directed)
    sampler = NeighborSampler(graph, [-1] * hops, directed)
    expected = network(graph.x, graph.edge_index)
    for seeds in (torch.tensor([17]), torch.tensor([39, 5, 5, 21]), torch.arange(40)):
        found = sampler.sample(seeds)
        output = network(graph.x[found.n_id], found.edge_index)
        torch.testing.assert_close(output[found.seeds], expected[seeds], rtol=1e-12, atol=1e-12)


def test_gcn_without_that_hop_is_not_exact():
    network, graph = pyg.GCN(5, 4, 1), _with_hub(40, seed=1)
    found = NeighborSampler(graph, [-1]).sample(torch.tensor([17]))
    difference = network(graph.x[found.n_id], found.edge_index)[0] - network(graph.x, graph.edge_index)[17]
    assert difference.abs().max() > 1e-3


def test_nodes_are_the_seeds_and_then_what_each_hop_reaches():
    path = torch.stack([torch.arange(9), torch.arange(1, 10)])
    graph = Data(x=torch.zeros(10, 1), edge_index=torch.cat([path, path.flip(0)], 1))
    found = NeighborSampler(graph, [-1, -1]).sample(torch.tensor([5, 5, 9]))
    assert found.n_id.tolist() == [5, 9, 4, 6, 8, 3, 7]
    assert found.seeds.tolist() == [0, 0, 1]
    whole = found.n_id[found.edge_index]
    assert _columns(whole) == {(i, j) for i in range(3, 10) for j in range(3, 10) if abs(i - j) == 1}
    assert whole.size(1) == 12
    # 6 and 7 are the two ends of the chain between both seeds: an edge reached from either side is there once.
    one = NeighborSampler(graph, [-1]).sample(torch.tensor([2, 3]))
    assert _columns(one.n_id[one.edge_index]) == {(1, 2), (2, 1), (2, 3), (3, 2), (3, 4), (4, 3)}
    assert one.edge_index.size(1) == 6


@pytest.mark.parametrize("directed", [False, True])
def test_what_is_drawn_is_in_the_graph_and_within_the_fanouts(directed):
    graph = _with_hub(200, seed=3, directed=directed)
    edges, sampler = _columns(graph.edge_index), NeighborSampler(graph, [3, 2], directed)
    in_degree = torch.bincount(graph.edge_index[1], minlength=200)
    for seed in range(20):
        seeds = torch.randint(200, (7,), generator=_generator(seed))
        found = sampler.sample(seeds, _generator(seed))
        drawn = found.n_id[found.edge_index]
        assert torch.equal(found.n_id[found.seeds], seeds)
        assert found.n_id.unique().numel() == found.n_id.numel()
        assert _columns(drawn) <= edges
        assert len(_columns(drawn)) == drawn.size(1)
        if directed:
            received = torch.bincount(drawn[1], minlength=200)
            assert torch.equal(received[seeds], in_degree[seeds].clamp(max=3))
            assert received.max() <= 3
        else:
            assert _columns(drawn) == _columns(drawn.flip(0))


def test_isolated_seeds_come_alone():
    found = NeighborSampler(_with_hub(20, seed=1), [4, -1]).sample(torch.tensor([19]))
    assert (found.n_id.tolist(), found.seeds.tolist(), found.edge_index.shape) == ([19], [0], (2, 0))


@pytest.mark.parametrize(("size", "count"), [(5, 2), (7, 6), (6, 3), (9, 1)])
def test_every_subset_is_equally_likely(size, count):
    drawn = _subsets(torch.full((60_000,), size), count, _generator())
    assert drawn.min() == 0
    assert drawn.max() == size - 1
    assert (drawn.sort(0).values.diff(dim=0) > 0).all()
    _, counts = (1 << drawn).sum(0).unique(return_counts=True)
    assert counts.numel() == math.comb(size, count)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_every_neighbour_is_equally_likely():
    graph = _with_hub(30, seed=2)
    neighbours = graph.edge_index[0, graph.edge_index[1] == 0]
    sampler, generator = NeighborSampler(graph, [4], directed=True), _generator()
    removed = neighbours[3:5]
    without = torch.stack([removed, torch.zeros_like(removed)])
    for left_out, expected in ((None, neighbours), (without, neighbours[~torch.isin(neighbours, removed)])):
        counts = torch.zeros(30)
        for _ in range(3000):
            found = sampler.sample(torch.tensor([0]), generator, left_out)
            counts[found.n_id[found.edge_index[0]]] += 1
        assert counts.sum() == 3000 * 4
        assert counts[expected].sum() == counts.sum()
        # Draws of one sample exclude each other: less spread than independent ones, so a large p-value is right.
        assert chisquare(counts[expected].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("directed", [False, True])
def test_edges_left_out_are_as_if_they_were_not_in_the_graph(directed):
    graph = _with_hub(60, seed=4, directed=directed)
    columns = graph.edge_index if directed else graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]]
    for seed in range(10):
        order = torch.randperm(columns.size(1), generator=_generator(seed))
        removed, kept = columns[:, order[:40]], columns[:, order[40:]]
        rest = Data(x=graph.x, edge_index=kept if directed else torch.cat([kept, kept.flip(0)], 1))
        seeds = removed.flatten()
        for fanouts in ([-1, -1], [3, 2]):
            found = NeighborSampler(graph, fanouts, directed).sample(seeds, _generator(seed), without=removed)
            expected = NeighborSampler(rest, fanouts, directed).sample(seeds, _generator(seed))
            assert torch.equal(found.n_id, expected.n_id)
            assert torch.equal(found.edge_index, expected.edge_index)


def test_one_generator_draws_everything():
    graph = _with_hub(80, seed=5)
    sampler, state = NeighborSampler(graph, [3, 3]), torch.get_rng_state()
    first, again, other = (sampler.sample(torch.arange(9), _generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.edge_index, again.edge_index)
    assert torch.equal(first.n_id, again.n_id)
    assert not torch.equal(first.n_id[first.edge_index], other.n_id[other.edge_index][:, : first.edge_index.size(1)])
    assert torch.equal(torch.get_rng_state(), state)
    assert sampler.sample(torch.arange(9), _generator(), fanouts=[1]).edge_index.size(1) <= 18


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: NeighborSampler(g, []), "'fanouts' must be positive numbers"),
        (lambda g: NeighborSampler(g, [3, 0]), r"'fanouts' must be .* got \(3, 0\)"),
        (lambda g: NeighborSampler([g, g], [3]), "'graph' must be one graph, got a batch of 2"),
        (lambda g: NeighborSampler(g, [3]).sample(torch.tensor([20])), "'seeds' must be nodes 0 to 19"),
        (lambda g: NeighborSampler(g, [3]).sample(torch.tensor([-1])), "'seeds' must be nodes 0 to 19"),
        (lambda g: NeighborSampler(g, [3]).sample(torch.tensor([0]), without=torch.tensor([[0], [19]])), "'without'"),
        (lambda g: NeighborSampler(g, [3]).sample(torch.tensor([0]), without=torch.tensor([[0], [0]])), "'without'"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(_with_hub(20, seed=1))


def test_an_edge_of_the_row_before_is_not_taken_for_one_of_an_empty_row():
    graph = _with_hub(20, seed=1)
    neighbour = graph.edge_index[0, graph.edge_index[1] == 18].max()
    with pytest.raises(ValueError, match="'without' must hold edges of the graph"):
        NeighborSampler(graph, [3], True).sample(torch.tensor([0]), without=torch.tensor([[int(neighbour)], [19]]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_samples_where_the_graph_is():
    graph = _with_hub(80, seed=5).to("cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    found = NeighborSampler(graph, [3, 2]).sample(torch.arange(9, device="cuda"), generator)
    assert found.edge_index.is_cuda
    assert _columns(found.n_id[found.edge_index]) <= _columns(graph.edge_index)


def test_edges_left_out_may_be_given_in_both_directions():
    graph = random_graph(40, 0.2, seed=2)
    sampler, seeds = NeighborSampler(graph, (-1,)), torch.arange(40)
    once = graph.edge_index[:, graph.edge_index[0] < graph.edge_index[1]][:, :30]
    both = torch.cat([once, once.flip(0)], 1)
    one, two = (sampler.sample(seeds, without=without) for without in (once, both))
    assert torch.equal(one.edge_index, two.edge_index)
    assert one.edge_index.size(1) == graph.edge_index.size(1) - 60
    with pytest.raises(ValueError, match="'without' must hold nodes 0 to 39"):
        sampler.sample(seeds, without=torch.tensor([[3], [99]]))
