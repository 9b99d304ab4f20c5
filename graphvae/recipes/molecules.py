"""A one-shot VAE of molecules: a graph to one latent, and back to all atoms and bonds at once, without any correction.

What makes most of its samples valid: atoms stand in the order of the canonical SMILES, so that a molecule is at one set
of places; latents carry enough to tell molecules apart (a small weight of the KL divergence); the prior is a flow that
learns where they are; and graphs decoded from the prior pay for broken valences (`objectives.ValencePenalty`).
"""

from __future__ import annotations

from torch import nn
from torch_geometric.nn import MLP, RGCNConv

from graphvae.backbones import GatedSum, Stack
from graphvae.datasets.chemistry import rdkit
from graphvae.datasets.molecules import Molecules
from graphvae.datasets.smiles import Alphabet
from graphvae.decoders import DenseGraph
from graphvae.encoders import NormalEncoder
from graphvae.graphs import density
from graphvae.model import GraphVAE
from graphvae.objectives import ValencePenalty
from graphvae.priors import Flow

_COLUMNS = 96


def molecule_vae(data: Molecules, latent: int = 48, hidden: int = 512) -> GraphVAE:
    """The model, untrained: relational convolutions and gated pooling, a coupling flow as prior, an MLP as decoder.

    Args:
        data: Its training set gives sizes, types and density.
        latent: Dimension of the latent.
        hidden: Width of the decoder.
    """
    node_types, edge_types = len(data.alphabet.atoms), len(data.alphabet.bonds)
    layers: list[nn.Module] = []
    for columns in (node_types, _COLUMNS, _COLUMNS):
        layers += [RGCNConv(columns, _COLUMNS, edge_types, aggr="sum"), nn.LayerNorm(_COLUMNS), nn.SiLU()]
    network = MLP([latent, hidden, hidden, hidden], norm="layer_norm", act="silu", plain_last=False)
    return GraphVAE(
        prior=Flow(latent, 6, (4 * latent, 4 * latent), passes=2, splines=False),
        encoder=NormalEncoder(Stack(*layers), hidden, latent, pool=GatedSum(_COLUMNS, hidden)),
        decoder=DenseGraph(
            max(data.train.layout.host_sizes), hidden, density(data.train), node_types, edge_types, network
        ),
    )


def valences_kept(alphabet: Alphabet, weight: float) -> ValencePenalty:
    """The ELBO with a penalty on atoms with more bonds than they can have, and on graphs in pieces."""
    return ValencePenalty(valence_limits(alphabet), tuple(range(1, len(alphabet.bonds) + 1)), weight)


def valence_limits(alphabet: Alphabet) -> tuple[int, ...]:
    """The most bonds of each atom: of an ion, those of the neutral atom with as many electrons."""
    table = rdkit().GetPeriodicTable()
    limits = [max(table.GetValenceList(number - charge)) for number, charge in alphabet.codes]
    return tuple(limits)
