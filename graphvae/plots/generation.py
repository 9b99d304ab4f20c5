"""The pictures of generated graphs: graphs side by side, and the statistics they are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import networkx as nx
import numpy as np
from torch_geometric.data import Data

from graphvae.evaluation.graphs import GraphStatistics, graph_statistics
from graphvae.graphs import Graphs, as_list
from graphvae.plots.figures import COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array: TypeAlias = np.ndarray[Any, Any]
_KAMADA_KAWAI = 120  # Nodes above which a layout by all shortest paths takes too long.
_GAP = 0.35  # Between parts of a graph, in units of a lone node's cell.
_COARSER = {"clustering": 5, "spectral": 10}  # Bins of the statistics that are drawn as one.


def generated_graphs(
    sets: Mapping[str, Graphs],
    path: Path,
    columns: int = 6,
    title: str = "",
    marked: Mapping[str, Sequence[bool]] | None = None,
) -> None:
    """Draws the first graphs of each set in a row of its own, and writes the picture to `path`.

    Parts of a graph are drawn beside one another, so that what is not connected, lone nodes too, is seen.

    Args:
        sets: By name, such as test graphs and the samples of a method.
        path: A file name that matplotlib knows how to write, such as a .png.
        columns: Graphs of each set.
        title: Above all.
        marked: By the name of a set, whether each graph is valid; those that are not have red edges.
    """
    figure = new_figure(2.0 * columns + 0.4, 2.1 * len(sets) + 0.4)
    all_axes = figure.subplots(len(sets), columns, squeeze=False)
    for row, (name, graphs), colour in zip(all_axes, sets.items(), _colours(len(sets)), strict=True):
        few = as_list(graphs)[:columns]
        right = (marked or {}).get(name, [True] * len(few))
        for axes in row[len(few) :]:
            axes.set_axis_off()
        for axes, graph, good in zip(row, few, right, strict=False):
            _draw(axes, graph, colour, good)
        row[0].set_ylabel(name, fontsize=10, labelpad=6)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def graph_statistics_compared(
    train: Graphs, test: Graphs, samples: Mapping[str, Graphs], path: Path, title: str = ""
) -> None:
    """Draws degrees, clustering, orbits and spectra of test, training and generated graphs, and writes them to `path`.

    Args:
        train: Training graphs.
        test: Test graphs, drawn as a filled area.
        samples: By method.
        path: As above.
        title: Above all.
    """
    sets = {"test": test, "train": train, **samples}
    found = {name: _means(graph_statistics(graphs)) for name, graphs in sets.items()}
    figure = new_figure(14, 3.9)
    panels = figure.subplots(1, 4)
    styles: dict[str, dict[str, Any]] = {
        name: {"color": colour} for name, colour in zip(samples, _colours(len(samples) + 1)[1:], strict=True)
    }
    styles["train"] = {"color": "black", "linestyle": "--", "linewidth": 1.0}
    for axes, statistic in zip(panels, GraphStatistics._fields, strict=True):
        drawing = _draw_orbits if statistic == "orbit" else _draw_histogram
        for name, means in found.items():
            drawing(axes, statistic, means[statistic], name, styles.get(name))
    _label(panels, max(_reach(means["degree"]) for means in found.values()))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(found), fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _colours(count: int) -> list[str]:
    return [("#444444", *COLOURS)[k % (len(COLOURS) + 1)] for k in range(count)]


def _draw(axes: Axes, graph: Data, colour: str, valid: bool) -> None:
    net: nx.Graph[int] = nx.Graph()
    net.add_nodes_from(range(int(graph.num_nodes or 0)))
    net.add_edges_from(graph.edge_index.T.tolist())
    places = np.stack([place for _, place in sorted(positions(net).items())])
    size = max(4.0, min(30.0, 600 / len(places)))
    lines = places[np.array(net.edges, dtype=int).reshape(-1, 2)].transpose(2, 1, 0)
    axes.plot(*lines, color="#bbbbbb" if valid else "#e8a79a", linewidth=0.7, zorder=1)
    axes.scatter(places[:, 0], places[:, 1], s=size, color=colour, linewidths=0, zorder=2)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.08)
    axes.set_xlabel(f"{len(net)} nodes, {net.size()} edges", fontsize=7, labelpad=2)
    for spine in axes.spines.values():
        spine.set_color("#dddddd")


def positions(net: nx.Graph) -> dict[int, Array]:
    """Where to draw each node: connected parts laid out one by one, the large ones first, in rows from the top."""
    parts = sorted(nx.connected_components(net), key=len, reverse=True)
    boxes = [_laid_out(net.subgraph(part)) for part in parts]
    total = sum((side + _GAP) ** 2 for side, _ in boxes)
    width = max(boxes[0][0], math.sqrt(total))
    found: dict[int, Array] = {}
    x = y = height = 0.0
    for side, places in boxes:
        if x > 0 and x + side > width:
            x, y, height = 0.0, y - height - _GAP, 0.0
        found |= {node: np.array([x, y]) + place * side for node, place in places.items()}
        x, height = x + side + _GAP, max(height, side)
    return found


def _laid_out(part: nx.Graph) -> tuple[float, dict[int, Array]]:
    """The side of a box for one connected part, which grows with its area, and places in [0, 1] x [-1, 0]."""
    if len(part) == 1:
        return 0.5, {node: np.array([0.5, -0.5]) for node in part}
    found = nx.kamada_kawai_layout(part) if len(part) <= _KAMADA_KAWAI else nx.spring_layout(part, seed=0)
    places = np.stack(list(found.values()))
    low = places.min(0)
    scaled = (places - low) / max(float((places.max(0) - low).max()), 1e-9) - np.array([0.0, 1.0])
    return math.sqrt(len(part)), dict(zip(found, scaled, strict=True))


def _means(statistics: GraphStatistics) -> dict[str, Array]:
    """The mean over graphs of each statistic, some in coarser bins."""
    found = {}
    for name, rows in statistics._asdict().items():
        mean = rows.mean(0).numpy()
        found[name] = mean.reshape(-1, _COARSER[name]).sum(1) if name in _COARSER else mean
    return found


def _reach(degrees: Array) -> int:
    """The degree above which almost no nodes are."""
    return int(np.searchsorted(degrees.cumsum(), 0.998))


def _draw_histogram(axes: Axes, statistic: str, shares: Array, name: str, style: dict[str, Any] | None) -> None:
    if statistic == "degree":
        edges = np.arange(len(shares) + 1) - 0.5
    else:
        edges = np.linspace(0, 1 if statistic == "clustering" else 2, len(shares) + 1)
    if style is None:
        axes.stairs(shares, edges, fill=True, color="#cccccc", label=name)
    else:
        axes.stairs(shares, edges, label=name, **({"linewidth": 1.4} | style))


def _draw_orbits(axes: Axes, statistic: str, counts: Array, name: str, style: dict[str, Any] | None) -> None:
    orbits = np.arange(len(counts))
    if style is None:
        axes.bar(orbits, counts, width=0.9, color="#cccccc", label=name)
    else:
        axes.plot(orbits, counts, ".", markersize=7, color=style["color"], alpha=0.85, label=name)


def _label(panels: Sequence[Axes], reach: int) -> None:
    degree, clustering, orbit, spectral = panels
    degree.set(title="degree", xlabel="degree", ylabel="share of nodes", xlim=(-0.7, reach + 0.7))
    clustering.set(title="clustering", xlabel="local coefficient", ylabel="share of nodes")
    orbit.set(title="orbits of up to 4 nodes", xlabel="orbit", ylabel="mean count per node")
    orbit.set_yscale("symlog", linthresh=0.1)
    orbit.set_ylim(bottom=0)
    spectral.set(title="spectrum", xlabel="eigenvalue of the normalised Laplacian", ylabel="share of eigenvalues")
    for axes in (degree, orbit):
        axes.locator_params(axis="x", integer=True)
