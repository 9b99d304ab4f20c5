"""Which generated graphs are new, and which data sets repeat themselves: by exact isomorphism."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from graphvae.graphs import Graphs, as_batch
from graphvae.isomorphism import isomorphism_classes
from graphvae.sort_keys import first_of_each


class Novelty(NamedTuple):
    """`unique` `(B,)`: not isomorphic to an earlier sample; `novel` `(B,)`: nor to a training graph. On the CPU."""

    unique: Tensor
    novel: Tensor


def novelty(samples: Graphs, train: Graphs) -> Novelty:
    """Compares samples with one another and with the training graphs: edges, node types x and `edge_type`.

    Args:
        samples: A PyG graph, batch or list.
        train: Likewise, with x and edge types if the samples have them.
    """
    found, known = isomorphism_classes(as_batch(samples), as_batch(train))
    return Novelty(first_of_each(found), ~torch.isin(found, known))


def share_isomorphic(test: Graphs, train: Graphs) -> float:
    """The share of the test graphs that are isomorphic to a training graph: how far copying goes."""
    return 1 - float(novelty(test, train).novel.double().mean())
