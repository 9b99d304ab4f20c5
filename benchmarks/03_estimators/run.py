"""Estimates of log p(A | Z) against the exact sum: error, and cost, where scores are balanced and where calibrated.

Usage: python benchmarks/03_estimators/run.py [--root FOLDER] [--dataset NAME] [--repeats R] [--rounds R]
Writes results/DATASET.json beside this file. One thread; times are process CPU time, interleaved in one process.

Regimes, all in dimension 16:
* balanced: the Kipf-Welling objective, 200 epochs, no bias;
* calibrated: the unweighted exact likelihood, bias from the log-odds of the density on, an encoder, 300 epochs;
* free: the same with a free embedding (60 steps).

Gradients are those in the embedding. `value_std` and `gradient_error` are relative to the sum over all pairs and to the
norm of its gradient; `cosine` is with the exact gradient of the objective the regime is trained with (balanced: edges
weighted), which is small at the end of a training: a hard test.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch_geometric.utils import negative_sampling

from graphvae import GraphVAE, as_batch, fit
from graphvae.datasets import citation
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.estimates import Clustered, Quadratic, SampledPairs
from graphvae.graphs import density
from graphvae.objectives import kipf_welling, reconstruction
from graphvae.pairs import softplus
from graphvae.priors import StandardNormal
from graphvae.recipes.link_prediction import gcn
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
LATENT = 16
Embedding: TypeAlias = tuple[Tensor, nn.Module]
LogProb: TypeAlias = Callable[[Any, Tensor], Tensor]


def balanced(graph: Any) -> Embedding:
    """Latents and decoder of a VGAE trained on the weighted objective."""
    encoder = NormalEncoder(gcn(graph.x.size(1)), 32, LATENT)
    return _trained(graph, encoder, InnerProduct(0.5).requires_grad_(False), kipf_welling, 200)


def calibrated(graph: Any) -> Embedding:
    """Latents and decoder of an autoencoder trained on the exact likelihood."""
    return _trained(
        graph, PointEncoder(gcn(graph.x.size(1)), 32, LATENT), InnerProduct(density(graph)), reconstruction, 300
    )


def free(graph: Any) -> Embedding:
    """A free embedding trained on the exact likelihood."""
    edges = InnerProduct(density(graph))
    z = nn.Parameter(0.1 * torch.randn(graph.layout.num_rows, LATENT))
    optimizer = torch.optim.Adam([z, *edges.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        (-edges(z).log_prob(graph.edge_index) / graph.layout.num_pairs).sum().backward()
        optimizer.step()
    return z.detach().clone(), edges


def _trained(graph: Any, encoder: nn.Module, edges: Any, objective: Any, epochs: int) -> Embedding:
    model = GraphVAE(StandardNormal(LATENT), encoder, edges)
    fit(model, graph, objective, epochs=epochs, seed=0)
    return model.posterior(graph).mean.detach().clone(), edges


def exact_log_prob(edges: Any, edge_index: Tensor) -> Tensor:
    """Log p from all pairs."""
    return edges.log_prob(edge_index)


def pyg(edges: Any, edge_index: Tensor, num: int) -> Tensor:
    """Log p from PyG's negative sampling: edges computed, negatives weighted to their number."""
    nodes = edges.layout.num_rows
    negative = negative_sampling(edge_index, nodes, num)
    absent = (nodes * (nodes - 1) - edge_index.size(1)) / 2
    present = edges.edge_sum(softplus(-edges.logits(edge_index)), edge_index)
    return -present - absent * softplus(edges.logits(negative)).mean()


def estimators(num: int) -> dict[str, LogProb]:
    """By name; each draws `num` pairs, or ten times as many."""
    return {
        "exact": exact_log_prob,
        "PyG negative_sampling": lambda edges, edge_index: pyg(edges, edge_index, num),
        "uniform": SampledPairs(num),
        "quadratic control": SampledPairs(num, control=Quadratic()),
        "clustered": SampledPairs(num, proposal=Clustered()),
        "two hops + uniform": SampledPairs(num, 2),
        "two hops + clustered": SampledPairs(num, 2, Clustered()),
        "uniform, 10x": SampledPairs(10 * num),
        "quadratic control, 10x": SampledPairs(10 * num, control=Quadratic()),
        "two hops + uniform, 10x": SampledPairs(10 * num, 2),
        "two hops + clustered, 10x": SampledPairs(10 * num, 2, Clustered()),
    }


class Case:
    """A trained embedding with its exact gradient, against which estimates are held."""

    def __init__(self, graph: Any, embedding: Embedding, weight: float) -> None:
        self.graph, self.factor = graph, embedding[1].requires_grad_(False)
        self.z = embedding[0].requires_grad_()
        edges = self.factor(self.z)
        self.nats = float(edges.log_prob(graph.edge_index).detach() / graph.layout.num_pairs)
        scores = edges.logits(graph.edge_index)
        # What the objective has beyond log p: edges are weighted.
        heavier = edges.edge_sum((1 - weight) * softplus(-scores), graph.edge_index)
        self.extra = torch.autograd.grad(heavier.sum(), self.z)[0].double()
        every = self.factor(self.z).log_normalizer().sum()
        self.all_pairs = every.item()
        self.slope = torch.autograd.grad(every, self.z)[0].double()

    def gradient(self, log_prob: LogProb) -> tuple[float, Tensor]:
        """Log p and its gradient in the embedding."""
        value = log_prob(self.factor(self.z), self.graph.edge_index).sum()
        return value.item(), torch.autograd.grad(value, self.z)[0]

    def quality(self, log_prob: LogProb, repeats: int) -> dict[str, float]:
        """Bias in standard errors, of the value and of its gradient's mean; spread; agreement with the gradient."""
        exact, gradient = self.gradient(exact_log_prob)
        gradient = gradient.double()
        draws = [self.gradient(log_prob) for _ in range(repeats)]
        values = torch.tensor([value for value, _ in draws], dtype=torch.float64)
        found = torch.stack([g.double() for _, g in draws])
        errors = (found - gradient).flatten(1).norm(dim=1) / self.slope.norm()
        cosines = torch.cosine_similarity((self.extra + found).flatten(1), (self.extra + gradient).flatten()[None])
        mean_error = (found.mean(0) - gradient).norm() / self.slope.norm()
        spread = values.std().item()
        return {
            "bias_in_standard_errors": (values.mean().item() - exact) / max(spread / repeats**0.5, 1e-6 * abs(exact)),
            "value_std": spread / self.all_pairs,
            "gradient_error": errors.mean().item(),
            # About 1 if unbiased: the error of a mean of R gradients is that of one over the root of R.
            "gradient_bias": (mean_error / (errors.square().mean().sqrt() / repeats**0.5).clamp(min=1e-6)).item(),
            "cosine": cosines.mean().item(),
        }


def rows_of(regime: str, case: Case, repeats: int, rounds: int) -> list[dict[str, Any]]:
    """A row per estimator."""
    num = case.graph.edge_index.size(1)
    candidates = estimators(num)
    variants: dict[str, Callable[[], object]] = {
        name: lambda log_prob=log_prob: case.gradient(log_prob) for name, log_prob in candidates.items()
    }
    costs = interleaved(variants, rounds)
    baseline = next(cost["milliseconds"] for cost in costs if cost["variant"].startswith("PyG"))
    rows = []
    for cost in costs:
        name = cost["variant"]
        found = case.quality(candidates[name], 2 if name == "exact" else repeats)
        drawn = None if name == "exact" else num * (10 if name.endswith("10x") else 1)
        known = {"regime": regime, "nats_per_pair": case.nats, "estimator": name, "draws": drawn}
        rows.append(known | found | cost | {"time_over_pyg": cost["milliseconds"] / baseline})
    return rows


def main() -> None:
    """Trains, measures, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of the data sets")
    parser.add_argument("--dataset", default="cora")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)  # PyG's negative_sampling draws from it.
    graph = as_batch(citation(arguments.dataset, arguments.root))
    share = density(graph)
    rows = []
    for regime, train in {"balanced": balanced, "calibrated": calibrated, "free": free}.items():
        case = Case(graph, train(graph), (1 - share) / share if regime == "balanced" else 1.0)
        rows += rows_of(regime, case, arguments.repeats, arguments.rounds)
    protocol = {"dataset": arguments.dataset, "repeats": arguments.repeats, "rounds": arguments.rounds, "threads": 1}
    RESULTS.mkdir(exist_ok=True)
    write_json(document("03_estimators", protocol, 0, rows), RESULTS / f"{arguments.dataset}.json")


if __name__ == "__main__":
    main()
