"""Link prediction in one large attributed graph: the methods, each one function, and how they are measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from rich.progress import Progress
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.preprocessing import normalize
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_scipy_sparse_matrix

from graphvae.backbones import GraphConvolution, Propagation, Stack
from graphvae.bounds import elbo
from graphvae.datasets.splits import LinkSplit
from graphvae.edge_distributions import BernoulliEdges
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder, PointEncoder
from graphvae.evaluation.links import Calibration, Scores, calibration, predict, ranking
from graphvae.features import BernoulliFeatures, GaussianFeatures, LearnedScale
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import density
from graphvae.model import GraphVAE
from graphvae.objectives import kipf_welling
from graphvae.priors import StandardNormal
from graphvae.recipes.measuring import measured
from graphvae.recipes.seeded import seeded
from graphvae.training import Validation, fit

HIDDEN, LATENT, EPOCHS = 32, 16, 200


@dataclass(frozen=True)
class Task:
    """What a method is given: the data, of which it may see `visible` and use `split`'s validation pairs to select.

    Attributes:
        visible: Features and message edges.
        split: The pairs.
        seed: Of initialisation and training.
        accelerator: Device to train on.
        progress: Bar to report to, if any.
    """

    visible: Data
    split: LinkSplit
    seed: int
    accelerator: Accelerator
    progress: Progress | bool = False


@dataclass(frozen=True)
class Fitted:
    """What a method returns.

    Attributes:
        scores: Of pairs, larger for likelier edges.
        edges: A distribution over edges, if the method has one.
        latents: `(N, D)`, if it has them.
        weight: How many times its objective counted a present edge; known, so it can be undone.
    """

    scores: Scores
    edges: BernoulliEdges | FixedOrderEdges | None = None
    latents: Tensor | None = None
    weight: float = 1.0


def erdos_renyi(task: Task) -> Fitted:
    """The density of the visible graph for every pair: what a likelihood must beat. Its ranking is that of chance."""
    zeros = torch.zeros(task.split.num_nodes, 1)
    share = density(task.visible)
    edges = BernoulliEdges(zeros, zeros, torch.tensor(math.log(share / (1 - share))))
    return Fitted(edges.logits, edges)


def floor(task: Task) -> Fitted:
    """The untrained floor: cosine of TF-IDF features after one symmetric-normalised hop over the visible edges."""
    tfidf = TfidfTransformer().fit_transform(csr_matrix(task.visible.x.numpy()))
    edges, weights = gcn_norm(task.visible.edge_index, num_nodes=task.split.num_nodes)
    h = normalize(to_scipy_sparse_matrix(edges, weights, task.split.num_nodes).tocsr() @ tfidf)

    def cosine(pairs: Tensor) -> Tensor:
        rows, columns = pairs.cpu().numpy()
        return torch.from_numpy(np.asarray(h[rows].multiply(h[columns]).sum(1)).ravel())

    return Fitted(cosine)


def gae(task: Task) -> Fitted:
    """The graph autoencoder of Kipf & Welling (2016): GCN 32-16, inner product, their weighted loss, last epoch."""
    return _kipf_welling(task, PointEncoder)


def vgae(task: Task) -> Fitted:
    """The variational one of Kipf & Welling (2016): the same with a normal posterior; scored at its mean."""
    return _kipf_welling(task, NormalEncoder)


def vgae_elbo(task: Task) -> Fitted:
    """The same encoder trained on the true ELBO of p(A | Z) p(X | A, Z); the epoch is chosen by validation AUC."""
    with seeded(task.seed):
        width = task.visible.num_features
        network = Stack(GraphConvolution(LATENT, HIDDEN), nn.ReLU())
        binary = bool(((task.visible.x == 0) | (task.visible.x == 1)).all())
        features = (
            BernoulliFeatures(network, HIDDEN, width)
            if binary
            else GaussianFeatures(network, HIDDEN, width, LearnedScale(width))
        )
        edges = InnerProduct(density(task.visible))
        model = GraphVAE(StandardNormal(LATENT), NormalEncoder(gcn(width), HIDDEN, LATENT), edges, features)
    visible = model.batch(task.visible)

    def validation_auc(model: GraphVAE) -> float:
        return ranking(predict(model, visible, task.split).logits, task.split, "val")["auc"]

    return _trained(model, task, elbo, validation=Validation(validation_auc, every=10))


def gcn(width: int) -> Stack:
    """GCN 32-16 but for the last weights: those are the encoder's heads, as A(HW) = (AH)W."""
    return Stack(GraphConvolution(width, HIDDEN), nn.ReLU(), Propagation())


METHODS: dict[str, Callable[[Task], Fitted]] = {
    "erdos-renyi": erdos_renyi,
    "floor": floor,
    "gae": gae,
    "vgae": vgae,
    "vgae-elbo": vgae_elbo,
}


def _kipf_welling(task: Task, encoder: type[PointEncoder] | type[NormalEncoder]) -> Fitted:
    with seeded(task.seed):
        edges = InnerProduct(density=0.5).requires_grad_(False)  # The published decoder: no bias, no scale.
        encode = encoder(gcn(task.visible.num_features), HIDDEN, LATENT)
        model = GraphVAE(StandardNormal(LATENT), encode, edges)
    share = density(task.visible) * (1 - 1 / task.split.num_nodes)  # Of all N x N entries, as the objective has it.
    return _trained(model, task, kipf_welling, weight=(1 - share) / share)


def _trained(
    model: GraphVAE,
    task: Task,
    objective: Callable[..., Tensor],
    weight: float = 1.0,
    validation: Validation | None = None,
) -> Fitted:
    fit(
        model,
        task.visible,
        objective,
        epochs=EPOCHS,
        validation=validation,
        seed=task.seed,
        progress=task.progress,
        accelerator=task.accelerator,
    )
    edges = predict(model, task.visible, task.split)
    return Fitted(edges.logits, edges, model.posterior(task.visible).mean.detach(), weight)


@dataclass(frozen=True)
class Outcome:
    """One method on one split: what it returned, its metrics, and its calibration if it has probabilities."""

    fitted: Fitted
    metrics: dict[str, float]
    calibration: Calibration | None


def run(method: str, task: Task) -> Outcome:
    """Trains `method` on the task and measures it on the test pairs.

    Calibration is measured twice: of the probabilities as trained, and with the known weight of the objective undone.
    """
    with measured(task.accelerator.device) as cost:
        fitted = METHODS[method](task)
    metrics = ranking(fitted.scores, task.split)
    if fitted.edges is None:
        return Outcome(fitted, metrics | _reliability(None, "") | _reliability(None, "_unweighted") | cost, None)
    raw = calibration(fitted.edges, task.split)
    undone = raw if fitted.weight == 1 else calibration(fitted.edges.shifted(-math.log(fitted.weight)), task.split)
    return Outcome(fitted, metrics | _reliability(raw, "") | _reliability(undone, "_unweighted") | cost, raw)


def _reliability(found: Calibration | None, suffix: str) -> dict[str, float]:
    names = ("ece", "ece_over_density", "expected_edges_ratio", "nats_per_pair")
    return {name + suffix: math.nan if found is None else getattr(found, name) for name in names}


def summarise(method: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """A row of the result: mean and standard deviation (n - 1) of every metric over splits, and each split's values.

    A metric that any split leaves undefined (NaN) is undefined (None).
    """
    row: dict[str, Any] = {"method": method}
    for name in outcomes[0].metrics:
        values = torch.tensor([outcome.metrics[name] for outcome in outcomes], dtype=torch.float64)
        spread = values.std() if len(values) > 1 else values.new_tensor(math.nan)
        row[name] = {"mean": _number(float(values.mean())), "std": _number(float(spread))}
    row["per_split"] = [{name: _number(value) for name, value in o.metrics.items()} for o in outcomes]
    return row


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
