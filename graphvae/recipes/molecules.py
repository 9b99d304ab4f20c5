"""A one-shot VAE of molecules: a graph to one latent, and back to all atoms and bonds at once, without any correction.

What makes most of its samples valid: atoms stand in the order of the canonical SMILES, so that a molecule is at one set
of places; latents carry enough to tell molecules apart (a small weight of the KL divergence); the prior is a flow that
learns where they are; and graphs decoded from the prior pay for broken valences (`objectives.ValencePenalty`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR
from torch_geometric.nn import MLP
from torch_geometric.nn.aggr import MeanAggregation

from graphvae.backbones import AtPlaces
from graphvae.bounds import elbo
from graphvae.datasets.chemistry import rdkit
from graphvae.datasets.molecules import Molecules
from graphvae.datasets.smiles import Alphabet
from graphvae.decoders import DenseGraph
from graphvae.encoders import NormalEncoder
from graphvae.graphs import Selector, density
from graphvae.model import GraphVAE
from graphvae.objectives import ValencePenalty
from graphvae.priors import Flow
from graphvae.sources import batch_sizes
from graphvae.training import History, Objective, fit

_RATE = 1.5e-3


def molecule_vae(data: Molecules, latent: int = 48, hidden: int = 512) -> GraphVAE:
    """The model, untrained: an MLP on atoms and bonds at places, a coupling flow as prior, an MLP back to them.

    Args:
        data: Its training set gives sizes, types and density.
        latent: Dimension of the latent.
        hidden: Width of encoder and decoder.
    """
    types, places = (len(data.alphabet.atoms), len(data.alphabet.bonds)), max(data.train.layout.host_sizes)
    seen = AtPlaces(_network(AtPlaces.width(places, *types), hidden, hidden), places, *types)
    decoder = _network(latent, hidden, hidden, hidden)
    return GraphVAE(
        prior=Flow(latent, 6, (4 * latent, 4 * latent), passes=2, splines=False),
        encoder=NormalEncoder(seen, hidden, latent, pool=MeanAggregation()),
        decoder=DenseGraph(places, hidden, density(data.train), *types, decoder),
    )


def _network(*widths: int) -> MLP:
    return MLP(list(widths), norm="layer_norm", act="silu", plain_last=False)


@dataclass(frozen=True)
class Course:
    """The objective of each epoch: latents cost little at first, and rules count when graphs look like molecules.

    Args:
        alphabet: Of the molecules.
        epochs: Of the training.
        beta: The weight of the KL divergence after 40 % of the epochs; until then it grows.
        weight: Of the penalty on broken rules, in the last 40 % of the epochs.
    """

    alphabet: Alphabet
    epochs: int
    beta: float = 0.3
    weight: float = 2.0

    def at(self, epoch: int) -> Objective:
        """The objective of an epoch; the first is 1."""
        beta = self.beta * min(1.0, (epoch - 1) / (0.4 * self.epochs) + 0.03)
        if epoch <= 0.6 * self.epochs or self.weight == 0:
            return partial(elbo, beta=beta)
        orders = tuple(range(1, len(self.alphabet.bonds) + 1))
        return partial(ValencePenalty(valence_limits(self.alphabet), orders, self.weight), beta=beta)


def train(
    model: GraphVAE, data: Molecules, epochs: int, batch_size: int = 512, weight: float = 2.0, **settings: Any
) -> History:
    """Trains with a learning rate that rises and falls; `settings` are those of `fit`, its seed among them."""
    optimizer = Adam(model.parameters(), _RATE, fused=True)
    steps = epochs * len(batch_sizes(data.train.num_graphs, batch_size))
    scheduler = OneCycleLR(optimizer, _RATE, total_steps=steps)
    course = Course(data.alphabet, epochs, weight=weight)
    settings |= {"optimizer": optimizer, "scheduler": scheduler, "epochs": epochs, "batch_size": batch_size}
    return fit(model, Selector(data.train), course, **settings)


def valence_limits(alphabet: Alphabet) -> tuple[int, ...]:
    """The most bonds of each atom: of an ion, those of the neutral atom with as many electrons."""
    table = rdkit().GetPeriodicTable()
    limits = [max(table.GetValenceList(number - charge)) for number, charge in alphabet.codes]
    return tuple(limits)
