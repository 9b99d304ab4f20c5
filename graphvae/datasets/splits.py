"""`LinkSplit`: which edges an encoder may see, which a loss may use, and which pairs are held out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch_geometric.data import Data

from graphvae.graphs import as_batch

_PARTS = ("message", "supervision", "val_edges", "val_non_edges", "test_edges", "test_non_edges")


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """A division of the pairs of nodes of one undirected graph. Pairs are `(2, P)` with row < column.

    Held-out pairs are disjoint from `message` and `supervision` and from each other; that is checked on construction.

    Attributes:
        num_nodes: Of the graph.
        message: Edges that the encoder sees, in training and in testing.
        supervision: Edges that a training objective may use as targets (by default the same as `message`).
        val_edges: Held out for model selection; val_non_edges: as many pairs that are not joined in the whole graph.
        test_edges: Held out for the result; test_non_edges: likewise.
        seed: That the split was drawn from; ratio: percentages of train, validation and test.
    """

    num_nodes: int
    message: Tensor = field(repr=False)
    supervision: Tensor = field(repr=False)
    val_edges: Tensor = field(repr=False)
    val_non_edges: Tensor = field(repr=False)
    test_edges: Tensor = field(repr=False)
    test_non_edges: Tensor = field(repr=False)
    seed: int
    ratio: tuple[int, int, int]

    def __post_init__(self) -> None:
        _check_ratio(self.ratio)
        keys = {part: _keys(getattr(self, part), self.num_nodes, part) for part in _PARTS}
        for part, values in keys.items():
            row, column = getattr(self, part)
            if values.unique().numel() != values.numel() or bool((row > column).any()):
                raise ValueError(f"'{part}' must hold every pair once, with row < column")
        held_out = _PARTS[2:]
        for position, part in enumerate(held_out):
            for other in ("message", "supervision", *held_out[:position]):
                shared = int(torch.isin(keys[part], keys[other]).sum())
                if shared:
                    raise ValueError(f"'{part}' and '{other}' must be disjoint, they share {shared} pairs")

    @classmethod
    def random(cls, graph: Data, ratio: tuple[int, int, int] = (85, 5, 10), seed: int = 0) -> LinkSplit:
        """Splits the unordered pairs of `graph` uniformly at random; the same seed gives the same split.

        Raises:
            ValueError: `graph` is not a simple undirected graph, `ratio` does not add to 100, or there are too few
                edges or non-edges.
        """
        _check_ratio(ratio)
        batch = as_batch(graph)
        if batch.layout.num_graphs != 1:
            raise ValueError(f"'graph' must be one graph, got a batch of {batch.layout.num_graphs}")
        num_nodes = batch.layout.num_rows
        edges = batch.edge_index[:, batch.edge_index[0] < batch.edge_index[1]].cpu()
        edges = edges[:, (edges[0] * num_nodes + edges[1]).argsort()]
        held_out = [edges.size(1) * share // 100 for share in ratio[1:]]
        if min(held_out) == 0:
            raise ValueError(
                f"'graph' must have enough edges to hold out {ratio[1]} % and {ratio[2]} %, got {edges.size(1)} edges"
            )
        generator = torch.Generator().manual_seed(seed)
        edges_shuffled = edges[:, torch.randperm(edges.size(1), generator=generator)]
        test, val, train = edges_shuffled.split([held_out[1], held_out[0], edges.size(1) - sum(held_out)], 1)
        absent = _non_edges(edges, num_nodes, sum(held_out), generator)
        test_absent, val_absent = absent.split([held_out[1], held_out[0]], 1)
        return cls(num_nodes, train, train, val, val_absent, test, test_absent, seed, ratio)

    def graph(self, data: Data) -> Data:
        """What the encoder may see: the features of `data` and the message edges, in both directions.

        Raises:
            ValueError: `data` is not the graph of this split.
        """
        self._check_whole(data)
        message = self.message.to(data.edge_index.device)
        return Data(x=data.x, edge_index=torch.cat([message, message.flip(0)], 1), num_nodes=self.num_nodes)

    def held_out(self, part: str) -> tuple[Tensor, Tensor]:
        """Edges and non-edges of "val" or "test"."""
        if part not in ("val", "test"):
            raise ValueError(f"'part' must be val or test, got {part}")
        return getattr(self, f"{part}_edges"), getattr(self, f"{part}_non_edges")

    def _check_whole(self, data: Data) -> None:
        if data.num_nodes != self.num_nodes:
            raise ValueError(f"'data' must have the {self.num_nodes} nodes of this split, got {data.num_nodes}")
        present = self.keys(data.edge_index.cpu())
        edges = torch.cat([self.message, self.supervision, self.val_edges, self.test_edges], 1)
        absent = torch.cat([self.val_non_edges, self.test_non_edges], 1)
        lacking = int((~torch.isin(self.keys(edges), present)).sum())
        wrong = int(torch.isin(self.keys(absent), present).sum())
        if lacking or wrong:
            raise ValueError(
                f"'data' must be the graph of this split, got one without {lacking} of its edges and with {wrong} of "
                "its non-edges"
            )

    def refuse_leak(self, graphs: Data) -> None:
        """Checks that a graph that is to be encoded holds no held-out edge.

        Raises:
            ValueError: With the number of held-out edges it holds.
        """
        present = self.keys(graphs.edge_index.cpu())
        held_out = self.keys(torch.cat([self.val_edges, self.test_edges], 1))
        found = int(torch.isin(held_out, present).sum())
        if found:
            raise ValueError(f"'graphs' must not hold held-out edges, got {found}; encode split.graph(data)")

    def refuse_visible(self, pairs: Tensor) -> None:
        """Checks that no pair of `pairs` `(2, P)` is one the encoder has seen.

        Raises:
            ValueError: With the number of such pairs.
        """
        seen = torch.isin(self.keys(pairs.cpu()), self.keys(self.message))
        if bool(seen.any()):
            raise ValueError(f"'pairs' must not be in the message graph, {int(seen.sum())} are: their score is no test")

    def keys(self, pairs: Tensor) -> Tensor:
        """One integer per unordered pair of `(2, P)`."""
        return _keys(pairs, self.num_nodes, "pairs")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the split to one safetensors file."""
        tensors = {part: getattr(self, part).contiguous().clone() for part in _PARTS}
        facts = {"num_nodes": self.num_nodes, "seed": self.seed, "ratio": "/".join(map(str, self.ratio))}
        save_file(tensors, path, {name: str(value) for name, value in facts.items()})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LinkSplit:
        """Reads a split written by `save`, and checks it again.

        Raises:
            ValueError: The file is missing, is not a split, or leaks.
        """
        if not Path(path).is_file():
            raise ValueError(f"no file {path}; write one with LinkSplit.save")
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                tensors = {part: file.get_tensor(part) for part in _PARTS}
            first, second, third = (int(share) for share in facts["ratio"].split("/"))
            num_nodes, seed = int(facts["num_nodes"]), int(facts["seed"])
            return cls(num_nodes=num_nodes, seed=seed, ratio=(first, second, third), **tensors)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise ValueError(f"{path} is not a split written by LinkSplit.save ({error})") from error


def _check_ratio(ratio: tuple[int, int, int]) -> None:
    whole = len(ratio) == 3 and all(isinstance(share, int) for share in ratio)
    if not whole or min(ratio) <= 0 or sum(ratio) != 100:
        raise ValueError(f"'ratio' must be three positive whole percentages that add to 100, got {ratio}")


def _keys(pairs: Tensor, num_nodes: int, name: str) -> Tensor:
    """One integer per unordered pair; `name` is what a message calls `pairs`."""
    if pairs.dtype != torch.int64 or pairs.dim() != 2 or pairs.size(0) != 2:
        raise ValueError(f"'{name}' must be (2, P) of int64, got shape {tuple(pairs.shape)} of {pairs.dtype}")
    low, high = pairs.min(0).values, pairs.max(0).values
    wrong = ((low < 0) | (high >= num_nodes) | (low == high)).nonzero()
    if wrong.numel():
        pair = tuple(pairs[:, wrong[0, 0]].tolist())
        raise ValueError(f"'{name}' must join two different nodes of 0 to {num_nodes - 1}, got {pair}")
    return low * num_nodes + high


def _non_edges(edges: Tensor, num_nodes: int, count: int, generator: torch.Generator) -> Tensor:
    """`(2, count)` different pairs that are not in `edges` `(2, E)`, uniformly, with row < column."""
    pairs = num_nodes * (num_nodes - 1) // 2
    absent = pairs - edges.size(1)
    if absent < count:
        raise ValueError(f"'graph' must have {count} pairs of nodes that are not joined to hold out, got {absent}")
    taken = edges[0] * num_nodes + edges[1]
    if absent < pairs // 4:  # So dense that listing all pairs costs no more than the edges do.
        every = torch.triu_indices(num_nodes, num_nodes, 1)
        free = every[:, ~torch.isin(every[0] * num_nodes + every[1], taken)]
        return free[:, torch.randperm(free.size(1), generator=generator)[:count]]
    chosen = taken.new_empty(0)
    while chosen.numel() < count:
        ends = torch.randint(num_nodes, (2, 4 * count), generator=generator).sort(0).values
        keys = (ends[0] * num_nodes + ends[1])[ends[0] != ends[1]]
        keys = keys[~torch.isin(keys, taken)]
        chosen = _in_order_of_appearance(torch.cat([chosen, keys]))[:count]
    return torch.stack([chosen // num_nodes, chosen % num_nodes])


def _in_order_of_appearance(keys: Tensor) -> Tensor:
    """Drops repeats, keeping the first of each: `unique` alone would sort, and a cut of it would favour low keys."""
    values, inverse = keys.unique(return_inverse=True)
    first = torch.full_like(values, keys.numel()).scatter_reduce(
        0, inverse, torch.arange(keys.numel()), "amin", include_self=True
    )
    return keys[first.sort().values]
