"""Link prediction: ranking of held-out edges, and calibration against the true density of edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score, roc_auc_score
from torch import Tensor

from graphvae.datasets.splits import LinkSplit
from graphvae.edge_distributions import BernoulliEdges
from graphvae.fixed_order import FixedOrderEdges
from graphvae.graphs import Graphs
from graphvae.model import GraphVAE

Scores = Callable[[Tensor], Tensor]
_HITS = (20, 50, 100)
_LOGIT_BINS = torch.linspace(-20, 20, 81, dtype=torch.float64)


@torch.no_grad()
def predict(model: GraphVAE, graphs: Graphs, split: LinkSplit) -> BernoulliEdges | FixedOrderEdges:
    """p(A | Z) at the posterior mean of a visible graph: the scores, and the probabilities, of all pairs.

    Args:
        model: With an edge factor.
        graphs: What the encoder may see: `split.graph(data)`.
        split: It refuses a graph that holds one of its held-out edges, in the validation or the test part.
    """
    if model.edges is None:
        raise ValueError("'model' must have an edge factor to predict links")
    batch = model.batch(graphs)
    split.refuse_leak(batch)
    return model.edges(model.posterior(batch).mean, batch.layout)


def ranking(scores: Scores, split: LinkSplit, part: str = "test") -> dict[str, float]:
    """AUC, AP, Hits@20/50/100 and MRR of the held-out edges against as many non-edges, as fractions of one.

    Hits@K is the share of edges scored above the K-th best non-edge (undefined, NaN, with fewer than K of them); MRR
    ranks each edge against all the non-edges, ties counted against it. Both depend on how many non-edges there are.

    Args:
        scores: `(2, P)` pairs to `(P,)` scores, larger for likelier edges.
        split: Whose held-out pairs are scored.
        part: "test" or "val".
    """
    positive, negative = (score_pairs(scores, pairs, split) for pairs in split.held_out(part))
    labels = np.repeat([1, 0], [len(positive), len(negative)])
    values = np.concatenate([positive, negative])
    result = {"auc": float(roc_auc_score(labels, values)), "ap": float(average_precision_score(labels, values))}
    for k in _HITS:
        enough = len(negative) >= k
        result[f"hits@{k}"] = float((positive > np.sort(negative)[-k]).mean()) if enough else math.nan
    return result | {"mrr": _mean_reciprocal_rank(positive, negative)}


def score_pairs(scores: Scores, pairs: Tensor, split: LinkSplit) -> np.ndarray:
    """Scores `(P,)` of pairs `(2, P)` as float64, refusing any pair the encoder has seen.

    Raises:
        ValueError: A pair is in the message graph, or a score is not finite.
    """
    split.refuse_visible(pairs)
    with torch.no_grad():
        values = scores(pairs).double().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"scores must be finite, got {(~np.isfinite(values)).sum()} of {len(values)} that are not")
    return values


def _mean_reciprocal_rank(positive: np.ndarray, negative: np.ndarray) -> float:
    # With one relevant item per query, label-ranking average precision is the mean reciprocal rank.
    total = 0.0
    for chunk in np.array_split(positive, max(1, len(positive) * len(negative) // 2**24)):
        table = np.concatenate([chunk[:, None], np.broadcast_to(negative, (len(chunk), len(negative)))], 1)
        relevant = np.zeros(table.shape, dtype=int)
        relevant[:, 0] = 1
        total += label_ranking_average_precision_score(relevant, table) * len(chunk)
    return total / len(positive)


@dataclass(frozen=True)
class Calibration:
    """How the probabilities of *all* hidden pairs compare with what is there, not of a balanced sample.

    Attributes:
        predicted: `(K,)` mean probability of each bin; observed: `(K,)` share of edges; pairs: `(K,)` size of the bin.
        ece: Expected calibration error, the mean over pairs of the distance of `predicted` from `observed`.
        density: True share of edges among these pairs; the scale of `ece`.
        expected_edges_ratio: Expected number of edges over the true one; 1 if calibrated in the large.
        nats_per_pair: Log-likelihood of all these pairs, divided by their number.
    """

    predicted: np.ndarray = field(repr=False)
    observed: np.ndarray = field(repr=False)
    pairs: np.ndarray = field(repr=False)
    ece: float
    density: float
    expected_edges_ratio: float
    nats_per_pair: float

    @property
    def ece_over_density(self) -> float:
        """1 is as wrong as to predict no edge at all."""
        return self.ece / self.density


@torch.no_grad()
def calibration(edges: BernoulliEdges | FixedOrderEdges, split: LinkSplit, part: str = "test") -> Calibration:
    """Calibration and log-likelihood over every pair that is neither visible nor held out for the other part.

    The model explains the visible edges. A split hides edges at random, so the probability that a pair is a hidden edge
    is that of a visible one times hidden over visible share; for pairs of small probability so are the odds. `edges` is
    shifted by the logarithm of that known ratio, the same for every model, before it is judged. (For a confident pair
    the shift is too small: at 0.8 of being an edge at all, 85/5/10, it says 0.20 where 0.29 is right.) Exact over all
    pairs, in tiles. With latents at their mean this is the log-score of one prediction, not a bound.

    Args:
        edges: Undirected, of the one graph of the split.
        split: Whose held-out edges are the truth.
        part: "test" or "val".

    Raises:
        ValueError: `edges` are directed.
    """
    if edges.directed:
        raise ValueError("'edges' must be undirected, as the pairs of a split are")
    positive, _ = split.held_out(part)
    other, _ = split.held_out("val" if part == "test" else "test")
    known = torch.cat([split.message, other], 1)
    hidden_share = split.ratio[1 if part == "val" else 2]
    shifted = edges.double().shifted(math.log(hidden_share / split.ratio[0]))
    counts, mass = _histogram(shifted)
    known_counts, known_mass = _bin(shifted.logits(known))
    counts, mass = counts - known_counts, mass - known_mass
    found, _ = _bin(shifted.logits(positive))
    total = counts.sum()
    log_likelihood = _log_likelihood(shifted, positive, known)
    used = counts > 0
    return Calibration(
        predicted=(mass[used] / counts[used]).numpy(),
        observed=(found[used] / counts[used]).numpy(),
        pairs=counts[used].numpy(),
        ece=float((mass - found).abs().sum() / total),
        density=float(found.sum() / total),
        expected_edges_ratio=float(mass.sum() / found.sum()),
        nats_per_pair=float(log_likelihood / total),
    )


def _log_likelihood(edges: BernoulliEdges | FixedOrderEdges, positive: Tensor, known: Tensor) -> Tensor:
    """Log-probability that of all pairs but the `known` ones exactly the `positive` ones are joined."""
    return (
        edges.logits(positive).sum()
        - edges.log_normalizer().sum()
        + torch.logaddexp(edges.logits(known), torch.zeros((), dtype=torch.float64)).sum()
    )


def _histogram(edges: BernoulliEdges | FixedOrderEdges) -> tuple[Tensor, Tensor]:
    counts, mass = _bin(torch.empty(0, dtype=torch.float64))
    for logits in edges.all_logits():
        new_counts, new_mass = _bin(logits)
        counts, mass = counts + new_counts, mass + new_mass
    return counts, mass


def _bin(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs and expected edges in each bin of log-odds."""
    logits = logits.cpu()
    places = torch.bucketize(logits, _LOGIT_BINS)
    counts = torch.bincount(places, minlength=len(_LOGIT_BINS) + 1).double()
    return counts, torch.bincount(places, weights=logits.sigmoid(), minlength=len(_LOGIT_BINS) + 1)
