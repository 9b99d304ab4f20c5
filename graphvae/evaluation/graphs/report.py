"""Generated graphs, judged: validity, uniqueness, novelty, discrepancies, and the rows that keep a table honest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch_geometric.data import Batch

from graphvae.evaluation.graphs.intervals import Interval, bootstrap, wilson
from graphvae.evaluation.graphs.kernels import TOTAL_VARIATION, Kernels, gram
from graphvae.evaluation.graphs.novelty import novelty, share_isomorphic
from graphvae.evaluation.graphs.random_gin import RandomGINScores, random_gin_scores
from graphvae.evaluation.graphs.statistics import GraphStatistics, graph_statistics
from graphvae.evaluation.graphs.validity import Predicate, any_graph
from graphvae.graphs import Graphs, Selector, as_batch

_LEVEL = 0.95


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        num_graphs: How many samples.
        valid: Share of the samples that the predicate accepts.
        unique: Share that is not isomorphic to an earlier sample.
        novel: Share that is not isomorphic to a training graph.
        vun: Share that is all three.
        mmd: Squared MMD by statistic: degree, clustering, orbit, spectral.
        random_gin: Scores in random features.
        intervals: 95% intervals by the names above and those of the statistics: Wilson's for shares, a bootstrap over
            graphs for MMDs.
    """

    num_graphs: int
    valid: float
    unique: float
    novel: float
    vun: float
    mmd: dict[str, float]
    random_gin: RandomGINScores
    intervals: dict[str, Interval]

    def row(self) -> dict[str, Any]:
        """As a row of a JSON result."""
        return {
            "num_graphs": self.num_graphs,
            "valid": self.valid,
            "unique": self.unique,
            "novel": self.novel,
            "vun": self.vun,
            "mmd": dict(self.mmd),
            "random_gin": self.random_gin._asdict(),
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
        }


def evaluate(
    samples: Graphs,
    reference: Graphs,
    train: Graphs,
    valid: Predicate = any_graph,
    kernels: Kernels = TOTAL_VARIATION,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> Evaluation:
    """Judges samples against test graphs and training graphs.

    All shares are of all samples. V.U.N. is the share that is valid, not isomorphic to an earlier sample and not to a
    training graph, as in DiGress and DeFoG.

    Args:
        samples: Generated: a PyG graph, batch or list. As they are; nothing is corrected or left out.
        reference: Test graphs.
        train: Training graphs, for novelty.
        valid: Of `validity`, or any function from graphs to `(B,)` bool.
        kernels: `TOTAL_VARIATION` or `EARTH_MOVERS`, whose values cannot be compared.
        resamples: Of the bootstrap; 0 for no intervals of MMDs.
        generator: Of the bootstrap, on the CPU; one with seed 0 if None.

    Raises:
        ValueError: The sets do not all have x, or edge types.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    batch, held_out = as_batch(samples), as_batch(reference)
    shares = _shares(batch, train, valid)
    total = batch.layout.num_graphs
    intervals = {name: wilson(count, total, _LEVEL) for name, count in shares.items()}
    mmd = {}
    statistics = graph_statistics(batch), graph_statistics(held_out)
    for name, kernel, x, y in zip(GraphStatistics._fields, kernels, *statistics, strict=True):
        found = gram(kernel, x, y)
        mmd[name] = float(found.mmd)
        if resamples:
            intervals[name] = bootstrap(found, resamples, _LEVEL, generator)
    return Evaluation(
        num_graphs=total,
        **{name: count / total for name, count in shares.items()},
        mmd=mmd,
        random_gin=random_gin_scores(batch, held_out),
        intervals=intervals,
    )


def _shares(samples: Batch, train: Graphs, valid: Predicate) -> dict[str, int]:
    accepted = valid(samples).cpu()
    unique, novel = novelty(samples, train)
    counts = {"valid": accepted, "unique": unique, "novel": novel, "vun": accepted & unique & novel}
    return {name: int(marked.sum()) for name, marked in counts.items()}


class Honesty(NamedTuple):
    """Rows to print beside those of models, each with its "method", and the share of test graphs that are in train."""

    rows: list[dict[str, Any]]
    test_in_train: float


def honesty(
    train: Graphs,
    test: Graphs,
    valid: Predicate = any_graph,
    kernels: Kernels = TOTAL_VARIATION,
    oracle: Callable[[int, torch.Generator], Graphs] | None = None,
    resamples: int = 1000,
    generator: torch.Generator | None = None,
) -> Honesty:
    """What a perfect memory and a perfect generator would score, without which no score can be read.

    Args:
        train: Training graphs. The whole set is one row, the one papers print; a draw without replacement of as many
            as there are test graphs is another, because MMDs fall with the number of graphs.
        test: Test graphs.
        valid: As in `evaluate`.
        kernels: As in `evaluate`.
        oracle: The process the data come from: takes a number of graphs and a generator, and gives that many.
        resamples: As in `evaluate`.
        generator: Of all draws, on the CPU; one with seed 0 if None.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    known, held_out = as_batch(train), as_batch(test)
    count, available = held_out.layout.num_graphs, known.layout.num_graphs
    drawn = torch.randperm(available, generator=generator)[:count]
    sets: dict[str, Graphs] = {"train set": known, "train set copied": Selector(known)(drawn)}
    if oracle is not None:
        sets["oracle"] = oracle(count, generator)
    rows = []
    for name, graphs in sets.items():
        found = evaluate(graphs, held_out, known, valid, kernels, resamples, generator)
        rows.append({"method": name, **found.row()})
    return Honesty(rows, share_isomorphic(held_out, known))
