"""VAEs on digits: priors and objectives, by ELBO, log p(x), what the latents carry, and what the encoder loses.

Usage: python benchmarks/16_vaes/run.py [--seeds 3] [--epochs 150] [--out results/vaes.json]

One network (64-128-128 and back, 8 latents, one learned scale for all pixels) on the scikit-learn digits of
`datasets.vectors`. A tenth of the training digits chooses the epoch, by the bound with 50 particles (on one noise); all
numbers are means over the test digits, in nats. `log p` is importance sampling with 2000 particles from posteriors that
were optimised for each digit, over `--gaps` test digits, as are both gaps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from graphvae import GraphVAE, edgeless, elbo, fit, importance_bound
from graphvae.bounds import Gradient
from graphvae.datasets import vectors
from graphvae.encoders import NormalEncoder
from graphvae.evaluation.inference import inference_gaps
from graphvae.evaluation.vectors import active_units, frechet_distance, kl_split, sample_means, squared_error
from graphvae.features import GaussianFeatures, LearnedScale
from graphvae.objectives import WarmUp, free_bits
from graphvae.priors import Flow, NormalMixture, StandardNormal
from graphvae.recipes.reporting import document, write_json
from graphvae.recipes.seeded import seeded
from graphvae.training import Objective, Schedule, Validation

RESULTS = Path(__file__).parent / "results"
LATENT, HIDDEN, BATCH = 8, 128, 64
METHODS: dict[str, tuple[Callable[[], nn.Module], Objective | Schedule]] = {
    "N(0, I), ELBO": (lambda: StandardNormal(LATENT), elbo),
    "N(0, I), warm-up": (lambda: StandardNormal(LATENT), WarmUp(50)),
    "N(0, I), free bits 0.2": (lambda: StandardNormal(LATENT), partial(free_bits, nats=0.2)),
    "N(0, I), IWAE-10": (
        lambda: StandardNormal(LATENT),
        partial(importance_bound, particles=10, gradient=Gradient.DREG),
    ),
    "mixture of 10, ELBO": (lambda: NormalMixture(LATENT, 10), elbo),
    "flow, ELBO": (lambda: Flow(LATENT), elbo),
}


def network(*widths: int) -> nn.Sequential:
    """Linear layers with SiLU after each."""
    return nn.Sequential(*[layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.SiLU())])


def trained(method: str, train: Tensor, seed: int, epochs: int) -> tuple[GraphVAE, int]:
    """The model of the best epoch on the held-out tenth, and that epoch."""
    prior, objective = METHODS[method]
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    held_out, kept = train[order].tensor_split([len(train) // 10])
    with seeded(seed):
        encoder = NormalEncoder(network(train.size(1), HIDDEN, HIDDEN), HIDDEN, LATENT)
        features = GaussianFeatures(network(LATENT, HIDDEN, HIDDEN), HIDDEN, train.size(1), LearnedScale())
        model = GraphVAE(prior(), encoder, features=features)
        noise = torch.randn(50, len(held_out), LATENT)
    optimizer = Adam(model.parameters(), 2e-3, fused=True)
    scheduler = CosineAnnealingLR(optimizer, epochs * -(-len(kept) // BATCH))
    batch = edgeless(held_out)
    score = Validation(lambda model: float(importance_bound(model, batch, 50, noise).mean()), every=5)
    settings: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "validation": score, "seed": seed}
    history = fit(model, kept, objective, optimizer=optimizer, scheduler=scheduler, progress=False, **settings)
    return model, history.best_epoch or 0


def measured(model: GraphVAE, test: Tensor, count: int) -> dict[str, float]:
    """Numbers over the test digits."""
    batch = edgeless(test)
    with torch.no_grad():
        bound = torch.stack([elbo(model, batch) for _ in range(20)]).mean()
        split = kl_split(model, test)
        gaps = inference_gaps(model, test[:count], steps=500, particles=2000)
        return {
            "elbo": float(bound),
            "log_likelihood": float(gaps.log_likelihood.mean()),
            "standard_error": float(gaps.standard_error.square().mean().sqrt() / count**0.5),
            "elbo_of_these": float(gaps.amortised.mean()),
            "amortisation_gap": float(gaps.amortisation.mean()),
            "approximation_gap": float(gaps.approximation.mean()),
            "kl": split.total,
            "mutual_information": split.mutual_information,
            "aggregate_kl": split.aggregate,
            "active_units": float(active_units(model, test).sum()),
            "squared_error": float(squared_error(model, test).mean()),
            "frechet": frechet_distance(sample_means(model, 2000), test),
        }


def main() -> None:
    """Trains, measures and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=150)
    parser.add_argument("--gaps", type=int, default=100, help="test digits on which gaps are measured")
    parser.add_argument("--out", type=Path, default=RESULTS / "vaes.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, rows = vectors("digits"), []
    for method in METHODS:
        for seed in range(arguments.seeds):
            model, epoch = trained(method, data.train, seed, arguments.epochs)
            with seeded(seed):
                rows.append(
                    {"method": method, "seed": seed, "epoch": epoch} | measured(model, data.test, arguments.gaps)
                )
            print(rows[-1], flush=True)
    protocol = {"dataset": data.name, "source": data.source, "latent": LATENT, "hidden": HIDDEN, "batch_size": BATCH}
    protocol |= {"epochs": arguments.epochs, "seeds": arguments.seeds, "gaps_on": arguments.gaps}
    protocol |= {"selection": "epoch by the 50-particle bound on a tenth of the training digits, never on test"}
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("python benchmarks/16_vaes/run.py", protocol, 0, rows), arguments.out)


if __name__ == "__main__":
    main()
