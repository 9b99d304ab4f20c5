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
from graphvae.cli.decoding import FILE, Decoding, read_decoding
from graphvae.cli.kinds import (
    Kind,
    SampleSet,
    SavedModel,
    check_whole,
    new_table,
    percent,
    sample_files,
    save_model,
    short,
)
from graphvae.datasets import molecules, write_graphs
from graphvae.datasets.molecules import DATASETS, Molecules, all_smiles, is_smiles_file, read_smiles
from graphvae.datasets.small import without_part
from graphvae.datasets.smiles import Alphabet, to_smiles
from graphvae.model import GraphVAE
from graphvae.recipes.comparison import Outcome, Row
from graphvae.recipes.graph_generators import LARGEST_MATCHED
from graphvae.recipes.molecule_generators import METHODS, MoleculeTask

MAX_ATOMS = 20  # So that places, and matching, stay small.
_SHOWN = 6
_NO_MOLECULE = "-"  # In a file of SMILES: a line that nothing reads as one.
_DISTANCES = ("atoms", "bonds", "rings", "sizes")
_LEGEND = """sanitised: passes rdkit's checks without correction. valid: also connected. unique: of the valid. novel: of
the different ones. V.U.N.: different valid molecules that are not in the training set, of all samples. aromatic: valid
ones with an aromatic ring. atoms to sizes: total variation to the test molecules. Brackets: 95 %. No oracle: no process
that makes such molecules is known. Test molecules that are in the training set: {leak:.0%}. No sample is corrected.
Rows of the data that are left out: {rest}."""


def _suits(name: str) -> bool:
    base = Path(without_part(name)[0])
    return str(base).lower() in DATASETS or is_smiles_file(base)


def _task(options: argparse.Namespace) -> MoleculeTask:
    check_whole(options.dataset)
    _check_options(options)
    return MoleculeTask(_data(options.dataset, options))


def _data(name: str, options: argparse.Namespace) -> Molecules:
    """Always of the same parts, whatever the seed: what one command trains on another must not judge by."""
    return molecules(name, options.root, max_atoms=options.max_atoms or MAX_ATOMS)


def _against(options: argparse.Namespace) -> MoleculeTask:
    """Without --train the parts of the reference; with it all of the reference, of which nothing is held out then."""
    _check_options(options)
    base, part = without_part(options.reference)
    if part not in (None, "test"):
        raise ValueError(f"--reference must be test molecules, got {options.reference}; use {base}")
    data = _data(base, options)
    if options.train is not None:
        whole = data.train_smiles + data.val_smiles + data.test_smiles
        data = replace(data, train_smiles=all_smiles(options.train, options.root), val_smiles=[], test_smiles=whole)
    return MoleculeTask(data)


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


def _read(path: Path, task: MoleculeTask) -> list[SampleSet]:
    files = sample_files(path, ".smi") if path.is_dir() else [path]
    if not files:
        raise ValueError(f"the folder {path} has no samples-METHOD.smi; give a file of SMILES, or a saved model")
    return [SampleSet(file.name, _texts(file), task) for file in files]


def _texts(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"no file {path} of samples")
    if not is_smiles_file(path):
        beside = path.with_suffix(".smi")
        why = f": what its types stand for is not in it; use {beside}" if beside.exists() else ""
        raise ValueError(f"samples of molecules must be a file of SMILES (smi, smiles, txt, csv), got {path}{why}")
    texts = read_smiles(path)
    if not texts:
        raise ValueError(f"no SMILES in the file {path}")
    return texts


def _of_model(model: GraphVAE, folder: Path, task: MoleculeTask) -> SavedModel:
    """With the alphabet that is written beside it, else that of the reference, if it can be."""
    stored = read_decoding(folder)
    if stored is not None:
        return SavedModel(_with_alphabet(task, stored.alphabet), stored.settings)
    known, types = task.data.alphabet, 0 if model.decoder is None else model.decoder.node_types
    if model.decoder is None or types != len(known.atoms) or not 2 <= model.edge_types <= len(known.bonds):
        raise ValueError(
            f"{folder} has no {FILE} that says what types of nodes and edges stand for, and they are not those of "
            f"{task.data.name}: {types} and {model.edge_types} for {len(known.atoms)} and {len(known.bonds)}"
        )
    names = f"{', '.join(known.atoms)}; {', '.join(known.bonds)}"
    return SavedModel(task, notes=(f"{folder.name}: types are taken for those of the reference, {names}.",))


def _with_alphabet(task: MoleculeTask, alphabet: Alphabet) -> MoleculeTask:
    return replace(task, data=replace(task.data, alphabet=alphabet))


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


def _write(task: MoleculeTask, outcome: Outcome, folder: Path, method: str) -> list[Path]:
    """Typed graphs; SMILES, a line for each sample; and the model with its alphabet."""
    arrays, lines = (folder / f"samples-{method}.{suffix}" for suffix in ("npz", "smi"))
    write_graphs(arrays, outcome.samples)
    texts = (text or _NO_MOLECULE for text in to_smiles(outcome.samples, task.data.alphabet))
    lines.write_text("".join(f"{text}\n" for text in texts))
    alphabet, model = task.data.alphabet, folder / f"model-{method}"
    files = save_model(outcome, model)
    Decoding(alphabet.atoms, alphabet.bonds, **outcome.fitted.decoding).write(model)
    return [arrays, lines, *files, model / FILE]


def _draw(task: MoleculeTask, samples: Mapping[str, Any], folder: Path) -> list[Path]:
    """Different valid molecules of each method beside test molecules at random, and what all are made of."""
    texts = {name: to_smiles(found, task.data.alphabet, connected=True) for name, found in samples.items()}
    valid = {name: [text for text in found if text] for name, found in texts.items()}
    test = f"{task.data.name}, test"
    few = {test: _at_random(task.data.test_smiles)}
    for name, found in valid.items():
        different = list(dict.fromkeys(found))
        counts = f"valid: {len(found)} of {len(texts[name])}\ndifferent: {len(different)}"
        few[f"{name}\n{counts}"] = different[:_SHOWN]
    pictures = [folder / "molecules.png", folder / "statistics.png"]
    title = "Test molecules at random; of samples the first that are valid and different, the others are not shown"
    plots.generated_molecules(few, pictures[0], _SHOWN, title)
    sets = {test: task.data.test_smiles} | {name: found for name, found in valid.items() if found}
    plots.molecule_histograms(sets, pictures[1], f"{task.data.name}; of samples the valid ones")
    return pictures


def _at_random(smiles: Sequence[str]) -> list[str]:
    """Sets may be in order of size."""
    order = torch.randperm(len(smiles), generator=torch.Generator().manual_seed(0))
    return [smiles[place] for place in order[:_SHOWN].tolist()]


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
    of_model=_of_model,
    table=_table,
    legend=_legend,
    write=_write,
    draw=_draw,
    facts=_facts,
)
