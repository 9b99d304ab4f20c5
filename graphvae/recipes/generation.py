"""Generating small graphs: the sets, and how graphs that should be like them are judged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import torch
from torch_geometric.data import Batch, Data

from graphvae.datasets import oracle, small_graphs
from graphvae.datasets.small import GraphGenerator
from graphvae.evaluation import graphs as measures
from graphvae.evaluation.graphs import Kernels
from graphvae.evaluation.graphs.validity import Predicate
from graphvae.graphs import Graphs, Selector, as_batch, batch_of, layout_of_edges
from graphvae.recipes.comparison import Honesty, Row, Sampler, judged

_SHARES = ("valid", "unique", "novel", "vun")
RULES: dict[str, Predicate] = {
    "planar": measures.planar,
    "tree": measures.tree,
    "lobster": measures.lobster,
    "grid": measures.grid,
    "connected": measures.connected,
    "any": measures.any_graph,
}
_KINDS = ("planar", "tree", "lobster", "grid")  # Sets, also as NAME-procedural, whose graphs keep the rule so called.


@dataclass(frozen=True)
class GraphTask:
    """A set of small graphs in its parts, of which only the edges count, and how samples are judged.

    Attributes:
        name: Of the set.
        train: For training and for novelty.
        val: To choose the epoch by; if empty, a fifth of `train` is held out for it.
        test: What samples are compared with.
        rule: Which graphs are valid, of `RULES`.
        oracle: The process that the set was drawn from, if it is known.
        kernels: Of the discrepancies.
    """

    name: str
    train: list[Data]
    val: list[Data]
    test: list[Data]
    rule: str
    oracle: GraphGenerator | None = None
    kernels: Kernels = measures.TOTAL_VARIATION

    @property
    def shares(self) -> Sequence[str]:
        """Names in a row."""
        return _SHARES

    @property
    def size(self) -> int:
        """As many graphs as there are for testing."""
        return len(self.test)

    def evaluate(self, samples: Graphs, generator: torch.Generator) -> Row:
        """As `evaluation.graphs.evaluate`, with `ratios` to the training set as three papers mean it, without wavelets.

        Node features and types of edges are left out.
        """
        valid, kernels = RULES[self.rule], self.kernels
        edges_alone = structure(samples)
        row = measures.evaluate(edges_alone, self.test, self.train, valid, kernels, generator=generator).row()
        return row | {"ratios": _ratios(row["mmd"], self._of_train["mmd"])}

    def honesty(self, draws: int, size: int, seed: int) -> Honesty:
        """The training set whole, draws from it, draws from the process it is from; and what of the test set is in it.

        All but the first are drawn as the samples of a method are, because discrepancies fall with the number of
        graphs.
        """
        samplers: dict[str, Sampler] = {"train set copied": self._copied}
        if self.oracle is not None:
            samplers["oracle"] = partial(_from_oracle, self.oracle)
        known = self._of_train
        rows: list[Row] = [{"method": "train set", **known, "ratios": _ratios(known["mmd"], known["mmd"])}]
        rows += [{"method": name, **judged(found, self, draws, size, seed)[1]} for name, found in samplers.items()]
        return Honesty(rows, measures.share_isomorphic(self.test, self.train))

    def _copied(self, num_graphs: int, generator: torch.Generator) -> Batch:
        chosen = torch.randperm(len(self.train), generator=generator)[:num_graphs]
        return Selector(as_batch(self.train))(chosen)

    @cached_property
    def _of_train(self) -> Row:
        valid = RULES[self.rule]
        return measures.evaluate(self.train, self.test, self.train, valid, self.kernels).row()


def task(
    dataset: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    rule: str | None = None,
    kernels: Kernels = measures.TOTAL_VARIATION,
) -> GraphTask:
    """The task of generating graphs like those of a set, see `datasets.small_graphs`.

    Args:
        dataset: Name or path. Node features and types of edges are left out.
        root: Folder of data sets.
        rule: Which graphs are valid, of `RULES`; by default as `rule_of` says.
        kernels: Of the discrepancies.

    Raises:
        ValueError: No such set, rule, or no graphs for training or testing; or all pairs of nodes are joined in the
            training graphs, or none.
    """
    return trainable(task_of(os.fspath(dataset), *small_graphs(dataset, root), rule, kernels))


def task_of(
    name: str,
    train: Sequence[Data],
    val: Sequence[Data],
    test: Sequence[Data],
    rule: str | None = None,
    kernels: Kernels = measures.TOTAL_VARIATION,
) -> GraphTask:
    """The task of graphs at hand; arguments as for `task`, of which `name` decides what `rule` and oracle are."""
    for part, graphs in (("train", train), ("test", test)):
        if not graphs:
            raise ValueError(f"'{name}' must have graphs for training and for testing, it has none in '{part}'")
    train, val, test = ([_edges_alone(graph) for graph in part] for part in (train, val, test))
    rule = rule_of(name, train) if rule is None else rule
    if rule not in RULES:
        raise ValueError(f"'rule' must be one of {', '.join(RULES)}, got '{rule}'")
    return GraphTask(Path(name).stem, train, val, test, rule, oracle(name), kernels)


def trainable(found: GraphTask) -> GraphTask:
    """The task, if its training graphs have odds of an edge, at which every method starts.

    Raises:
        ValueError: All pairs of nodes are joined in the training graphs, or none.
    """
    train = as_batch(found.train)
    joined, pairs = train.edge_index.size(1) // 2, int(train.layout.num_pairs.sum())
    if not 0 < joined < pairs:
        edges = "no two nodes" if joined == 0 else f"all {pairs} pairs of nodes"
        raise ValueError(
            f"'{found.name}' must have both pairs of nodes that are joined and pairs that are not, {edges} are joined "
            "in its training graphs; there is nothing to learn but sizes, choose another set"
        )
    return found


def rule_of(name: str, train: Graphs) -> str:
    """Which graphs of a set are valid: planar, trees, lobsters or grids for the sets so called.

    Of other sets nothing is known but what can be seen: all graphs are valid, or, if all training graphs are connected,
    those that are connected.
    """
    kind = name.partition(":")[0].lower().replace("_", "-").removesuffix("-procedural")
    return kind if kind in _KINDS else "connected" if bool(measures.connected(train).all()) else "any"


def structure(graphs: Graphs) -> Batch:
    """The edges of graphs, without features and types, as a checked batch."""
    batch = as_batch(graphs)
    return batch_of(None, batch.edge_index, batch.layout, batch.directed, layout_of_edges(batch).ptr)


def _ratios(found: dict[str, float], train: dict[str, float]) -> dict[str, float]:
    ratios = (measures.hspectre_ratio, measures.defog_ratio, measures.autograph_ratio)
    return {ratio.__name__.removesuffix("_ratio"): ratio(found, train) for ratio in ratios}


def _edges_alone(graph: Data) -> Data:
    return Data(edge_index=graph.edge_index, num_nodes=graph.num_nodes)


def _from_oracle(source: GraphGenerator, num_graphs: int, generator: torch.Generator) -> Batch:
    return as_batch(source(num_graphs, generator))
