import pytest
import torch
from scipy.stats import chisquare

from conftest import random_graph
from graphvae.layout import Layout
from graphvae.nonedges import NonEdges


def _absent(edge_index, num_nodes, directed):
    joined = set(map(tuple, edge_index.T.tolist()))
    pairs = [(i, j) for i in range(num_nodes) for j in range(num_nodes) if (i != j if directed else i < j)]
    return [pair for pair in pairs if pair not in joined]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("probability", [0.0, 0.3, 0.9])
def test_ranks_list_every_pair_that_is_not_joined_once(probability, directed):
    for num_nodes in (2, 3, 17):
        edge_index = random_graph(num_nodes, probability, seed=1, directed=directed).edge_index
        found = NonEdges(edge_index, Layout.single(num_nodes), directed)
        listed = list(map(tuple, found.at(torch.arange(found.count)).T.tolist()))
        assert sorted(listed) == _absent(edge_index, num_nodes, directed)
        assert found.present.size(1) == edge_index.size(1) // (1 if directed else 2)


@pytest.mark.parametrize("directed", [False, True])
def test_draws_are_uniform(directed):
    edge_index = random_graph(12, 0.5, seed=2, directed=directed).edge_index
    source = NonEdges(edge_index, Layout.single(12), directed)
    drawn = source.sample(200 * source.count, torch.Generator().manual_seed(0))
    absent = _absent(edge_index, 12, directed)
    counts = torch.zeros(12, 12).index_put_(tuple(drawn), torch.ones(drawn.size(1)), accumulate=True)
    assert counts.sum() == sum(counts[pair] for pair in absent)
    assert chisquare([float(counts[pair]) for pair in absent]).pvalue > 1e-3


@pytest.mark.parametrize("num_nodes", [10**6, 10**9])
@pytest.mark.parametrize("directed", [False, True])
def test_pairs_of_huge_graphs_are_exact_in_integers(num_nodes, directed):
    ends = torch.randint(num_nodes, (2, 20_000)).sort(0).values
    corners = torch.tensor([[0, 0, num_nodes - 2, 0], [1, num_nodes - 1, num_nodes - 1, 2]])
    pairs = torch.cat([corners, ends[:, ends[0] != ends[1]]], 1).unique(dim=1)
    empty = NonEdges.every(Layout.single(num_nodes), directed)
    low, high = pairs
    numbers = high * (num_nodes - 1) + low if directed else high * (high - 1) // 2 + low
    assert torch.equal(empty.at(numbers), pairs)
    # With these pairs as edges, the non-edge of rank g_k comes right after edge k, and is no edge.
    source = NonEdges(pairs, Layout.single(num_nodes), directed)
    ranks = (numbers.sort().values - torch.arange(numbers.numel())).clamp(max=source.count - 1)
    drawn = source.at(ranks)
    keys = pairs[0] * num_nodes + pairs[1]
    assert not torch.isin(drawn[0] * num_nodes + drawn[1], keys).any()


def test_complete_graphs_have_none():
    with pytest.raises(ValueError, match="graphs are complete"):
        NonEdges(random_graph(4, 1.0, seed=0).edge_index, Layout.single(4)).sample(1)
