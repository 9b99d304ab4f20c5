import copy
from itertools import pairwise

import pytest
import torch
from scipy.stats import chisquare
from torch_geometric.data import Data

from conftest import random_graph
from graphvae.graphs import as_batch
from graphvae.masking import LinkBatches, MaskedGraphs
from graphvae.sources import BatchSource

pytestmark = pytest.mark.usefixtures("double")


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _columns(edge_index):
    return set(map(tuple, edge_index.T.tolist()))


def _targets(edge_index, directed):
    return {(i, j) for i, j in _columns(edge_index) if directed or i < j}


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("fanouts", [(-1, -1), (2, 1)])
def test_every_edge_is_a_target_once_and_never_in_its_message_graph(fanouts, directed):
    graph = random_graph(30, 0.2, seed=1, directed=directed)
    edges, batches = _columns(graph.edge_index), LinkBatches(graph, 7, fanouts, directed=directed)
    orders = []
    for epoch in range(3):
        seen = []
        for batch in batches.epoch(_generator(epoch)):
            targets, visible = batch.n_id[batch.targets], _columns(batch.n_id[batch.edge_index])
            hidden = _columns(targets) if directed else _columns(targets) | _columns(targets.flip(0))
            assert not visible & hidden
            assert visible <= edges
            assert directed or visible == {(j, i) for i, j in visible}
            assert not _columns(batch.n_id[batch.non_edges]) & edges
            if fanouts == (-1, -1):  # Nothing else is missing around the targets.
                ends = set(targets.flatten().tolist())
                assert {(i, j) for i, j in edges - hidden if j in ends} <= visible
            seen += map(tuple, targets.T.tolist())
        assert sorted(seen) == sorted(_targets(graph.edge_index, directed))
        orders.append(seen)
    assert orders[0] != orders[1] != orders[2]


def test_a_batch_is_a_checked_graph_with_its_features_and_numbers():
    graph = random_graph(30, 0.2, seed=1)
    num_edges = graph.edge_index.size(1) // 2
    batches = LinkBatches(graph, 10, (2, 2), negatives=1.5)
    found = list(batches.epoch(_generator()))
    sizes = [batch.targets.size(1) for batch in found]
    assert len(found) == len(batches) == -(-num_edges // 10)
    assert sum(sizes) == num_edges
    assert max(sizes) - min(sizes) <= 1
    for batch, size in zip(found, sizes, strict=True):
        assert as_batch(batch) is batch
        assert torch.equal(batch.x, graph.x[batch.n_id])
        assert batch.non_edges.size(1) == round(1.5 * size)
        assert (batch.total_edges, batch.total_non_edges) == (num_edges, 30 * 29 // 2 - num_edges)
        checked = as_batch(Data(x=batch.x, edge_index=batch.edge_index))  # The rules for a user's graph hold.
        assert checked.layout.num_graphs == batch.num_graphs == 1
    moved = copy.copy(found[0]).to("meta")
    names = ("x", "edge_index", "targets", "non_edges", "n_id")
    assert all(moved[name].is_meta and moved[name].shape == found[0][name].shape for name in names)
    assert moved.total_edges == num_edges


@pytest.mark.parametrize("directed", [False, True])
def test_non_edges_of_batches_are_uniform(directed):
    graph = random_graph(9, 0.4, seed=3, directed=directed)
    batches, counts, generator = LinkBatches(graph, 5, (1,), 40.0, directed), torch.zeros(9, 9), _generator()
    for _ in range(20):
        for batch in batches.epoch(generator):
            pairs = batch.n_id[batch.non_edges]
            counts.index_put_(tuple(pairs), torch.ones(pairs.size(1)), accumulate=True)
    possible = torch.ones(9, 9).fill_diagonal_(0) if directed else torch.ones(9, 9).triu(1)
    possible[tuple(graph.edge_index)] = 0
    assert counts[possible == 0].sum() == 0
    assert chisquare(counts[possible == 1].numpy()).pvalue > 1e-3


def _equal(a, b):
    keys = ("x", "edge_index", "targets", "non_edges", "n_id")
    return all(torch.equal(a[key], b[key]) for key in keys)


def test_one_generator_draws_everything_and_few_is_small_and_fixed():
    batches, state = LinkBatches(random_graph(60, 0.5, seed=1), 100, (3, 3)), torch.get_rng_state()
    first, again, other = (list(batches.epoch(_generator(seed))) for seed in (1, 1, 2))
    assert all(map(_equal, first, again))
    assert not any(map(_equal, first, other))
    assert _equal(batches.few(), batches.few())
    assert batches.few().targets.size(1) == 2
    assert torch.equal(torch.get_rng_state(), state)


def test_the_graph_given_may_be_thrown_away():
    graph = random_graph(30, 0.2, seed=1)
    batches = LinkBatches(graph, 10)
    expected = list(batches.epoch(_generator()))
    graph.edge_index.zero_()
    assert all(map(_equal, expected, batches.epoch(_generator())))


def test_facts_tell_sources_apart():
    graph, other = random_graph(30, 0.2, seed=1), random_graph(30, 0.2, seed=2)
    sources = [
        LinkBatches(graph, 10),
        LinkBatches(graph, 11),
        LinkBatches(graph, 10, (10, 9)),
        LinkBatches(graph, 10, negatives=2.0),
        LinkBatches(Data(x=graph.x, edge_index=other.edge_index), 10),
        LinkBatches(Data(x=other.x, edge_index=graph.edge_index), 10),
        MaskedGraphs(graph, 0.2),
        MaskedGraphs(graph, 0.3),
    ]
    facts = {(tuple(t.numpy().tobytes() for t in tensors), words) for tensors, words in (s.facts() for s in sources)}
    assert len(facts) == len(sources)
    assert all(isinstance(source, BatchSource) for source in sources)


@pytest.mark.parametrize("directed", [False, True])
def test_masks_divide_the_edges_anew_in_every_epoch(directed):
    graphs = [random_graph(n, 0.4, seed=n, directed=directed) for n in (9, 1, 12)]
    whole = as_batch(graphs, directed)
    source, columns = MaskedGraphs(graphs, 0.25, directed), whole.edge_index.size(1)
    counts = torch.zeros(22, 22)
    for epoch in range(400):
        (batch,) = source.epoch(_generator(epoch))
        hidden, visible = _columns(batch.hidden), _columns(batch.edge_index)
        assert not hidden & visible
        assert hidden | visible == _columns(whole.edge_index)
        assert directed or hidden == {(j, i) for i, j in hidden}
        assert (
            len(hidden)
            == batch.hidden.size(1)
            == round(0.25 * columns / (1 if directed else 2)) * (1 if directed else 2)
        )
        assert batch.x is whole.x or torch.equal(batch.x, whole.x)
        assert torch.equal(batch.layout.ptr, whole.layout.ptr)
        counts[tuple(batch.hidden)] += 1
    assert chisquare(counts[tuple(whole.edge_index)].numpy()).pvalue > 1e-3
    assert counts.sum() == counts[tuple(whole.edge_index)].sum()
    assert len(source) == 1
    assert all(torch.equal(a.hidden, b.hidden) for a, b in pairwise([source.few(), source.few()]))


EMPTY = Data(x=torch.zeros(3, 1), edge_index=torch.empty(2, 0, dtype=torch.long))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: LinkBatches(g, 0), "'batch_size' and 'negatives' must be positive, got 0"),
        (lambda g: LinkBatches(g, negatives=0), "must be positive"),
        (lambda g: LinkBatches(g, fanouts=(0,)), "'fanouts' must be positive numbers"),
        (lambda g: LinkBatches([g, g]), "'graph' must be one graph with features"),
        (lambda g: LinkBatches(Data(edge_index=g.edge_index, num_nodes=9)), "'graph' must be one graph with features"),
        (lambda g: LinkBatches(EMPTY), "'batch_size' must be less than the 0 edges of the graph, got 1024"),
        (lambda g: LinkBatches(g, g.edge_index.size(1) // 2), "'batch_size' must be less than the .* see no edge"),
        (lambda g: LinkBatches(Data(x=g.x, edge_index=g.edge_index[:, 1:])), "both directions"),
        (lambda g: list(LinkBatches(random_graph(4, 1.0, seed=0), 2).epoch(_generator())), "graphs are complete"),
        (lambda g: MaskedGraphs(g, 1.0), "'hidden_share' must lie strictly between 0 and 1, got 1.0"),
        (lambda g: MaskedGraphs(EMPTY), "'graphs' must have an edge to hide"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_graph(9, 0.4, seed=1))


def test_sparse_features_are_refused():
    graph = random_graph(9, 0.5, seed=1)
    with pytest.raises(TypeError, match=r"use x\.to_dense"):
        LinkBatches(Data(x=graph.x.to_sparse_csr(), edge_index=graph.edge_index), 2)
