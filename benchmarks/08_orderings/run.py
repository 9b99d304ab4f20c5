"""What a training step costs with K orderings, against K = 1 and against a Python loop over the orderings.

Usage: python benchmarks/08_orderings/run.py [--rounds 9] [--root DIR]
Writes results/orderings.json beside this file. One thread; process CPU time; community_small from --root or
GRAPHVAE_DATA.
"""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Adam
from torch_geometric.data import Batch

from graphvae import GraphVAE, as_batch
from graphvae.bounds import inner_bound, joint_bound, outer_bound, permutation_bound
from graphvae.datasets.small import small_graphs
from graphvae.edges import InnerProduct, Positioned
from graphvae.encoders import NormalEncoder
from graphvae.graphs import density, permute
from graphvae.orderings import BreadthFirst, DepthFirst, Ordering, PlackettLuce, Uniform
from graphvae.priors import StandardNormal
from graphvae.recipes.fixed_order import fixed_order_vae, graph_network, with_degrees
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
COUNTS, GRAPHS, LATENT = (1, 4, 16, 64), 32, 16
Step = Callable[[], object]


def models(batch: Batch) -> dict[str, GraphVAE]:
    """A latent of the graph with a decoder to places; latents of nodes with an inner product that knows places."""
    torch.manual_seed(0)
    graphs, places = batch.to_data_list(), max(batch.layout.host_sizes)
    encoder = NormalEncoder(graph_network(graphs, 64), 64, LATENT)
    edges = Positioned(InnerProduct(density(graphs)), places, LATENT)
    return {
        "graph": fixed_order_vae(graphs, places),
        "node": GraphVAE(StandardNormal(LATENT), encoder, edges),
    }


def looped(model: GraphVAE, batch: Batch, orders: Tensor) -> Tensor:
    """The bound as it is written first: one ordering after another through encoder and decoder."""
    log_weights = []
    for order in orders:
        moved = permute(batch, order)
        q = model.posterior(moved)
        z = q.rsample()
        log_weights.append(model.log_likelihood(moved, z) + model.prior(q.layout).log_prob(z) - q.log_prob(z))
    return torch.stack(log_weights).logsumexp(0) - math.log(len(orders))


def step(model: GraphVAE, bound: Callable[[], Tensor], learned: Ordering | None = None) -> Step:
    """A training step: bound, gradient, Adam."""
    parameters = [*model.parameters(), *(learned.parameters() if learned else [])]
    optimizer = Adam(parameters, 1e-5)

    def run() -> None:
        optimizer.zero_grad()
        (-bound().mean()).backward()
        optimizer.step()

    return run


def variants(model: GraphVAE, latent: str, batch: Batch, count: int) -> dict[str, Step]:
    """What is timed for `count` orderings: given ones, and ones that are drawn in every step."""
    given = Uniform().sample(batch, count)
    learned = PlackettLuce(graph_network(batch.to_data_list(), 64), 64)
    found: dict[str, Step] = {"Python loop": step(model, lambda: looped(model, batch, given))}
    if latent == "graph":
        found["inner bound, orders given"] = step(model, lambda: inner_bound(model, batch, given))
    else:
        found["outer bound, orders given"] = step(model, lambda: outer_bound(model, batch, given))
        found["joint bound, uniform"] = step(model, lambda: joint_bound(model, batch, Uniform(), count))
    drawn = {"uniform": Uniform(), "breadth-first": BreadthFirst(), "depth-first": DepthFirst()}
    for name, orderings in drawn.items():
        found[f"permutation bound, {name}"] = step(
            model, lambda orderings=orderings: permutation_bound(model, batch, orderings, count)
        )
    if count > 1:
        bound = lambda: permutation_bound(model, batch, learned, count)  # noqa: E731
        found["permutation bound, learned"] = step(model, bound, learned)
    return found


def rows(latent: str, model: GraphVAE, batch: Batch, rounds: int) -> list[dict[str, object]]:
    """Milliseconds of each variant at each K, relative to its K = 1, and how many times as fast as the loop."""
    every = {f"{count}: {name}": run for count in COUNTS for name, run in variants(model, latent, batch, count).items()}
    found = []
    once: dict[str, float] = {}
    loop: dict[str, float] = {}
    for row in interleaved(every, rounds):
        count, _, name = str(row["variant"]).partition(": ")
        cost = float(row["milliseconds"])
        once.setdefault(name, cost)
        loop.setdefault(count, cost)  # The loop comes first.
        from_one = cost / once[name] if count != "1" and name in once and not name.endswith("learned") else None
        speed = None if name == "Python loop" else loop[count] / cost
        found.append(
            {"latent": latent, "orderings": int(count), **row, "variant": name, "of_one": from_one, "speed": speed}
        )
    return found


def main() -> None:
    """Runs all settings and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "orderings.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    train = small_graphs("community_small", arguments.root).train[:GRAPHS]
    batch = as_batch(with_degrees(train, 20))
    found = [
        row
        for latent, model in models(batch).items()
        for row in rows(latent, model, model.batch(batch), arguments.rounds)
    ]
    protocol = {
        "data": f"the first {GRAPHS} training graphs of community_small, 12 to 20 nodes",
        "rounds": arguments.rounds,
        "threads": 1,
        "time": "process CPU time, interleaved in one process, median over rounds; bound, gradient and Adam",
        "model": f"GIN 3 x 64; graph latent 8, MLP 256-256; or node latents {LATENT}, inner product with places",
        "of_one": "times the cost of the same variant with one ordering",
        "speed": "against the Python loop over the same number of orderings",
    }
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("benchmarks/08_orderings", protocol, 0, found), arguments.out)


if __name__ == "__main__":
    main()
