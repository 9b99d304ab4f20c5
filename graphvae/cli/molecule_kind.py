"""Molecules, for `graphvae generate` and `graphvae evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from graphvae import plots
from graphvae.cli.kinds import Kind, check_whole, new_table, percent, short, without_part
from graphvae.datasets import molecules, write_graphs
from graphvae.datasets.molecules import DATASETS, Molecules, is_smiles_file, read_smiles
from graphvae.datasets.smiles import to_smiles
from graphvae.recipes.comparison import Row
from graphvae.recipes.graph_generators import LARGEST_MATCHED
from graphvae.recipes.molecule_generators import METHODS, MoleculeTask

_MAX_ATOMS = 20  # So that places, and matching, stay small.
_NO_MOLECULE = "-"  # In a file of SMILES: a line that nothing reads as one.
_DISTANCES = ("atoms", "bonds", "rings", "sizes")
_LEGEND = """sanitised: passes rdkit's checks without correction. valid: also connected. unique: of the valid. novel: of
the different ones. V.U.N.: different valid molecules that are not in the training set, of all samples. aromatic: valid
ones with an aromatic ring. atoms to sizes: total variation to the test molecules. Brackets: 95 %. Test molecules that
are in the training set: {leak:.0%}. Nothing is corrected, but that graphvae joins its places by a spanning tree, as
published. Data left out: {rest}."""


def _suits(name: str) -> bool:
    base = Path(without_part(name)[0])
    return str(base).lower() in DATASETS or is_smiles_file(base)


def _task(options: argparse.Namespace) -> MoleculeTask:
    check_whole(options.dataset)
    _check_options(options)
    return MoleculeTask(molecules(options.dataset, options.root, seed=options.seed, max_atoms=_MAX_ATOMS))


def _against(options: argparse.Namespace) -> MoleculeTask:
    """Without --train the training and test parts of the reference; with it all of the reference."""
    _check_options(options)
    base, part = without_part(options.reference)
    if part not in (None, "test"):
        raise ValueError(f"--reference must be test molecules, got {options.reference}; use {base}")
    data = molecules(base, options.root, seed=options.seed)
    if options.train is not None:
        known = _all(molecules(options.train, options.root))
        data = replace(data, train_smiles=known, test_smiles=_all(data))
    return MoleculeTask(data)


def _all(data: Molecules) -> list[str]:
    return data.train_smiles + data.val_smiles + data.test_smiles


def _check_options(options: argparse.Namespace) -> None:
    for name in ("kernel", "valid"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} is not for molecules, which are judged by rdkit")


def _unsuitable(method: str, task: MoleculeTask) -> str | None:
    largest = max(task.data.train.layout.host_sizes)
    if method == "graphvae" and largest > LARGEST_MATCHED:
        return (
            f"graphvae, whose matching costs the cube of the number of atoms, is for at most {LARGEST_MATCHED}, and "
            f"{task.data.name} has molecules of {largest}; one-shot has no such limit"
        )
    return None


def _read(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"no file {path} of samples")
    if not _suits(str(path)):
        raise ValueError(f"samples of molecules must be a file of SMILES (smi, smiles, txt, csv), got {path}")
    return read_smiles(path)


def _table(task: MoleculeTask, rows: Sequence[Row], title: str) -> Table:
    table = new_table(title, "method", "sanitised", "valid", "unique", "novel", "V.U.N.", "aromatic", *_DISTANCES)
    for row in rows:
        shares = {name: percent(row[name]) for name in ("sanitised", "valid", "unique", "novel", "vun", "aromatic")}
        if row["valid"] is not None:
            low, high = row["intervals"]["valid"]
            shares["valid"] += f" [{percent(low)}, {percent(high)}]"
        distances = [short(row.get("distances", {}).get(name), ".3f") for name in _DISTANCES]
        table.add_row(row["method"], *shares.values(), *distances)
    return table


def _legend(task: MoleculeTask, leak: float) -> str:
    rest = ", ".join(f"{count} ({reason})" for reason, count in task.data.left_out.items()) or "nothing"
    return _LEGEND.format(leak=leak, rest=rest)


def _write(task: MoleculeTask, samples: Any, folder: Path, method: str) -> None:
    """Typed graphs; and SMILES, a line for each sample."""
    write_graphs(folder / f"samples-{method}.npz", samples)
    lines = (text or _NO_MOLECULE for text in to_smiles(samples, task.data.alphabet))
    (folder / f"samples-{method}.smi").write_text("".join(f"{line}\n" for line in lines))


def _draw(task: MoleculeTask, samples: Mapping[str, Any], folder: Path) -> list[Path]:
    """The first different valid molecules of each method beside test molecules, and what all are made of."""
    alphabet = task.data.alphabet
    sets = {f"{task.data.name}, test": task.data.test_smiles}
    sets |= {name: [t for t in to_smiles(found, alphabet, connected=True) if t] for name, found in samples.items()}
    pictures = [folder / "molecules.png", folder / "statistics.png"]
    plots.generated_molecules({name: list(dict.fromkeys(texts)) for name, texts in sets.items()}, pictures[0])
    plots.molecule_histograms({name: texts for name, texts in sets.items() if texts}, pictures[1], task.data.name)
    return pictures


def _facts(task: MoleculeTask) -> dict[str, Any]:
    data = task.data
    parts = {"train": len(data.train_smiles), "val": len(data.val_smiles), "test": len(data.test_smiles)}
    return parts | {
        "source": data.source,
        "atoms": list(data.alphabet.atoms),
        "left_out": data.left_out,
        "threads": torch.get_num_threads(),
    }


MOLECULES = Kind(
    suits=_suits,
    methods=METHODS,
    usual=tuple(METHODS),
    draws=1,
    steps=None,
    unsuitable=_unsuitable,
    task=_task,
    against=_against,
    read=_read,
    table=_table,
    legend=_legend,
    write=_write,
    draw=_draw,
    facts=_facts,
)
