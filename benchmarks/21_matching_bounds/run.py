"""GraphVAE's matching bound beside bounds over orderings and the exact likelihood, on graphs of at most six nodes.

Usage: python benchmarks/21_matching_bounds/run.py [--seeds 0 1 2]
Writes one results/runs/OBJECTIVE_SEED.json beside this file for each run, which is not run again, then
results/atlas.json. One thread; the atlas comes with networkx.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Adam
from torch_geometric.data import Batch, Data

from graphvae import GraphVAE, fit
from graphvae.bounds import inner_bound, matching_bound, permutation_bound
from graphvae.conventions import Convention, convert
from graphvae.datasets.small import small_graphs
from graphvae.evaluation.likelihood import every_order, exact
from graphvae.order_sets import drawn_without_replacement
from graphvae.orderings import BreadthFirst, Uniform
from graphvae.recipes.fixed_order import with_degrees
from graphvae.recipes.measuring import measured
from graphvae.recipes.places import places_vae
from graphvae.recipes.reporting import document, write_json
from graphvae.recipes.seeded import seeded

RESULTS = Path(__file__).parent / "results"
NODES, LATENT, EPOCHS, BATCH, RATE, DRAWS, POINTS = 6, 2, 200, 20, 1e-3, 50, 48
OBJECTIVES: dict[str, Callable[[GraphVAE, Batch], Tensor]] = {
    "matching": matching_bound,
    "16 uniform orders": lambda model, graphs: permutation_bound(model, graphs, Uniform(), 16),
}


def judged(model: GraphVAE, graphs: Batch) -> dict[str, Tensor]:
    """Bounds on log p([G]) and its exact value, `(B,)` each, of graphs of one size."""
    every, source = every_order(graphs), torch.Generator().manual_seed(0)

    def some(count: int) -> Tensor:
        return drawn_without_replacement(Uniform()(graphs), graphs.layout, count, source)[0]

    summed: dict[str, Callable[[], Tensor]] = {
        "one order": lambda: inner_bound(model, graphs, some(1)),
        "matching": lambda: matching_bound(model, graphs),
        "16 orders": lambda: inner_bound(model, graphs, some(min(16, len(every)))),
        "all orders": lambda: inner_bound(model, graphs, every),
    }
    spread: dict[str, Callable[[], Tensor]] = {
        "16 uniform orders, importance-weighted": lambda: permutation_bound(model, graphs, Uniform(), 16),
        "16 breadth-first orders, importance-weighted": lambda: permutation_bound(model, graphs, BreadthFirst(), 16),
    }
    found = {name: (bound, Convention.SUMMED) for name, bound in summed.items()}
    found |= {name: (bound, Convention.SYMMETRISED) for name, bound in spread.items()}
    target, values = Convention.ISOMORPHISM_CLASS, {}
    for name, (bound, convention) in found.items():
        mean = torch.stack([bound() for _ in range(DRAWS)]).mean(0)
        values[name] = convert(mean.double(), graphs, convention, target)
    values["all orders, 500 latents"] = convert(
        inner_bound(model, graphs, every, particles=500, chunk=24).double(), graphs, Convention.SUMMED, target
    )
    values["exact, all places"] = exact(model, graphs, target, points=POINTS)
    values["exact, with two thirds of the points"] = exact(model, graphs, target, points=POINTS * 2 // 3)
    return values


@torch.no_grad()
def run(name: str, seed: int, train: list[Data], test: list[Data]) -> list[dict[str, object]]:
    """Trains with one objective, and judges by all bounds."""
    with seeded(seed):
        model = places_vae(train, LATENT, max_nodes=NODES)
    with measured(torch.device("cpu")) as cost, torch.enable_grad():
        settings = {"epochs": EPOCHS, "batch_size": BATCH, "optimizer": Adam(model.parameters(), RATE), "seed": seed}
        fit(model, train, OBJECTIVES[name], accelerator=Accelerator(cpu=True), **settings)
    parts = []
    with seeded(seed):
        for size in sorted({graph.num_nodes for graph in test}):
            parts.append(judged(model, model.batch([graph for graph in test if graph.num_nodes == size])))
    every = {bound: torch.cat([part[bound] for part in parts]) for bound in parts[0]}
    return [
        {"trained by": name, "seed": seed, "bound": bound, "nats": value.mean().item(), "seconds": cost["seconds"]}
        | {"share_below_exact": (value <= every["exact, all places"] + 1e-9).double().mean().item()}
        for bound, value in every.items()
    ]


def main() -> None:
    """Runs what has no result yet, and gathers all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = small_graphs(f"atlas-{NODES}")
    train, test = (with_degrees(part, NODES - 1) for part in (data.train, data.test))
    (arguments.out / "runs").mkdir(exist_ok=True, parents=True)
    rows = []
    for seed in arguments.seeds:
        for name in OBJECTIVES:
            path = arguments.out / "runs" / f"{name.replace(' ', '_')}_{seed}.json"
            if not path.exists():
                write_json(document("benchmarks/21_matching_bounds", {}, seed, run(name, seed, train, test)), path)
            made = json.loads(path.read_text())
            rows += [{"commit": made["commit"], **row} for row in made["rows"]]
            print(*rows[-len(made["rows"]) :], sep="\n", flush=True)
    protocol = {
        "data": f"connected graphs of 2 to {NODES} nodes in networkx's atlas: {len(train)} to train, {len(test)} to "
        "test, no two isomorphic",
        "model": f"recipes.places, latent {LATENT}, {NODES} places",
        "training": f"{EPOCHS} epochs, batch {BATCH}, Adam {RATE}; nothing is selected",
        "numbers": f"mean over test graphs of log p([G]) in nats; each bound is the mean of {DRAWS} draws of one "
        f"latent; orders are drawn uniformly, none twice; exact by quadrature, {POINTS}^2 points, and sum over places",
    }
    content = document("benchmarks/21_matching_bounds", protocol, arguments.seeds[0], rows)
    write_json(content, arguments.out / "atlas.json")


if __name__ == "__main__":
    main()
