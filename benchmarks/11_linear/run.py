"""Linear autoencoders against exact PCA: which find the components one by one, which only their space.

Usage: python benchmarks/11_linear/run.py [--dataset NAME] [--root FOLDER] [--latents K ...] [--seeds S] [--epochs E]
                                          [--methods NAME ...]
Writes results/DATASET.json beside this file. One thread, float64, full batches of compressed rows, random initial
weights; `seconds` are process CPU time of one training. All rows of the data are used, there is nothing to test on.

A row has, over the K components: `cosine`, the smallest |cosine| with the exact component of the same place, as the
method claims to give it (SVD of the decoder for uniform L2, probabilistic PCA and the linear VAE, columns of the
decoder in their order otherwise); `cosine_with_data`, the same of `principal_components(model, x)`; `angle`, the
largest principal angle to the exact space, in radians; `excess`, the squared error over the least possible, less 1;
for Gaussian models `nats`, what log p(x) per row lacks of its maximum, and `gap`, log p(x) less the ELBO.

Controls: plain (no component is found), non-uniform L2 with evenly spaced penalties (linspace(.05, .5) of the K-th
variance), rotations without the penalty.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from scipy.linalg import subspace_angles
from torch import Tensor

from graphvae import GraphVAE, edgeless
from graphvae.datasets import vectors
from graphvae.linear import (
    NestedDropout,
    NonUniformL2,
    RotationAugmented,
    UniformL2,
    analytic_elbo,
    centred,
    decoder_columns,
    exact_pca,
    linear_autoencoder,
    linear_vae,
    log_marginal,
    principal_components,
    probabilistic_pca,
)
from graphvae.objectives import reconstruction
from graphvae.recipes.principal_components import fit_linear
from graphvae.recipes.reporting import document, write_json
from graphvae.recipes.seeded import seeded
from graphvae.training import Objective

RESULTS = Path(__file__).parent / "results"


def objectives(x: Tensor, latent: int) -> dict[str, Objective]:
    """By the name of the method."""
    variance = exact_pca(x, latent).variances[-1]
    even = tuple((torch.linspace(0.05, 0.5, latent, dtype=x.dtype) * variance).tolist())
    return {
        "plain": reconstruction,
        "uniform L2, SVD": UniformL2.scaled_to(x, latent),
        "non-uniform L2": NonUniformL2.scaled_to(x, latent),
        "non-uniform L2, even penalties": NonUniformL2.scaled_to(x, latent, even),
        "nested dropout": NestedDropout(),
        "rotation-augmented": RotationAugmented.scaled_to(x, latent),
        "rotation-augmented, no L2": RotationAugmented(1e-9 * float(variance)),
        "linear VAE": analytic_elbo,
    }


def directions(name: str, model: GraphVAE) -> Tensor:
    """The components as the method gives them."""
    by_svd = name in ("uniform L2, SVD", "linear VAE", "probabilistic PCA")
    return principal_components(model).directions if by_svd else decoder_columns(model)


@torch.no_grad()
def judged(name: str, model: GraphVAE, x: Tensor, latent: int) -> dict[str, float]:
    """What is reported of a trained model."""
    exact, found = exact_pca(x, x.size(1)), principal_components(model, x).directions
    truth = exact.directions[:latent]
    batch = model.batch(edgeless(x))
    reconstructed = model.features(model.posterior(batch).mean, batch.edge_index, batch.layout).mean
    least = exact.variances[latent:].sum()
    result = {
        "cosine": float((directions(name, model) * truth).sum(1).abs().min()),
        "cosine_with_data": float((found * truth).sum(1).abs().min()),
        "angle": float(subspace_angles(found.T.numpy(), truth.T.numpy()).max()),
        "excess": float((x - reconstructed).square().sum(1).mean() / least - 1),
    }
    if name in ("linear VAE", "probabilistic PCA"):
        best = log_marginal(probabilistic_pca(x, latent), x).mean()
        log_p = log_marginal(model, x)
        gap = (log_p - analytic_elbo(model, batch)).abs().max()
        result |= {"nats": float(best - log_p.mean()), "gap": float(gap)}
    return result


def timed(make: Callable[[], GraphVAE]) -> tuple[GraphVAE, float]:
    """A model and the process CPU time to make it."""
    started = time.process_time()
    return make(), time.process_time() - started


def trained(name: str, objective: Objective, x: Tensor, latent: int, seed: int, epochs: int) -> GraphVAE:
    """From random weights."""
    with seeded(seed):
        model = (linear_vae if name == "linear VAE" else linear_autoencoder)(x.size(1), latent).double()
    # The decoder of a linear VAE has the scale of the data, its noise must shrink to theirs: longer ways to go.
    rate = 0.03 if name == "linear VAE" else 0.003
    fit_linear(model, x, objective, epochs=epochs, learning_rate=rate)
    return model


def rows_of(x: Tensor, latent: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row per method and seed."""
    model, seconds = timed(lambda: probabilistic_pca(x, latent))
    name = "probabilistic PCA"
    rows = [{"method": name, "latent": latent, "seed": None, "seconds": seconds, **judged(name, model, x, latent)}]
    for name, objective in objectives(x, latent).items():
        if arguments.methods and name not in arguments.methods:
            continue
        for seed in range(arguments.seeds):
            model, seconds = timed(
                lambda name=name, objective=objective, seed=seed: trained(
                    name, objective, x, latent, seed, arguments.epochs
                )
            )
            known = {"method": name, "latent": latent, "seed": seed, "seconds": seconds}
            rows.append(known | judged(name, model, x, latent))
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Trains, judges, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="a name for datasets.vectors")
    parser.add_argument("--root", help="folder of the data sets")
    parser.add_argument("--latents", type=int, nargs="+", default=[10, 20])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--methods", nargs="+")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data = vectors(arguments.dataset, arguments.root)
    x, _ = centred(torch.cat([data.train, data.test]).double())
    rows = [row for latent in arguments.latents for row in rows_of(x, latent, arguments)]
    protocol = {"dataset": data.name, "rows": len(x), "features": x.size(1), "epochs": arguments.epochs, "threads": 1}
    RESULTS.mkdir(exist_ok=True)
    write_json(document("11_linear", protocol, 0, rows), RESULTS / f"{data.name}.json")


if __name__ == "__main__":
    main()
