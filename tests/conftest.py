"""What every test shares: one thread, known randomness, and small graphs."""

import itertools

import pytest
import torch
from torch_geometric.data import Data

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
