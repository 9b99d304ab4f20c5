"""Estimators of the gradient of an expectation over latents: bias, variance, and what training by each comes to.

Usage: python benchmarks/12_gradients/run.py [--copies C] [--epochs E] [--seeds S]
Writes results/gradients.json beside this file. One thread; times are process CPU time, interleaved in one process.

* distance: f(z) = |z - 1|², z ~ N(0, 0.25 I) in d dimensions; wave: f(z) = sin(kz), z ~ N(0, 1). Gradients in the
  mean, known exactly.
* vector, graph: the ELBO of a random model, and its bound from 4 samples, with 4 bits for a binary vector, or 2 bits
  for each of 6 nodes; gradients in the logits of q, held against the sum over all codes (all 4-tuples of codes).
* digits: 6 bits for each of scikit-learn's digits, made binary, trained by each estimator; exact ELBO and log p of the
  held-out digits, from all 64 codes.

`bias` is the distance of the mean gradient from the exact one, `bias_error` the length that noise alone gives it.
Every estimator has as many draws as its row says.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from torch_geometric.data import Batch, Data
from torch_geometric.nn import GCN

from graphvae import GraphVAE, as_batch, edgeless, elbo, fit, importance_bound
from graphvae.backbones import Nodewise
from graphvae.bounds import Gradient, expected_elbo
from graphvae.distributions import PerGraph
from graphvae.edges import InnerProduct
from graphvae.encoders import BernoulliEncoder, NormalEncoder
from graphvae.evaluation.likelihood import enumerated
from graphvae.expectations import Enumeration, Expectation, Pathwise, Relaxation, ScoreFunction, codes, log_probs
from graphvae.features import BernoulliFeatures, FixedScale, GaussianFeatures
from graphvae.graphs import copies
from graphvae.layout import Layout
from graphvae.objectives import relaxed
from graphvae.priors import BernoulliPrior, StandardNormal
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
DRAWS = 4
BITS = 6
Objective: TypeAlias = Callable[[GraphVAE, Any], Tensor]


def spread(found: Tensor, exact: Tensor) -> dict[str, float]:
    """Bias and variance of `(C, D)` gradients."""
    variance = float(found.var(0).sum())
    return {
        "exact_norm": float(exact.norm()),
        "total_variance": variance,
        "bias": float((found.mean(0) - exact).norm()),
        "bias_error": (variance / len(found)) ** 0.5,
    }


def of_normal(expectation: Expectation, f: Callable[[Tensor], Tensor], d: int, scale: float, count: int) -> Tensor:
    """`(count, d)` gradients in the mean of a normal distribution."""
    loc = torch.zeros(count, d, requires_grad=True)
    q = PerGraph(Normal(loc, scale, validate_args=False), Layout.singles(count))
    return torch.autograd.grad(expectation(q, f).sum(), loc)[0]


def normal_rows(count: int) -> list[dict[str, Any]]:
    """Pathwise against score function where one is better, and where the other is."""
    problems: list[tuple[str, int, int, float, Callable[[Tensor], Tensor], float]] = [
        ("distance", d, d, 0.5, lambda z: ((z - 1) ** 2).sum(-1), -2.0) for d in (1, 10, 100)
    ]
    for k in (1, 2, 5, 10, 20):
        problems.append(("wave", k, 1, 1.0, lambda z, k=k: torch.sin(k * z).sum(-1), k * math.exp(-(k**2) / 2)))
    ways: dict[str, tuple[int, Expectation]] = {
        "pathwise": (1, Pathwise()),
        "score function": (1, ScoreFunction(1, baseline=None)),
        "score function, mean of others": (DRAWS, ScoreFunction(DRAWS)),
    }
    rows = []
    for problem, size, d, scale, f, exact in problems:
        for name, (draws, expectation) in ways.items():
            found = of_normal(expectation, f, d, scale, count)
            row = {"problem": problem, "size": size, "estimator": name, "draws": draws}
            rows.append(row | spread(found, torch.full((d,), exact)))
    return rows


class Given(nn.Module):
    """Bits of given logits, whatever the data."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor, edge_index: Tensor, layout: Layout | None = None) -> PerGraph:
        """Their distribution."""
        return PerGraph(Bernoulli(logits=self.logits, validate_args=False), layout)


def random_weights(model: GraphVAE) -> GraphVAE:
    """The model with weights large enough for the bits to matter."""
    for parameter in model.parameters():
        parameter.data.normal_(std=0.7)
    return model


def of_vector() -> tuple[GraphVAE, Batch]:
    """Four bits for one binary vector."""
    features = BernoulliFeatures(Nodewise(nn.Sequential(nn.Linear(4, 8), nn.Tanh())), 8, 16)
    model = random_weights(GraphVAE(BernoulliPrior(4), Given(torch.empty(0)), None, features))
    model.encoder = Given(0.5 * torch.randn(1, 4))
    return model, edgeless(torch.bernoulli(torch.full((1, 16), 0.5)))


def of_graph() -> tuple[GraphVAE, Batch]:
    """Two bits for each node of a prism: two triangles, joined corner to corner."""
    pairs = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (0, 3), (1, 4), (2, 5)]
    edge_index = torch.tensor([*pairs, *((j, i) for i, j in pairs)]).T.contiguous()
    features = GaussianFeatures(GCN(2, 8, 1), 8, 3, FixedScale(1.0))
    edges = InnerProduct(0.5, nn.Linear(2, 4))
    model = random_weights(GraphVAE(BernoulliPrior(2), Given(torch.empty(0)), edges, features))
    model.encoder = Given(0.5 * torch.randn(6, 2))
    return model, as_batch(Data(x=torch.randn(6, 3), edge_index=edge_index))


def of_bits(model: GraphVAE, graph: Batch, objective: Objective, count: int) -> Tensor:
    """`(count, D)` gradients in all logits, from copies of the graph, some thousand at a time."""
    logits, found = model.encoder.logits, []
    for part in torch.arange(count).split(1000):
        model.encoder = Given(logits.repeat(len(part), 1).requires_grad_())
        value = objective(model, copies(model.batch(graph), len(part))).sum()
        found.append(torch.autograd.grad(value, model.encoder.logits)[0].view(len(part), -1))
    model.encoder = Given(logits)
    return torch.cat(found)


def from_tuples(model: GraphVAE, graphs: Batch) -> Tensor:
    """The exact bound from `DRAWS` samples: over all tuples of codes."""
    q = model.posterior(graphs)
    z = codes(q)[0]
    log_q = log_probs(q, z)[:, 0]
    log_w = model.log_likelihood(copies(graphs, len(z)), z.flatten(0, 1)).view(len(z))
    log_w = log_w + log_probs(model.prior(q.layout), z)[:, 0] - log_q
    which = torch.cartesian_prod(*[torch.arange(len(z))] * DRAWS)
    return (log_q[which].sum(1).exp() * (log_w[which].logsumexp(1) - math.log(DRAWS))).sum()[None]


def ways_of_bits() -> dict[str, Objective]:
    """By name, all with `DRAWS` draws: of the ELBO, then of the bound from several samples."""
    of_elbo = {
        "score function": ScoreFunction(DRAWS, baseline=None),
        "score function, mean of others": ScoreFunction(DRAWS),
    }
    ways: dict[str, Objective] = {name: partial(expected_elbo, expectation=e) for name, e in of_elbo.items()}
    for temperature in (2.0, 1.0, 0.5, 0.1):
        ways[f"relaxation, T = {temperature}"] = partial(relaxed, relaxation=Relaxation(temperature, DRAWS))
    straight = Relaxation(1.0, DRAWS, straight_through=True)
    return ways | {"relaxation, T = 1.0, straight through": partial(relaxed, relaxation=straight)}


def multi_sample_ways() -> dict[str, Objective]:
    """By name, of the bound from `DRAWS` samples."""
    return {
        "VIMCO": partial(importance_bound, particles=DRAWS, gradient=Gradient.VIMCO),
        "leave one out": partial(importance_bound, particles=DRAWS, gradient=Gradient.LEAVE_ONE_OUT),
    }


def bit_rows(count: int) -> list[dict[str, Any]]:
    """Of a vector with both bounds, and of a graph, whose tuples are too many, with the ELBO."""
    exact_elbo = partial(expected_elbo, expectation=Enumeration())
    rows = []
    for problem, (model, graph) in (("vector", of_vector()), ("graph", of_graph())):
        for bound, exactly, ways in (
            ("ELBO", exact_elbo, ways_of_bits()),
            (f"{DRAWS}-sample", from_tuples, multi_sample_ways()),
        ):
            if problem == "graph" and exactly is from_tuples:
                continue
            size = model.encoder.logits.numel()
            exact = of_bits(model, graph, exactly, 1)[0]
            for name, objective in ways.items():
                row = {"problem": problem, "bound": bound, "size": size, "estimator": name, "draws": DRAWS}
                rows.append(row | spread(of_bits(model, graph, objective, count), exact))
    return rows


def network(inputs: int, outputs: int) -> nn.Module:
    """One hidden layer."""
    return Nodewise(nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh()))


def of_digits(latent: str = "bits") -> GraphVAE:
    """Bits, or normal latents, behind 64 binary pixels."""
    features = BernoulliFeatures(network(BITS, 100), 100, 64)
    if latent == "normal":
        return GraphVAE(StandardNormal(BITS), NormalEncoder(network(64, 100), 100, BITS), None, features)
    return GraphVAE(BernoulliPrior(BITS), BernoulliEncoder(network(64, 100), 100, BITS), None, features)


def digit_rows(epochs: int, seeds: int) -> list[dict[str, Any]]:
    """What training by each estimator comes to, and what a step of it costs."""
    pixels = torch.from_numpy(load_digits().data > 7.5).to(torch.get_default_dtype())
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    train, test = pixels[order[:1500]], pixels[order[1500:]]
    exact_elbo = partial(expected_elbo, expectation=Enumeration())
    ways = {"enumeration": exact_elbo} | ways_of_bits() | multi_sample_ways()
    costs = step_costs(ways, train[:128])
    rows = []
    for name, objective in ways.items():
        elbos, log_ps = [], []
        for seed in range(seeds):
            torch.manual_seed(seed)
            model = of_digits()
            optimizer = torch.optim.Adam(model.parameters(), 0.01)
            fit(model, train, objective, epochs=epochs, optimizer=optimizer, seed=seed, progress=False)
            with torch.no_grad():
                elbos.append(float(exact_elbo(model, edgeless(test)).mean()))
            log_ps.append(float(enumerated(model, edgeless(test)).mean()))
        row = {"problem": "digits", "size": BITS, "estimator": name, "epochs": epochs, "seeds": seeds}
        row |= {"draws": 2**BITS if name == "enumeration" else DRAWS, "time_over_normal_elbo": costs[name]}
        rows.append(row | {"elbo": elbos, "log_p": log_ps})
    return rows


def step_costs(ways: dict[str, Objective], x: Tensor) -> dict[str, float]:
    """CPU time of value and gradient of one mini-batch, over that of the ELBO of a normal VAE of the same networks."""
    graphs, bits, normal = edgeless(x), of_digits(), of_digits("normal")
    variants: dict[str, Callable[[], object]] = {"elbo": lambda: elbo(normal, graphs).sum().backward()}
    for name, objective in ways.items():
        variants[name] = lambda objective=objective: objective(bits, graphs).sum().backward()
    times = {row["variant"]: row["milliseconds"] for row in interleaved(variants, rounds=15)}
    return {name: times[name] / times["elbo"] for name in ways}


def main() -> None:
    """Runs all and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--copies", type=int, default=20_000, help="gradients per estimator")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "gradients.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    found: list[dict[str, Any]] = []
    torch.set_default_dtype(torch.float64)
    for part in (normal_rows, bit_rows):
        started = time.process_time()
        found += part(arguments.copies)
        print(f"{part.__name__}: {time.process_time() - started:.0f} s")
    torch.set_default_dtype(torch.float32)
    found += digit_rows(arguments.epochs, arguments.seeds)
    protocol = {
        "copies": arguments.copies,
        "normal": "distance: |z - 1|^2, z ~ N(0, 0.25 I), size d; wave: sin(kz), z ~ N(0, 1), size k; float64",
        "bits": "random models, gradients in the logits of q, exact ones from all codes (tuples of codes); float64",
        "digits": f"{BITS} bits, 64-100-{BITS}-100-64, Adam 0.01, 1500 of scikit-learn's digits > 7.5; scores on 297",
    }
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("benchmarks/12_gradients", protocol, 0, found), arguments.out)


if __name__ == "__main__":
    main()
