"""What every test shares: one thread, known randomness, and small graphs."""

import itertools

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data

from graphvae.graphs import as_batch

torch.set_num_threads(1)

# Of batches of graphs: one and many, empty, tiny, of just more than a tile, and mixed.
SIZES = [
    [1],
    [2],
    [7],
    [513],
    [1100],
    [1, 1, 1],
    [3, 1, 2, 0, 5, 4],
    [600, 3, 1, 512, 33],
    [9] * 40 + [8] * 30 + [2, 17],
]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def double():
    """Float64 for tensors and modules made in the test."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_graph(num_nodes: int, probability: float, seed: int, features: int = 5, directed: bool = False) -> Data:
    """An Erdős–Rényi graph with normal features, in the default floating-point type."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(num_nodes, num_nodes, generator=generator) < probability
    present = present & ~torch.eye(num_nodes, dtype=torch.bool) if directed else present.triu(1) | present.triu(1).T
    x = torch.randn(num_nodes, features, generator=generator, dtype=torch.get_default_dtype())
    return Data(x=x, edge_index=present.nonzero().T.contiguous())


def all_edge_sets(num_nodes: int, directed: bool):
    """Every graph without self loops on `num_nodes` labelled nodes, as `edge_index`."""
    pairs = [(i, j) for i in range(num_nodes) for j in range(num_nodes) if (i != j if directed else i < j)]
    for present in itertools.product([False, True], repeat=len(pairs)):
        chosen = torch.tensor([pair for pair, kept in zip(pairs, present, strict=True) if kept]).reshape(-1, 2).T.long()
        yield chosen if directed else torch.cat([chosen, chosen.flip(0)], 1)


def typed_graphs(num_nodes, types):
    """Every typed graph: each pair has no edge, or one of a type."""
    pairs = list(itertools.combinations(range(num_nodes), 2))
    for classes in itertools.product(range(types + 1), repeat=len(pairs)):
        chosen = [(pair, kind - 1) for pair, kind in zip(pairs, classes, strict=True) if kind]
        once = torch.tensor([pair for pair, _ in chosen]).reshape(-1, 2).T.long()
        kinds = torch.tensor([kind for _, kind in chosen]).long()
        yield torch.cat([once, once.flip(0)], 1), kinds.repeat(2)


def random_types(graph, types):
    """One random type for each edge, the same in both directions."""
    table = torch.randint(types, (graph.num_nodes, graph.num_nodes)).triu(1)
    return (table + table.T)[tuple(graph.edge_index)]


def graph_from(net: nx.Graph, x: torch.Tensor | None = None) -> Data:
    """A graph of networkx whose nodes are 0, 1, ..., with both directions of its edges if it has none."""
    edges = list(net.edges) + ([] if net.is_directed() else [(j, i) for i, j in net.edges])
    return Data(x=x, edge_index=torch.tensor(edges).reshape(-1, 2).T.long(), num_nodes=len(net))


@pytest.fixture
def batch():
    """Graphs of 6, 1 and 9 nodes."""
    return as_batch([random_graph(n, 0.4, seed=n) for n in (6, 1, 9)])


def all_orders(num_nodes):
    return torch.tensor(list(itertools.permutations(range(num_nodes))))


def frequencies(distribution, orders, num_draws):
    """How often each of all `orders` `(n!, n)` of one graph was drawn."""
    base = orders.size(1) ** torch.arange(orders.size(1))
    codes, places = (orders * base).sum(1).sort()
    drawn = (distribution.sample(num_draws) * base).sum(1)
    return torch.bincount(places[torch.searchsorted(codes, drawn)], minlength=len(orders))


def assert_draws_match(distribution, num_nodes, num_draws=20_000):
    """All orders sum to one; frequencies lie within 5 standard errors; nothing impossible is drawn."""
    orders = all_orders(num_nodes)
    chance = distribution.log_prob(orders)[:, 0].detach().exp()
    torch.testing.assert_close(chance.sum(), torch.tensor(1.0), rtol=0, atol=1e-10)
    found = frequencies(distribution, orders, num_draws)
    assert not found[chance == 0].any()
    error = (num_draws * chance * (1 - chance)).sqrt()
    # An expected handful is not normal; its largest deviations are those of a Poisson variable.
    assert ((found - num_draws * chance).abs() <= 5 * error + 5).all()
