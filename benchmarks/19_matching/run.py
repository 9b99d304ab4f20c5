"""Max-pooling matching: the factorised form on a batch, against loops over the nodes and places of one graph.

Usage: python benchmarks/19_matching/run.py [--quick]
Writes results/cpu.json beside this file; where there is a CUDA GPU, results/DEVICE.json, without the loops. One thread,
process CPU time, variants interleaved in one process. --quick: one round, and no loops at k = 20.

The loops do what the widely used public code does for each graph (github.com/JiaxuanYou/graph-generation, in
baselines/graphvae): fill a tensor of k⁴ similarities entry by entry, then update the assignment of each node and place
in turn. At k = 38 they are timed in part: the similarities of one node and one update, times 38 and 75.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graphvae.matching import degree_similarity, max_pooling_matching, rounded
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
SEED, ROUNDS, BATCH, ITERATIONS = 0, 7, 128, 75
PLACES = (9, 20, 38)
WHOLE = 20  # The most places at which the loops run to their end.
SHARES = (0.8, 0.15, 0.05)  # Of single, double and triple bonds.


def graphs(places: int, types: int) -> Tensor:
    """`(B, T, k, k)` random trees of k nodes with k / 4 edges more, as sparse as molecules."""
    generator = torch.Generator().manual_seed(SEED)
    shares = torch.tensor(SHARES[:types] if types > 1 else [1.0])
    adjacency = torch.zeros(BATCH, types, places, places)
    for graph in adjacency:
        parents = [(i, int(torch.randint(i, (), generator=generator))) for i in range(1, places)]
        more = torch.randint(places, (places // 4, 2), generator=generator).tolist()
        for i, j in parents + [(i, j) for i, j in more if i != j and not graph[:, i, j].any()]:
            t = int(shares.multinomial(1, generator=generator))
            if not graph[:, i, j].any():
                graph[t, i, j] = graph[t, j, i] = 1
    return adjacency


def problem(places: int, types: int = 1) -> dict[str, Tensor]:
    """The arguments of the matching: graphs, and a decoder with random logits about as sparse as they are."""
    adjacency, generator = graphs(places, types), torch.Generator().manual_seed(SEED + 1)
    logits = torch.randn(BATCH, types + 1, places, places, generator=generator)
    logits[:, 0] += torch.tensor(places / 2).log()
    edges = (logits + logits.mT).softmax(1)[:, 1:].contiguous()
    existence = torch.randn(BATCH, places, generator=generator).add(2).sigmoid()
    own = degree_similarity(adjacency, existence, edges)
    mask = torch.ones(BATCH, places, dtype=torch.bool)
    return {"adjacency": adjacency, "node_similarity": own, "existence": existence, "edges": edges, "mask": mask}


def loop_similarities(adjacency: Tensor, own: Tensor, taken: Tensor, edges: Tensor, nodes: range) -> Tensor:
    """S `(k, k, k, k)` of one untyped graph, for the first index in `nodes`."""
    k = len(taken)
    similarities = torch.zeros(k, k, k, k)
    for i in nodes:
        for j in range(k):
            for a in range(k):
                if i == j:
                    similarities[i, i, a, a] = adjacency[i, i] * taken[a] * own[i, a]
                    continue
                for b in range(k):
                    if a != b:
                        pair = adjacency[i, j] * adjacency[i, i] * adjacency[j, j]
                        similarities[i, j, a, b] = pair * edges[a, b] * taken[a] * taken[b]
    return similarities


def loop_updates(similarities: Tensor, iterations: int) -> Tensor:
    """`iterations` updates of a uniform assignment, one node and place after another."""
    k = len(similarities)
    x = torch.full((k, k), 1 / k)
    for _ in range(iterations):
        updated = torch.zeros(k, k)
        for i in range(k):
            for a in range(k):
                total = x[i, a] * similarities[i, i, a, a]
                for j in range(k):
                    if j != i:
                        total = total + torch.max(x[j] * similarities[i, j, a])
                updated[i, a] = total
        x = updated / torch.norm(updated)
    return x


def loops(given: dict[str, Tensor], number: int = 0) -> Callable[[], Tensor]:
    """The loops on one graph of the batch, to their end; nodes are marked on the diagonal of its adjacency matrix."""
    adjacency, own, taken, edges = one_graph(given, number)

    def run() -> Tensor:
        return loop_updates(loop_similarities(adjacency, own, taken, edges, range(len(taken))), ITERATIONS)

    return run


def one_graph(given: dict[str, Tensor], number: int) -> tuple[Tensor, ...]:
    """Of one untyped graph: its matrix with ones on the diagonal, node similarity, existence and edge probabilities."""
    names = ("adjacency", "node_similarity", "existence", "edges")
    adjacency, own, taken, edges = (given[name][number] for name in names)
    return adjacency[0] + torch.eye(len(taken)), own, taken, edges[0]


def parts(given: dict[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """One k-th of the loop over similarities, and one of the updates."""
    adjacency, own, taken, edges = one_graph(given, 0)
    pairs = edges * taken * taken[:, None] * (1 - torch.eye(len(taken)))
    similarities = (adjacency - torch.eye(len(taken)))[:, :, None, None] * pairs
    return {
        "similarities of one node": lambda: loop_similarities(adjacency, own, taken, edges, range(1)),
        "one update": lambda: loop_updates(similarities, 1),
    }


def difference(given: dict[str, Tensor], number: int = 0) -> float:
    """The largest between an assignment by the loops and ours, both in this precision."""
    return (loops(given, number)() - max_pooling_matching(**given, iterations=ITERATIONS)[number]).abs().max().item()


def batched(given: dict[str, Tensor]) -> dict[str, Callable[[], Tensor]]:
    """Our two steps."""
    scores = max_pooling_matching(**given, iterations=ITERATIONS)
    return {
        "matching": lambda: max_pooling_matching(**given, iterations=ITERATIONS),
        "rounding": lambda: rounded(scores, given["mask"]),
    }


def untyped(places: int, rounds: int, with_loops: bool) -> list[dict[str, Any]]:
    """Rows of the loops and of ours at one number of places; milliseconds are per graph."""
    given = problem(places)
    variants = batched(given)
    if with_loops:
        variants |= {"loops": loops(given)} if places <= WHOLE else parts(given)
    found = {row["variant"]: row for row in interleaved(variants, rounds)}
    rows = [_ours(found[name], places, 1) for name in ("matching", "rounding")]
    if with_loops:
        times = (found[name]["milliseconds"] for name in variants if name not in ("matching", "rounding"))
        loop = sum(
            t * repeats for t, repeats in zip(times, [1] if places <= WHOLE else [places, ITERATIONS], strict=True)
        )
        rows[0] |= {"times_faster": loop / rows[0]["milliseconds"]}
        row = {"variant": "loops", "places": places, "types": 1, "graphs": 1, "milliseconds": loop}
        rows.append(
            row | {"extrapolated": places > WHOLE, "parts": [found[name] for name in variants if name in found][2:]}
        )
    if with_loops and places <= WHOLE:
        rows[0]["difference"] = difference(given)
    return rows


def _ours(row: dict[str, Any], places: int, types: int) -> dict[str, Any]:
    common = {"places": places, "types": types, "graphs": BATCH}
    per_graph = {"milliseconds": row["milliseconds"] / BATCH}
    return row | common | per_graph | {"all_milliseconds": [t / BATCH for t in row["all_milliseconds"]]}


def typed(places: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of ours with three types of edges."""
    return [_ours(row, places, len(SHARES)) for row in interleaved(batched(problem(places, len(SHARES))), rounds)]


def on_gpu(rounds: int) -> list[dict[str, Any]]:
    """Ours on a GPU: time by CUDA events, per graph; agreement with the CPU."""
    rows = []
    for places in PLACES:
        for types in (1, len(SHARES)):
            given = problem(places, types)
            there = {name: tensor.cuda() for name, tensor in given.items()}
            found, times = max_pooling_matching(**there, iterations=ITERATIONS), []
            for _ in range(rounds):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                max_pooling_matching(**there, iterations=ITERATIONS)
                end.record()
                torch.cuda.synchronize()
                times.append(start.elapsed_time(end) / BATCH)
            error = (found.cpu() - max_pooling_matching(**given, iterations=ITERATIONS)).abs().max().item()
            row = {"variant": "matching, GPU", "places": places, "types": types, "graphs": BATCH, "difference": error}
            rows.append(row | {"milliseconds": sorted(times)[len(times) // 2], "all_milliseconds": times})
    return rows


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, and no loops at k = 20")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    RESULTS.mkdir(exist_ok=True)
    rounds = 1 if quick else ROUNDS
    protocol = {"rounds": rounds, "threads": 1, "time": "process CPU time per graph, median", "iterations": ITERATIONS}
    protocol |= {"batch": BATCH, "dtype": "float32", "graphs": "random trees with k / 4 more edges, k nodes"}
    if torch.cuda.is_available():
        protocol |= {"time": "CUDA events, median", "device": torch.cuda.get_device_name()}
        name, rows = re.sub(r"\W+", "-", torch.cuda.get_device_name()).lower(), on_gpu(rounds)
    else:
        name = "cpu"
        rows = [row for k in PLACES for row in untyped(k, rounds, with_loops=not (quick and k == WHOLE))]
        rows += [row for k in PLACES for row in typed(k, rounds)]
    write_json(document(f"benchmarks/19_matching/run.py ({name})", protocol, SEED, rows), RESULTS / f"{name}.json")


if __name__ == "__main__":
    main()
