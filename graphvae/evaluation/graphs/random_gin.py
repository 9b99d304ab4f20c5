"""Distances between sets of graphs in the features of an untrained graph isomorphism network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from torch_geometric.data import Batch

from graphvae.evaluation.graphs.kernels import Gram
from graphvae.graphs import Graphs, as_batch, field

_SCALES = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_NEIGHBORS = 5


class RandomGINScores(NamedTuple):
    """Attributes: `mmd_rbf`, lower is better; `precision`, `recall` and their harmonic mean `f1_pr`, in [0, 1]."""

    mmd_rbf: float
    precision: float
    recall: float
    f1_pr: float


class RandomGIN(nn.Module):
    """A graph isomorphism network with random orthogonal weights, summed over nodes after every layer.

    The weights are a function of the arguments alone. Values depend on them, so compare only those of one network.

    Args:
        features: Of x; 1 for graphs without, of which the degrees are taken.
        edge_types: Number of types of edges; 0 for graphs without.
        hidden: Width of the layers.
        layers: Number of them.
        seed: Of the weights.

    References:
        Thompson et al., "On evaluation metrics for graph generative models", 2022, arXiv:2201.09871.
    """

    def __init__(
        self, features: int = 1, edge_types: int = 0, hidden: int = 35, layers: int = 2, seed: int = 0
    ) -> None:
        super().__init__()
        self.edge_types = edge_types
        generator = torch.Generator().manual_seed(seed)
        widths = [features] + layers * [hidden]
        self.layers = nn.ModuleList(_layer(width + edge_types, hidden, generator) for width in widths[:-1])
        self.requires_grad_(False)

    def forward(self, graphs: Graphs) -> Tensor:
        """The features `(B, F + layers · hidden)` of graphs, which must be on the device of the weights."""
        batch = as_batch(graphs)
        (source, target), layout = batch.edge_index, batch.layout
        h, around = _inputs(batch), self._edge_types_around(batch)
        levels = [h]
        for layer in self.layers:
            h = layer(torch.cat([h.index_add(0, source, h[target]), around], 1))
            levels.append(h)
        rows = torch.cat(levels, 1)
        return rows.new_zeros(layout.num_graphs, rows.size(1)).index_add_(0, layout.batch, rows)

    def _edge_types_around(self, batch: Batch) -> Tensor:
        """`(N, T)` how many edges of each type a node has: what the types add to the sum of its messages."""
        found = torch.zeros(batch.layout.num_rows, self.edge_types, dtype=torch.float64, device=batch.edge_index.device)
        edge_type = field(batch, "edge_type")
        if self.edge_types == 0 or edge_type is None:
            return found
        return found.index_add_(0, batch.edge_index[0], one_hot(edge_type, self.edge_types).to(found))


def _layer(width: int, hidden: int, generator: torch.Generator) -> nn.Sequential:
    """Two linear layers, each followed by a ReLU, in float64."""
    return nn.Sequential(_linear(width, hidden, generator), nn.ReLU(), _linear(hidden, hidden, generator), nn.ReLU())


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    linear = nn.utils.skip_init(nn.Linear, inputs, outputs, dtype=torch.float64)  # Lest the global generator advances.
    nn.init.orthogonal_(linear.weight, generator=generator)
    nn.init.uniform_(linear.bias, -(inputs**-0.5), inputs**-0.5, generator=generator)
    return linear


def _inputs(batch: Batch) -> Tensor:
    if batch.x is not None:
        return batch.x.detach().to_dense().double()
    return torch.bincount(batch.edge_index[0], minlength=batch.layout.num_rows)[:, None].double()


def random_gin_scores(samples: Graphs, reference: Graphs, seed: int = 0) -> RandomGINScores:
    """MMD and F1 of precision and recall in the features of one random network.

    Features are standardised by those of the reference. The MMD is the largest over radial kernels of ten widths
    around the mean distance; precision and recall are by the radius of the fifth neighbour (of fewer graphs, the
    last). The source advises to repeat it with several seeds and average.

    Args:
        samples: A PyG graph, batch or list, on the CPU or a GPU.
        reference: Likewise, with the same kind of x and edge types.
        seed: Of the network.
    """
    batches = as_batch(samples), as_batch(reference)
    features, edge_types = _kinds(*batches)
    gin = RandomGIN(features, edge_types, seed=seed)
    x, y = (gin.to(batch.edge_index.device)(batch) for batch in batches)
    center, scale = y.mean(0), y.std(0, correction=0)
    x, y = ((rows - center) / torch.where(scale > 0, scale, 1.0) for rows in (x, y))
    exact = "donot_use_mm_for_euclid_dist"
    distances = Gram(*(torch.cdist(a, b, compute_mode=exact) for a, b in ((x, x), (x, y), (y, y))))
    return RandomGINScores(_radial_mmd(distances), *_precision_recall(distances))


def _kinds(samples: Batch, reference: Batch) -> tuple[int, int]:
    """The number of features and of edge types, 1 and 0 without."""
    kinds = [(None if b.x is None else b.x.size(1), field(b, "edge_type") is None) for b in (samples, reference)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"'samples' and 'reference' must have the same number of features in x and both edge types or none, got "
            f"{kinds[0][0]} and {kinds[1][0]} features"
        )
    types = [field(batch, "edge_type") for batch in (samples, reference)]
    counts = [int(found.max()) + 1 for found in types if found is not None and found.numel()]
    return kinds[0][0] or 1, max(counts, default=0)


def _radial_mmd(distances: Gram) -> float:
    width = distances.xy.square().mean().sqrt()
    if width == 0:
        return 0.0
    found = []
    for scale in _SCALES:
        kernels = (torch.exp(-0.5 * (part / (scale * width)).square()) for part in distances)
        found.append(float(Gram(*kernels).mmd))
    return max(0.0, *found)


def _precision_recall(distances: Gram) -> tuple[float, float, float]:
    """A point counts as covered by a set within the distance of one of its points to that point's own neighbours.

    References:
        Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models", 2019,
        arXiv:1904.06991.
    """
    radius_x, radius_y = (_radii(part) for part in (distances.xx, distances.yy))
    precision = float((distances.xy <= radius_y).any(1).double().mean())
    recall = float((distances.xy <= radius_x[:, None]).any(0).double().mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _radii(distances: Tensor) -> Tensor:
    nearest = min(_NEIGHBORS, len(distances) - 1)
    return distances.kthvalue(nearest + 1, dim=1).values  # The nearest is the point itself.
