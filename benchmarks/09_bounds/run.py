"""How far every bound lies below the exact log-likelihood, on all graphs of 4 and of 5 nodes.

Usage: python benchmarks/09_bounds/run.py [--draws 200]
Writes results/bounds.json beside this file. No data needed; minutes on one core. The fixed-order decoder is trained for
a while on all the classes; then every bound is brought to one convention, log p([G]) of the isomorphism class, whose
exact value comes from quadrature over a latent of two dimensions and from all n! orders.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import networkx as nx
import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.utils import from_networkx

from graphvae import GraphVAE, as_batch, fit
from graphvae.bounds import image_bound, inner_bound, joint_bound, outer_bound, permutation_bound
from graphvae.conventions import Convention, convert
from graphvae.evaluation.likelihood import every_order, exact
from graphvae.orderings import BreadthFirst, Degree, Uniform
from graphvae.recipes.fixed_order import fixed_order_vae, with_degrees
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
POINTS, LATENT, HIDDEN, EPOCHS = 48, 2, 16, 300
Bound = Callable[[], Tensor]


def all_classes(num_nodes: int) -> Batch:
    """One graph of each isomorphism class."""
    atlas = [graph for graph in nx.graph_atlas_g() if graph.number_of_nodes() == num_nodes]
    return as_batch(with_degrees([from_networkx(g) for g in atlas], num_nodes - 1))


def trained(graphs: Batch, seed: int) -> GraphVAE:
    """A decoder that has learned an order for some graphs and not for others."""
    torch.manual_seed(seed)
    num_nodes = max(graphs.layout.host_sizes)
    model = fixed_order_vae(graphs.to_data_list(), num_nodes, hidden=HIDDEN, latent=LATENT)
    model.sizes = None

    def objective(model: GraphVAE, batch: Batch) -> Tensor:
        return permutation_bound(model, batch, BreadthFirst(), 4)

    fit(model, graphs, objective, epochs=EPOCHS, seed=seed, progress=False)
    return model.double()


def bounds(model: GraphVAE, graphs: Batch) -> Iterator[tuple[str, str, int, int, Convention, Bound]]:
    """Name, orderings, how many, particles, convention, and a draw."""
    every = every_order(graphs)
    summed, shared, classes = Convention.SUMMED, Convention.SYMMETRISED, Convention.ISOMORPHISM_CLASS

    def some(count: int) -> Tensor:
        return every[torch.randperm(len(every))[:count]]

    for count in (1, 8, len(every)):
        yield "outer", "uniform set", count, 1, summed, lambda c=count: outer_bound(model, graphs, some(c))
        yield "inner", "uniform set", count, 1, summed, lambda c=count: inner_bound(model, graphs, some(c))
        yield "image", "uniform set", count, 1, classes, lambda c=count: image_bound(model, graphs, some(c))
    yield "image", "uniform set", len(every), 64, classes, lambda: image_bound(model, graphs, every, 64)
    for name, orderings in (("uniform", Uniform()), ("degree", Degree()), ("breadth-first", BreadthFirst())):
        for count in (1, 8, 64):
            draw = lambda o=orderings, c=count: permutation_bound(model, graphs, o, c)  # noqa: E731
            yield "permutation", name, count, 1, shared, draw
    for count in (8, len(every)):
        draw = lambda c=count: permutation_bound(model, graphs, Uniform(), c, replace=False)  # noqa: E731
        yield "permutation, without replacement", "uniform", count, 1, shared, draw
    for count in (1, 8, 64, 512):
        draw = lambda c=count: joint_bound(model, graphs, Uniform(), c)  # noqa: E731
        yield "joint", "uniform", count, count, shared, draw


@torch.no_grad()
def rows(num_nodes: int, draws: int, seed: int) -> list[dict[str, object]]:
    """The mean gap of every bound over classes and draws, and that of the worst class."""
    graphs = all_classes(num_nodes)
    with torch.enable_grad():
        model = trained(graphs, seed)
    graphs = as_batch([graph.update({"x": graph.x.double()}) for graph in graphs.to_data_list()])
    target = exact(model, graphs, Convention.ISOMORPHISM_CLASS, points=POINTS)
    finer = exact(model, graphs, Convention.ISOMORPHISM_CLASS, points=POINTS + 16)
    found: list[dict[str, object]] = []
    for bound, orderings, count, particles, convention, draw in bounds(model, graphs):
        torch.manual_seed(seed)
        values = torch.stack([draw() for _ in range(draws)])
        gaps = convert(values, graphs, convention, Convention.ISOMORPHISM_CLASS) - target
        error = gaps.std(0).square().mean().div(draws * len(target)).sqrt()
        row = {"nodes": num_nodes, "classes": len(target), "bound": bound, "orderings": orderings, "count": count}
        row |= {
            "particles": particles,
            "bounds": convention.name.lower(),
            "gap": float(gaps.mean()),
            "error": float(error),
        }
        found.append(row | {"worst": float(gaps.mean(0).min()), "best": float(gaps.mean(0).max())})
    total = {"nodes": num_nodes, "exact_mean": float(target.mean()), "sum_over_classes": float(target.exp().sum())}
    return [*found, total | {"quadrature_error": float((finer - target).abs().max())}]


def main() -> None:
    """Runs both sizes and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "bounds.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for num_nodes in (4, 5) for row in rows(num_nodes, arguments.draws, arguments.seed)]
    protocol = {
        "draws": arguments.draws,
        "model": f"GIN 3 x {HIDDEN}, graph latent {LATENT}, MLP to places; trained {EPOCHS} epochs on all classes",
        "gap": "mean over classes and draws of the bound, as log p([G]), less the exact log p([G]), nats; float64",
        "exact": f"quadrature with {POINTS} points in each of {LATENT} dimensions, all n! orders, |Aut(G)| exact",
        "orders": f"of a set: distinct, anew in every draw; all are {math.factorial(4)} and {math.factorial(5)}",
    }
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("benchmarks/09_bounds", protocol, arguments.seed, found), arguments.out)


if __name__ == "__main__":
    main()
