"""The picture of link prediction: ROC curves, reliability, latents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import RocCurveDisplay
from torch import Tensor
from torch_geometric.data import Data

from graphvae.datasets.splits import LinkSplit
from graphvae.evaluation.links import Calibration, score_pairs
from graphvae.plots.figures import COLOURS, new_figure
from graphvae.recipes.link_prediction import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEWEST_PAIRS = 100


def link_prediction(outcomes: Mapping[str, Outcome], split: LinkSplit, data: Data, path: Path) -> None:
    """Draws ROC curves, reliability curves and a 2-D view of latents of one split, and writes them to `path`.

    Args:
        outcomes: By method, of one split.
        split: That split.
        data: Whose classes `y`, which no method saw, colour the nodes, named by `label_names` where it has them.
        path: A file name that matplotlib knows how to write, such as a .png.
    """
    figure = new_figure(15, 4.8)
    roc, reliability, latents = figure.subplots(1, 3)
    colours = dict(zip(outcomes, COLOURS * len(outcomes), strict=False))
    for method, outcome in outcomes.items():
        _draw_roc(roc, method, outcome, split, colours[method])
        if outcome.calibration is not None:
            _draw_reliability(reliability, method, outcome.calibration, colours[method])
    roc.set(
        title=f"{data.name}: ROC on the test pairs of split {split.seed}",
        xlabel="false positive rate",
        ylabel="true positive rate",
    )
    roc.legend(loc="lower right", fontsize=8)
    _finish_reliability(reliability)
    found = [(method, o.fitted.latents) for method, o in outcomes.items() if o.fitted.latents is not None]
    if found:
        _draw_latents(latents, *found[-1], data)
    else:
        latents.set_axis_off()
    figure.savefig(path)


def _draw_roc(axes: Axes, method: str, outcome: Outcome, split: LinkSplit, colour: str) -> None:
    parts = [score_pairs(outcome.fitted.scores, pairs, split) for pairs in split.held_out("test")]
    truth = np.repeat([1, 0], [len(part) for part in parts])
    RocCurveDisplay.from_predictions(truth, np.concatenate(parts), name=method, ax=axes, curve_kwargs={"color": colour})


def _draw_reliability(axes: Axes, method: str, calibration: Calibration, colour: str) -> None:
    # A logarithmic axis has no place for bins without an edge, and a bin of few pairs is all noise.
    drawn = (calibration.observed > 0) & (calibration.pairs >= _FEWEST_PAIRS)
    label = f"{method} (ECE {calibration.ece:.1e})"
    axes.plot(calibration.predicted[drawn], calibration.observed[drawn], "o-", ms=3, color=colour, label=label)


def _finish_reliability(axes: Axes) -> None:
    if not axes.lines:
        axes.set_axis_off()
        return
    axes.set(xscale="log", yscale="log", title="Reliability as trained, over all hidden pairs")
    axes.set(xlabel="predicted probability of an edge", ylabel="observed share of edges")
    low = min(axes.get_xlim()[0], axes.get_ylim()[0])
    axes.plot([low, 1], [low, 1], ":", color="grey", zorder=0)
    axes.legend(loc="upper left", fontsize=8)


def _draw_latents(axes: Axes, method: str, latents: Tensor, data: Data) -> None:
    points = PCA(2).fit_transform(latents.cpu().numpy())
    axes.set(title=f"{method}: latents, two principal components", xticks=[], yticks=[])
    if data.y is None:
        _scatter(axes, points, COLOURS[0])
        return
    common = torch.bincount(data.y).argsort(descending=True)[: len(COLOURS)].tolist()
    _scatter(axes, points[~np.isin(data.y.numpy(), common)], "lightgrey")
    names = data.label_names if "label_names" in data else [f"class {label}" for label in range(max(common) + 1)]
    for label, colour in zip(common, COLOURS, strict=False):
        _scatter(axes, points[data.y.numpy() == label], colour, label=names[label])
    axes.legend(fontsize=7, markerscale=2)


def _scatter(axes: Axes, points: np.ndarray, colour: str, label: str | None = None) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=4, color=colour, label=label)
