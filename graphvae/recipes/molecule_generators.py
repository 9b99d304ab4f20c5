"""Methods that generate molecules, on one task: the GraphVAE of 2018 by matching, and a one-shot VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.optim import Adam

from graphvae.bounds import matching_bound
from graphvae.datasets.molecules import Molecules
from graphvae.evaluation import molecules as measures
from graphvae.graphs import Graphs, Selector
from graphvae.model import GraphVAE
from graphvae.objectives import WarmUp
from graphvae.recipes import molecules, places
from graphvae.recipes.comparison import Fitted, Honesty, Row, Run, use_of_latents
from graphvae.recipes.seeded import seeded
from graphvae.sources import epochs_of
from graphvae.training import fit

_ENCODED = 1000  # Test molecules whose latents are looked at.
_SMALL = 20_000  # Molecules; smaller sets are trained on in smaller batches.


@dataclass(frozen=True)
class MoleculeTask:
    """A set of molecules in its parts, and how samples are judged.

    Attributes:
        data: In its parts.
        fcd: Whether to compute the Fréchet ChemNet distance, where its package is installed.
    """

    data: Molecules
    fcd: bool = False

    def __post_init__(self) -> None:
        bonds = self.data.alphabet.bonds
        if len(bonds) < 2:
            raise ValueError(
                f"the alphabet of {self.data.name} must have at least two kinds of bonds, for edges to have types, got "
                f"{', '.join(bonds)}; Alphabet(atoms) has three, whether they occur or not"
            )

    @property
    def shares(self) -> Sequence[str]:
        """Of all samples; `unique` is a share of the valid ones, and `novel` of the different ones among these."""
        return ("sanitised", "valid", "vun")

    @property
    def size(self) -> int:
        """As many as there are for testing, 10,000 at most."""
        return min(10_000, len(self.data.test_smiles))

    def evaluate(self, samples: Graphs | Sequence[str | None], generator: torch.Generator) -> Row:
        """As `evaluation.molecules.evaluate`, against the test molecules."""
        known, test = self.data.train_smiles, self.data.test_smiles
        alphabet, fcd = self.data.alphabet, self.fcd
        return measures.evaluate(samples, known, alphabet, reference=test, fcd=fcd, canonical=True).row()

    def honesty(self, draws: int, size: int, seed: int) -> Honesty:
        """As `evaluation.molecules.honesty`."""
        rows, leak = measures.honesty(self.data, draws * size, self.fcd, seed)
        return Honesty(rows, leak)


def graphvae(task: MoleculeTask, run: Run, beta: float = 1.0, steps: int = 8000) -> Fitted:
    """GraphVAE of 2018 by matching (`recipes.places`), decoded as in the paper: the likeliest graph, made connected.

    Args:
        task: Molecules.
        run: How to train.
        beta: Weight of the KL divergence; with 1 the objective is a bound.
        steps: Of the optimiser, unless `run` says how many.
    """
    train, batch_size = task.data.train, 128
    with seeded(run.seed):
        model = places.places_vae(train, latent=40, node_types=True)
    epochs = epochs_of(run.steps or steps, len(task.data.train_smiles), batch_size)
    objective = WarmUp(max(1, epochs // 4), matching_bound, beta=beta)
    optimizer = Adam(model.parameters(), 1e-3, fused=True)
    settings: dict[str, Any] = {"seed": run.seed, "progress": run.progress, "accelerator": run.accelerator}
    fit(model, Selector(train), objective, epochs=epochs, batch_size=batch_size, optimizer=optimizer, **settings)
    return _fitted(model, task, run, epochs, {"most_likely": True, "spanning": True})


def one_shot(task: MoleculeTask, run: Run, weight: float = 2.0, steps: int = 4000) -> Fitted:
    """The VAE of `recipes.molecules`, each latent decoded to its likeliest graph, as it is.

    Args:
        task: Molecules.
        run: How to train.
        weight: Of the penalty on broken rules.
        steps: As for `graphvae`.
    """
    batch_size = 128 if len(task.data.train_smiles) < _SMALL else 512
    with seeded(run.seed):
        model = molecules.molecule_vae(task.data)
    epochs = epochs_of(run.steps or steps, len(task.data.train_smiles), batch_size)
    settings: dict[str, Any] = {"seed": run.seed, "progress": run.progress, "accelerator": run.accelerator}
    molecules.train(model, task.data, epochs, batch_size, weight, **settings)
    return _fitted(model, task, run, epochs, {"most_likely": True})


METHODS: dict[str, Callable[[MoleculeTask, Run], Fitted]] = {"graphvae": graphvae, "one-shot": one_shot}


def _fitted(model: GraphVAE, task: MoleculeTask, run: Run, epochs: int, decoding: dict[str, bool]) -> Fitted:
    few = Selector(task.data.test)(range(min(_ENCODED, len(task.data.test_smiles))))
    numbers = {"epochs": epochs, **use_of_latents(model, few, run.seed)}
    return Fitted(partial(model.sample, **decoding), model, numbers, decoding)
