"""The pictures of generated molecules: molecules side by side, and histograms of what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from graphvae.datasets.smiles import atom_name, drawing
from graphvae.evaluation.molecules import histograms
from graphvae.plots.figures import COLOURS, new_figure

_TITLES = {"atoms": "atoms", "bonds": "bonds", "rings": "rings, by size", "sizes": "heavy atoms"}
_BONDS = {1.0: "single", 1.5: "aromatic", 2.0: "double", 3.0: "triple"}


def generated_molecules(sets: Mapping[str, Sequence[str]], path: Path, columns: int = 6, title: str = "") -> None:
    """Draws the first molecules of each set in a row of its own, and writes the picture to `path`.

    Args:
        sets: Readable SMILES by name; a set without any gets an empty row.
        path: A file name that matplotlib knows how to write.
        columns: Molecules of each set.
        title: Above all.
    """
    figure = new_figure(1.7 * columns + 1.0, 1.75 * len(sets) + 0.4)
    for axes, (name, smiles) in zip(figure.subplots(len(sets), 1, squeeze=False)[:, 0], sets.items(), strict=True):
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, fontsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
        few = list(smiles[:columns])
        if few:
            blank = np.full((200, 200 * columns, 3), 255, dtype=np.uint8)
            shown = np.asarray(drawing(few, columns=len(few)).convert("RGB"))
            blank[: shown.shape[0], : shown.shape[1]] = shown[:200]
            axes.imshow(blank)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def molecule_histograms(sets: Mapping[str, Sequence[str]], path: Path, title: str = "") -> None:
    """Draws the shares of atoms, bonds, rings and sizes of each set, and writes the picture to `path`.

    Args:
        sets: Readable SMILES by name, real ones first.
        path: As above.
        title: Above all.
    """
    found = {name: histograms(smiles) for name, smiles in sets.items()}
    figure = new_figure(14, 3.6)
    for axes, statistic in zip(figure.subplots(1, 4), _TITLES, strict=True):
        keys = sorted({key for counts in found.values() for key in counts[statistic]})
        width = 0.85 / len(found)
        for k, (counts, colour) in enumerate(zip(found.values(), ("#bbbbbb", *COLOURS), strict=False)):
            total = max(1, counts[statistic].total())
            places = np.arange(len(keys)) + (k - (len(found) - 1) / 2) * width
            axes.bar(places, [counts[statistic][key] / total for key in keys], width, color=colour)
        axes.set_xticks(np.arange(len(keys)), [_label(statistic, key) for key in keys], fontsize=8)
        axes.set(title=_TITLES[statistic], ylabel="share")
    handles = [axes.containers[k] for k in range(len(found))]
    figure.legend(handles, list(found), loc="outside lower center", ncols=len(found), fontsize=9)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path)


def _label(statistic: str, key: Any) -> str:
    if statistic == "atoms":
        return atom_name(*key)
    if statistic == "bonds":
        return _BONDS.get(key, f"{key:g}")
    return "none" if statistic == "rings" and key == 0 else str(key)
