"""`LinkSplit`: its parts are what they say, uniform, reproducible, and cannot leak, also when read from a file."""

import pickle
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.stats import chi2
from torch_geometric.data import Data

from conftest import random_graph
from graphvae.datasets.splits import LinkSplit

PARTS = ("message", "supervision", "val_edges", "val_non_edges", "test_edges", "test_non_edges")
FACTS = {"num_nodes": "40", "seed": "3", "ratio": "85/5/10"}


def undirected(pairs, num_nodes: int) -> Data:
    once = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    return Data(edge_index=torch.cat([once, once.flip(0)], 1), num_nodes=num_nodes)


def path(n: int) -> Data:
    return undirected([(i, i + 1) for i in range(n - 1)], n)


def complete(n: int, without: int = 0) -> Data:
    return undirected([(i, j) for i in range(n) for j in range(i + 1, n)][without:], n)


def pairs(tensor: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(pair) for pair in tensor.T.tolist()]


def check(split: LinkSplit, graph: Data) -> None:
    """All that must hold of any split of any graph, from sets of pairs."""
    found = {part: pairs(getattr(split, part)) for part in PARTS}
    edges = {(i, j) for i, j in graph.edge_index.T.tolist() if i < j}
    every = [found[part] for part in PARTS if part != "supervision"]
    assert len({pair for part in every for pair in part}) == sum(map(len, every))  # no repeats, no overlaps
    assert all(0 <= i < j < graph.num_nodes for part in every for i, j in part)
    assert {*found["message"], *found["val_edges"], *found["test_edges"]} == edges
    assert not edges & {*found["val_non_edges"], *found["test_non_edges"]}
    assert found["supervision"] == found["message"]
    for part, share in zip(("val", "test"), split.ratio[1:], strict=True):
        assert len(found[f"{part}_edges"]) == len(found[f"{part}_non_edges"]) == len(edges) * share // 100
        assert [pairs(held) for held in split.held_out(part)] == [found[f"{part}_edges"], found[f"{part}_non_edges"]]


@pytest.mark.parametrize(("ratio", "val", "test"), [((85, 5, 10), 7, 14), ((70, 10, 20), 14, 29), ((98, 1, 1), 1, 1)])
@pytest.mark.parametrize("graph", [path(146), complete(20, without=45)], ids=["sampled", "enumerated"])
def test_counts_follow_the_ratio(graph, ratio, val, test):
    split = LinkSplit.random(graph, ratio)
    check(split, graph)
    assert split.ratio == ratio
    assert [split.val_edges.size(1), split.test_edges.size(1), split.message.size(1)] == [val, test, 145 - val - test]


@settings(deadline=None, max_examples=40, derandomize=True)
@given(n=st.integers(1, 14), p=st.floats(0, 1), seed=st.integers(0, 2**31), val=st.integers(1, 49))
def test_any_graph_is_split_or_refused(n, p, seed, val):
    graph = random_graph(n, p, seed)
    edges, ratio = graph.edge_index.size(1) // 2, (100 - 2 * val, val, val)
    held_out = edges * val // 100
    if 0 < held_out <= (n * (n - 1) // 2 - edges) / 2:
        check(LinkSplit.random(graph, ratio, seed), graph)
    else:
        with pytest.raises(ValueError, match=r"^'graph' must have"):
            LinkSplit.random(graph, ratio, seed)


@pytest.mark.parametrize(("graph", "ratio"), [(path(7), (20, 40, 40)), (complete(8, without=6), (80, 10, 10))])
def test_held_out_pairs_are_uniform(graph, ratio):
    """Pearson's statistic of draws without replacement, for the sampling and for the enumeration path."""
    seeds, n = range(500), graph.num_nodes
    counts = {part: torch.zeros(n, n) for part in PARTS[2:]}
    for seed in seeds:
        split = LinkSplit.random(graph, ratio, seed)
        for part, count in counts.items():
            count[tuple(getattr(split, part))] += 1
    joined = torch.zeros(n, n, dtype=torch.bool).index_put(tuple(graph.edge_index), torch.tensor(True))
    for part, count in counts.items():
        domain = (~joined if "non" in part else joined).triu(1)
        assert count[~domain].sum() == 0
        observed, size = count[domain], int(domain.sum())
        share = observed.sum() / len(seeds) / size
        variance = len(seeds) * share * (1 - share) * size / (size - 1)
        statistic = ((observed - len(seeds) * share) ** 2).sum() / variance
        assert chi2.ppf(1e-3, size - 1) < statistic < chi2.ppf(1 - 1e-3, size - 1), part


def test_the_seed_decides_and_global_randomness_is_untouched():
    graph = random_graph(40, 0.2, seed=1)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    first, again, other = (LinkSplit.random(graph, seed=seed) for seed in (0, 0, 1))
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    torch.rand(1)
    shuffled = Data(edge_index=graph.edge_index[:, torch.randperm(graph.num_edges)], num_nodes=40)
    third = LinkSplit.random(shuffled, seed=0)
    for part in PARTS:
        assert torch.equal(getattr(first, part), getattr(again, part))
        assert torch.equal(getattr(first, part), getattr(third, part)), "the order of the edges must not matter"
        assert set(pairs(getattr(first, part))) != set(pairs(getattr(other, part)))
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (complete(8), "'graph' must have 3 pairs of nodes that are not joined to hold out, got 0"),
        (complete(8, without=2), "'graph' must have 3 pairs of nodes that are not joined to hold out, got 2"),
        (path(20), "'graph' must have enough edges to hold out 5 % and 10 %, got 19 edges"),
        (undirected([], 5), "'graph' must have enough edges to hold out 5 % and 10 %, got 0 edges"),
        (undirected([], 1), "'graph' must have enough edges to hold out 5 % and 10 %, got 0 edges"),
        (undirected([], 0), "'num_nodes' must be at least 1, got 0"),
        (Data(edge_index=path(9).edge_index[:, :8], num_nodes=9), "must hold both directions of an undirected edge"),
        (undirected([(0, 1), (1, 1)], 2), "'edge_index' must have no self loops"),
        ([path(30), path(30)], "'graph' must be one graph, got a batch of 2"),
    ],
)
def test_graphs_that_cannot_be_split_are_refused(graph, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        LinkSplit.random(graph)


BAD_RATIOS = [(85, 5, 11), (85, 15), (100, 0, 0), (110, -5, -5), (0.85, 0.05, 0.1), (85.0, 5.0, 10.0), (np.nan, 5, 10)]


@pytest.mark.parametrize("ratio", BAD_RATIOS)
def test_bad_ratios_are_refused(ratio):
    with pytest.raises(ValueError, match=r"^'ratio' must be three positive whole percentages that add to 100, got \("):
        LinkSplit.random(path(50), ratio)


@pytest.fixture
def split() -> LinkSplit:
    return LinkSplit.random(random_graph(40, 0.2, seed=5), seed=3)


def test_the_encoder_sees_message_edges_alone(split):
    data = random_graph(40, 0.2, seed=5)
    data.y = torch.arange(40)
    visible = split.graph(data)
    assert visible.x is data.x
    assert set(visible.keys()) == {"x", "edge_index", "num_nodes"}
    both = [*pairs(split.message), *pairs(split.message.flip(0))]
    assert sorted(pairs(visible.edge_index)) == sorted(both)
    data.edge_index = random_graph(40, 0.2, seed=6).edge_index
    with pytest.raises(ValueError, match=r"'data' must be the graph of this split, got one without \d+ of its edges"):
        split.graph(data)
    with pytest.raises(ValueError, match="'data' must have the 40 nodes of this split, got 39"):
        split.graph(path(39))
    with pytest.raises(ValueError, match="'part' must be val or test, got train"):
        split.held_out("train")


def test_visible_pairs_are_refused(split):
    for part in PARTS[2:]:
        split.refuse_visible(getattr(split, part).flip(0))
    seen = torch.cat([split.test_edges, split.message[:, :2].flip(0)], 1)
    with pytest.raises(ValueError, match="'pairs' must not be in the message graph, 2 are"):
        split.refuse_visible(seen)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([[0], [40]], r"'pairs' must join two different nodes of 0 to 39, got \(0, 40\)"),
        ([[3, 2], [4, 2]], r"'pairs' must join two different nodes of 0 to 39, got \(2, 2\)"),
        ([[-1], [3]], r"'pairs' must join two different nodes of 0 to 39, got \(-1, 3\)"),
        ([[0, 1], [1, 2], [2, 3]], r"'pairs' must be \(2, P\) of int64, got shape \(3, 2\)"),
        ([[0.0], [1.0]], r"'pairs' must be \(2, P\) of int64, got shape \(2, 1\) of torch.float32"),
    ],
)
def test_bad_pairs_are_refused(split, bad, message):
    with pytest.raises(ValueError, match=message):
        split.refuse_visible(torch.tensor(bad))


@pytest.mark.parametrize("part", PARTS[2:])
@pytest.mark.parametrize("other", PARTS)
def test_a_split_that_leaks_cannot_be_made_or_loaded(split, part, other, tmp_path):
    if part == other:
        leak, message = getattr(split, part)[:, [0, 0, 1]], f"'{part}' must hold every pair once"
    else:
        leak = torch.cat([getattr(split, part), getattr(split, other)[:, :1]], 1)
        message = "must be disjoint, they share 1 pairs"
    with pytest.raises(ValueError, match=message):
        replace(split, **{part: leak})
    split.save(tmp_path / "split")
    save_file(load_file(tmp_path / "split") | {part: leak.contiguous()}, tmp_path / "split", FACTS)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/split is not a split .*{message}"):
        LinkSplit.load(tmp_path / "split")


def test_a_saved_split_is_loaded_as_it_was(split, tmp_path):
    split.save(tmp_path / "split.safetensors")
    loaded = LinkSplit.load(str(tmp_path / "split.safetensors"))
    assert all(torch.equal(getattr(loaded, part), getattr(split, part)) for part in PARTS)
    assert (loaded.num_nodes, loaded.seed, loaded.ratio) == (40, 3, (85, 5, 10))


class Trap:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path, mark: path.write_bytes(pickle.dumps(Trap(mark))),
        lambda path, mark: torch.save(Trap(mark), path),
        lambda path, mark: path.write_bytes(b"{not a split}" * 30),
        lambda path, mark: path.write_bytes(b""),
        lambda path, mark: path.write_bytes(path.read_bytes()[:-9]),
        lambda path, mark: path.write_bytes(path.read_bytes()[:100]),
        lambda path, mark: save_file(load_file(path), path),
        lambda path, mark: save_file({"message": torch.ones(2, 1)}, path, FACTS),
        *[
            lambda path, mark, wrong=wrong: save_file(load_file(path), path, FACTS | wrong)
            for wrong in ({"ratio": "85/15"}, {"ratio": "85/5/11"}, {"seed": "x"}, {"num_nodes": "30"})
        ],
        lambda path, mark: save_file(load_file(path) | {"message": torch.ones(2, 1)}, path, FACTS),
        lambda path, mark: save_file(load_file(path) | {"val_edges": torch.tensor([[9], [8]])}, path, FACTS),
    ],
)
def test_files_that_are_no_split_are_refused_in_one_line(split, spoil, tmp_path):
    split.save(tmp_path / "split")
    spoil(tmp_path / "split", tmp_path / "mark")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/split is not a split written by LinkSplit.save \(.+\)$"):
        LinkSplit.load(tmp_path / "split")
    assert not (tmp_path / "mark").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"^no file {tmp_path}/none; write one with LinkSplit.save$"):
        LinkSplit.load(tmp_path / "none")
