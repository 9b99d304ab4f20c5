"""What the MMDs of generated graphs cost, against a loop over pairs of graphs as in GRAN's code; whole evaluations.

Usage: python benchmarks/17_graph_metrics/run.py [--rounds 7] [--pairs 1200] [--large 1024] [--root DIR]
Writes results/graph_metrics.json beside this file. One thread; process CPU time; planar from --root or GRAPHVAE_DATA.
The solver of the loop is pyemd where it is installed, else scipy's linear programming.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, kron, vstack
from scipy.spatial import Delaunay
from scipy.stats import wasserstein_distance
from torch_geometric.data import Data

from graphvae.datasets.small import small_graphs
from graphvae.evaluation.graphs import (
    EARTH_MOVERS,
    TOTAL_VARIATION,
    GraphStatistics,
    Kernels,
    discrepancies,
    evaluate,
    graph_statistics,
    planar,
)
from graphvae.evaluation.graphs.kernels import mmd
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
NAMES = GraphStatistics._fields
SCALES = {"degree": 1.0, "clustering": 0.1, "orbit": 30.0, "spectral": 1.0}
Histogram = np.ndarray[Any, Any]
Distance = Callable[[Histogram, Histogram], float]


def program(x: Histogram, y: Histogram, costs: Histogram) -> float:
    """The transport problem as a linear program, sparse."""
    n = len(x)
    ones = csr_array(np.ones((1, n)))
    sums = vstack([kron(eye_array(n), ones), kron(ones, eye_array(n))])
    return float(linprog(costs.ravel(), A_eq=sums, b_eq=np.concatenate([x, y]), method="highs").fun)


def solver() -> tuple[str, Callable[[Histogram, Histogram, Histogram], float]]:
    """The name of what solves the transport problem of a pair, given the matrix of distances, and the function."""
    try:
        from pyemd import emd

        return f"pyemd {version('pyemd')}", emd
    except (ImportError, PackageNotFoundError):
        return "scipy.optimize.linprog", program


def fitted(x: Histogram, y: Histogram) -> tuple[Histogram, Histogram]:
    """As the loop does it for each pair: as floats, and of one length."""
    width = max(len(x), len(y))
    x, y = (np.hstack([h.astype(float), [0.0] * (width - len(h))]) for h in (x, y))
    return x, y


def distances(family: Kernels, solve: Callable[[Histogram, Histogram, Histogram], float]) -> dict[str, Distance]:
    """Of one pair, by statistic: what the loop calls."""

    def variation(x: Histogram, y: Histogram) -> float:
        x, y = fitted(x, y)
        return np.abs(x - y).sum() / 2

    def transport(x: Histogram, y: Histogram, bins: float = 1.0) -> float:
        places = np.arange(max(len(x), len(y)), dtype=float)
        x, y = fitted(x, y)
        return solve(x, y, np.abs(places[:, None] - places) / bins)

    def straight(x: Histogram, y: Histogram) -> float:
        x, y = fitted(x, y)
        return np.linalg.norm(x - y)

    if family is TOTAL_VARIATION:
        return dict.fromkeys(NAMES, variation)
    return {
        "degree": transport,
        "clustering": lambda x, y: transport(x, y, 100.0),
        "orbit": straight,
        "spectral": transport,
    }


def looped(x: list[Histogram], y: list[Histogram], distance: Distance, scale: float) -> float:
    """The V-statistic, pair by pair: all pairs within the sets, in both orders, and between them."""

    def mean(first: list[Histogram], second: list[Histogram]) -> float:
        total = 0.0
        for a in first:
            for b in second:
                d = distance(a, b)
                total += math.exp(-d * d / (2 * scale * scale))
        return total / (len(first) * len(second))

    return mean(x, x) + mean(y, y) - 2 * mean(x, y)


def rows_of(statistic: torch.Tensor, ragged: bool) -> list[Histogram]:
    """One array a graph; of degrees, as long as the largest degree of the graph, as networkx gives them."""
    rows = [row.numpy() for row in statistic]
    return [row[: int(row.nonzero()[0][-1]) + 1] for row in rows] if ragged else rows


def comparison(
    family: str, kernels: Kernels, sets: tuple[GraphStatistics, GraphStatistics], pairs: int, rounds: int
) -> list[dict[str, Any]]:
    """A row per statistic: the loop on some graphs, ours on all, in turn; and both on the same graphs.

    The time of the loop on all is that on some, times the number of pairs: the statistics of all graphs are alike.
    """
    name, solve = solver()
    given = distances(kernels, solve)
    few = max(2, math.isqrt(pairs // 3))
    found = []
    for statistic, kernel, x, y in zip(NAMES, kernels, *sets, strict=True):
        plain = [rows_of(part[:few], statistic == "degree") for part in (x, y)]
        loop = partial(looped, *plain, given[statistic], SCALES[statistic])
        timed = interleaved({"loop": loop, "ours": partial(mmd, kernel, x, y)}, rounds)
        slow, fast = (row["milliseconds"] for row in timed)
        slow *= (len(x) ** 2 + len(y) ** 2 + len(x) * len(y)) / (3 * few**2)
        found.append(
            {
                "kernels": family,
                "statistic": statistic,
                "graphs": [len(x), len(y)],
                "solver": name if kernels is EARTH_MOVERS and statistic != "orbit" else None,
                "loop_pairs": 3 * few**2,
                "loop_milliseconds": slow,
                "milliseconds": fast,
                "times_faster": slow / fast,
                "difference": abs(loop() - mmd(kernel, x[:few], y[:few])),
                "extra_mib": timed[1]["extra_mib"],
            }
        )
    return found


def totals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All four statistics of a family and number of graphs together."""
    found = []
    for key in dict.fromkeys((row["kernels"], tuple(row["graphs"])) for row in rows):
        own = [row for row in rows if (row["kernels"], tuple(row["graphs"])) == key]
        slow, fast = (sum(row[name] for row in own) for name in ("loop_milliseconds", "milliseconds"))
        found.append(
            {
                **own[0],
                "statistic": "all",
                "loop_milliseconds": slow,
                "milliseconds": fast,
                "times_faster": slow / fast,
                "difference": max(row["difference"] for row in own),
                "extra_mib": None,
            }
        )
    return found


def delaunay(count: int, seed: int, nodes: int = 64) -> list[Data]:
    """Triangulations of uniform points: the process that the planar data set comes from."""
    rng, graphs = np.random.default_rng(seed), []
    for _ in range(count):
        corners = Delaunay(rng.random((nodes, 2))).simplices
        pairs = np.unique(np.sort(corners[:, [[0, 1], [1, 2], [0, 2]]].reshape(-1, 2), 1), axis=0)
        edges = torch.from_numpy(np.concatenate([pairs, pairs[:, ::-1]])).long().T.contiguous()
        graphs.append(Data(edge_index=edges, num_nodes=nodes))
    return graphs


def seconds(run: Callable[[], object], rounds: int) -> float:
    """Median process CPU time."""
    times = []
    for _ in range(rounds):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return statistics.median(times)


def whole(name: str, samples: list[Data], test: list[Data], train: list[Data], rounds: int) -> dict[str, Any]:
    """Seconds of a full evaluation, and of its parts."""
    both = samples + test
    return {
        "evaluation": name,
        "graphs": [len(samples), len(test), len(train)],
        "seconds": seconds(lambda: evaluate(samples, test, train, planar), rounds),
        "statistics_seconds": seconds(lambda: graph_statistics(both), rounds),
        "statistics_networkx_seconds": seconds(lambda: networkx_statistics(both[:20]), rounds) * len(both) / 20,
    }


def networkx_statistics(graphs: list[Data]) -> None:
    """Degrees, clustering and spectrum, without orbits, as the code of GRAN gets them: graph by graph."""
    for graph in graphs:
        net = nx.Graph(graph.edge_index.T.tolist())
        nx.degree_histogram(net)
        np.histogram(list(nx.clustering(net).values()), bins=100, range=(0.0, 1.0))
        values = np.linalg.eigvalsh(nx.normalized_laplacian_matrix(net).toarray())
        np.histogram(values, bins=200, range=(-1e-5, 2))


def special_case(sets: tuple[GraphStatistics, GraphStatistics], rounds: int) -> float:
    """Microseconds a pair of scipy's distance for one dimension, which the published code does not use."""
    rows, places = sets[0].clustering[:20].numpy(), np.arange(100.0)

    def run() -> None:
        for a in rows:
            for b in rows:
                wasserstein_distance(places, places, a, b)

    return 1e6 * seconds(run, rounds) / len(rows) ** 2


def main() -> None:
    """Runs all settings and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, help="of graphs, in the loop; 1200, or 27 without pyemd")
    parser.add_argument("--large", type=int, default=1024, help="procedural graphs, generated and for testing")
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "graph_metrics.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pairs = arguments.pairs or (27 if solver()[1] is program else 1200)
    splits = small_graphs("planar", arguments.root)
    large = [delaunay(arguments.large, seed) for seed in (0, 1)]
    rows: list[dict[str, Any]] = []
    for sets in ((splits.train, splits.test), large):
        found = (graph_statistics(sets[0]), graph_statistics(sets[1]))
        for family, kernels in (("total variation", TOTAL_VARIATION), ("earth mover's", EARTH_MOVERS)):
            rows += comparison(family, kernels, found, pairs, arguments.rounds)
    rows += totals(rows)
    rows.append(whole("planar", splits.train[:40], splits.test, splits.train, arguments.rounds))
    rows.append(whole("procedural", *large, splits.train, rounds=3))
    protocol = {
        "data": f"planar (64 nodes), train against test; {arguments.large} against {arguments.large} Delaunay graphs",
        "rounds": arguments.rounds,
        "threads": 1,
        "time": "process CPU time, interleaved in one process, median over rounds; from histograms to the MMD",
        "loop": "over pairs as in GRAN: both sets in both orders and across; pads, casts and a matrix of distances "
        "a pair; timed on loop_pairs pairs and scaled to all",
        "difference": "between the MMDs of the pairs that the loop was run on",
        "one_dimension_microseconds": special_case((found[0], found[1]), arguments.rounds),
        "discrepancies": discrepancies(graph_statistics(splits.train), graph_statistics(splits.test)),
    }
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("benchmarks/17_graph_metrics", protocol, 0, rows), arguments.out)


if __name__ == "__main__":
    main()
