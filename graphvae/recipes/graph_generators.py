"""Generators of small graphs: the methods, each one function of a task to what was fitted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch_geometric.data import Batch, Data

from graphvae.bounds import elbo, matching_bound, permutation_bound
from graphvae.conventions import Convention, convert
from graphvae.edge_distributions import BernoulliEdges
from graphvae.graphs import Selector, as_batch, batch_of, density
from graphvae.hierarchy import GraphLevelPrior, SharedMixture
from graphvae.layout import Layout
from graphvae.model import GraphVAE
from graphvae.objectives import WarmUp
from graphvae.orderings import BreadthFirst
from graphvae.pair_decoders import log_odds
from graphvae.priors import EmpiricalSizes
from graphvae.recipes.comparison import Fitted, Run, use_of_latents
from graphvae.recipes.fixed_order import fixed_order_vae, split
from graphvae.recipes.generation import GraphTask
from graphvae.recipes.node_latents import node_latent_vae, with_structure
from graphvae.recipes.places import places_vae
from graphvae.recipes.seeded import seeded
from graphvae.sources import epochs_of
from graphvae.training import Objective, Schedule, Validation, fit

STEPS = 600
LARGEST_MATCHED = 20
_WALKS = 8  # Return probabilities that encoders see.
_SMOOTHING = 1e-3  # Of sizes that were not seen, as a share of the graphs: rare in samples, possible in validation.
_ORDERS, _SCORED_ORDERS = 8, 32


def erdos_renyi(task: GraphTask, run: Run) -> Fitted:
    """Sizes as in the training set, and every pair joined with its density: what a model must beat."""
    sizes, bias = _sizes(task), torch.tensor(log_odds(density(task.train)))

    def edges(layout: Layout) -> BernoulliEdges:
        nothing = torch.zeros(layout.num_rows, 1)
        return BernoulliEdges(nothing, nothing, bias, layout)

    def sample(num_graphs: int, generator: torch.Generator) -> Batch:
        layout = Layout.of(sizes().sample(num_graphs, generator))
        return batch_of(None, edges(layout).sample(generator), layout)

    test = as_batch(task.test)
    log_p = sizes().log_prob(test.layout.sizes) + edges(test.layout).log_prob(test.edge_index)
    return Fitted(sample, numbers={"bound": log_p.mean().item()})


def graphvae(task: GraphTask, run: Run) -> Fitted:
    """GraphVAE of 2018 by matching (`recipes.places`): a latent of the graph, independent edges between places."""
    inputs = _Inputs(task)
    with seeded(run.seed):
        model = places_vae(inputs(task.train))
    return _trained(model, task, run, inputs, Plan(WarmUp(1, matching_bound), _matched, rate=1e-3))


def graphvae_bfs(task: GraphTask, run: Run) -> Fitted:
    """A latent of the graph, independent edges between places, trained over breadth-first orders of the nodes."""
    inputs = _Inputs(task)
    with seeded(run.seed):
        model = fixed_order_vae(inputs(task.train), _largest(task.train), BreadthFirst())
    return _trained(model, task, run, inputs, Plan(partial(_over_orders, num_orders=_ORDERS), _over_orders, rate=2e-3))


def node_latents(task: GraphTask, run: Run) -> Fitted:
    """Independent latents of the nodes, edges independent given them (`recipes.node_latents`)."""
    return _node_latents(task, run, lambda latent: None)


def node_mixture(task: GraphTask, run: Run) -> Fitted:
    """The same under a mixture: every graph is of one of 8 kinds, which differ in their shares of 16 kinds of nodes."""
    return _node_latents(task, run, lambda latent: SharedMixture(latent, components=8, groups=16))


def node_hierarchical(task: GraphTask, run: Run) -> Fitted:
    """The same under a latent of the graph, given which the nodes are independent."""
    return _node_latents(task, run, lambda latent: GraphLevelPrior(latent, graph_latent=16, components=8))


METHODS: dict[str, Callable[[GraphTask, Run], Fitted]] = {
    "erdos-renyi": erdos_renyi,
    "graphvae": graphvae,
    "graphvae-bfs": graphvae_bfs,
    "node-latents": node_latents,
    "node-mixture": node_mixture,
    "node-hierarchical": node_hierarchical,
}


def unsuitable(method: str, task: GraphTask) -> str | None:
    """Why a method is not for these graphs; None if it is."""
    largest = _largest(task.train)
    if method == "graphvae" and largest > LARGEST_MATCHED:
        return (
            f"graphvae, whose matching costs the cube of the number of nodes, is for at most {LARGEST_MATCHED}, and "
            f"{task.name} has graphs of {largest}; graphvae-bfs has no such limit"
        )
    return None


def _node_latents(task: GraphTask, run: Run, prior: Callable[[int], nn.Module | None], latent: int = 16) -> Fitted:
    inputs = _Inputs(task)
    with seeded(run.seed):
        model = node_latent_vae(inputs(task.train), prior(latent), latent=latent)
    return _trained(model, task, run, inputs, Plan(WarmUp(1), elbo, rate=3e-3))


@dataclass(frozen=True)
class Plan:
    """How a model is trained.

    Attributes:
        objective: What is maximised; a `WarmUp` gets the first third of the epochs.
        bound: On the symmetrised likelihood, in nats per graph: what chooses the epoch, and is reported.
        rate: Learning rate.
        batch_size: Graphs in a step.
    """

    objective: Objective | WarmUp
    bound: Objective
    rate: float
    batch_size: int = 32

    def during(self, epochs: int) -> Objective | Schedule:
        """The objective of a training of so many epochs."""
        if not isinstance(self.objective, WarmUp):
            return self.objective
        return WarmUp(max(1, epochs // 3), self.objective.objective)


class _Inputs:
    """What encoders see of a bare graph: degrees up to the largest of the training set, and random walks' returns."""

    def __init__(self, task: GraphTask) -> None:
        batch = as_batch(task.train)
        self._largest = int(torch.bincount(batch.edge_index[0], minlength=1).max())

    def __call__(self, graphs: Sequence[Data]) -> list[Data]:
        return with_structure(graphs, self._largest, steps=_WALKS)


def _trained(model: GraphVAE, task: GraphTask, run: Run, inputs: _Inputs, plan: Plan) -> Fitted:
    """Trains to the epoch of the best bound on validation graphs."""
    model.sizes = None if model.decoder is not None else _sizes(task)
    # Isomorphic graphs stay together, lest copies of the training graphs choose the epoch.
    train, val = (task.train, task.val) if task.val else split(task.train, len(task.train) // 5, run.seed)
    held_out, test = (_inside(part, task, inputs) for part in (val, task.test))
    epochs = epochs_of(run.steps or STEPS, len(train), plan.batch_size)

    def score(model: GraphVAE) -> float:
        return _mean_bound(plan.bound, model, held_out, run.seed)

    history = fit(
        model,
        Selector(as_batch(inputs(train))),
        plan.during(epochs),
        epochs=epochs,
        batch_size=plan.batch_size,
        optimizer=Adam(model.parameters(), plan.rate),
        validation=Validation(score, every=max(1, epochs // 20)) if held_out else None,
        seed=run.seed,
        progress=run.progress,
        accelerator=run.accelerator,
    )
    numbers = {"epochs": epochs, "best_epoch": history.best_epoch, "bound": -math.inf}
    if len(test) == len(task.test):
        numbers["bound"] = _mean_bound(plan.bound, model, test, run.seed)
    return Fitted(model.sample, model, numbers | use_of_latents(model, test or inputs(task.train), run.seed))


def _inside(graphs: Sequence[Data], task: GraphTask, inputs: _Inputs) -> list[Data]:
    """Those that are no larger than all training graphs, whose probability is zero and for whom there is no place."""
    largest = _largest(task.train)
    kept = [graph for graph in graphs if int(graph.num_nodes or 0) <= largest]
    return inputs(kept) if kept else []


@torch.no_grad()
def _mean_bound(bound: Objective, model: GraphVAE, graphs: Sequence[Data], seed: int) -> float:
    with seeded(seed, scoring=True):
        return bound(model, model.batch(graphs)).mean().item()


def _over_orders(model: GraphVAE, graphs: Batch, num_orders: int = _SCORED_ORDERS) -> Tensor:
    return permutation_bound(model, graphs, BreadthFirst(), num_orders)


def _matched(model: GraphVAE, graphs: Batch) -> Tensor:
    """The matching bound on the symmetrised likelihood, which those of the other methods are bounds on."""
    return convert(matching_bound(model, graphs), graphs, Convention.SUMMED, Convention.SYMMETRISED)


def _sizes(task: GraphTask) -> EmpiricalSizes:
    sizes = [int(graph.num_nodes or 0) for graph in task.train]
    return EmpiricalSizes(sizes, _SMOOTHING * len(sizes) / max(sizes))


def _largest(graphs: Sequence[Data]) -> int:
    return max(int(graph.num_nodes or 0) for graph in graphs)
