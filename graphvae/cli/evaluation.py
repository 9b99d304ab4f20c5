"""`graphvae evaluate`: anybody's samples, in files or from saved models, against a reference."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from graphvae.checkpoints import load
from graphvae.cli.common import Commands, accelerator_of, check_outputs, check_positive, common_options, new_console
from graphvae.cli.decoding import in_words
from graphvae.cli.kinds import Kind, SampleSet
from graphvae.cli.shared import add_data_options, kind_of, result_of
from graphvae.model import GraphVAE
from graphvae.recipes.comparison import Row, Task, drawn, finite, pooled


def add_commands(commands: Commands) -> None:
    """Adds `evaluate`."""
    parser = commands.add_parser(
        "evaluate",
        parents=[common_options("of samples that are drawn")],
        help="judge anybody's samples of graphs",
        description="Judges samples against test graphs and training graphs.",
    )
    parser.add_argument(
        "samples",
        type=Path,
        metavar="SAMPLES",
        help="a file of graphs or of SMILES, the folder of a saved model, or one that generate filled, with a row for "
        "each of its files of samples",
    )
    parser.add_argument(
        "--reference",
        required=True,
        metavar="DATA",
        help="test graphs: the test part of a name or file, or the part in NAME:PART; with --train all of it",
    )
    parser.add_argument("--train", metavar="DATA", help="training graphs (default: the train part of the reference)")
    add_data_options(parser, "graphs to draw from a saved model (default: as many as in the reference)")
    parser.add_argument(
        "--most-likely",
        action=argparse.BooleanOptionalAction,
        help="decode each latent of a saved model to its likeliest graph, or draw one (default: as generate did, a "
        "spanning tree of likely edges added where it was)",
    )
    parser.set_defaults(run=_evaluate, out=None)


def _evaluate(options: argparse.Namespace) -> None:
    check_positive(options, "num_graphs", "max_atoms")
    device, kind = accelerator_of(options.device).device, kind_of(options.reference)
    task = kind.against(options)
    sets = _sets(options, kind, task, device)
    check_outputs(options)
    counts = [len(found.samples) for found in sets]
    console = new_console()
    with console.status("judging"):
        found = [_row(one, task, options.seed) for one in sets]
        honesty = task.honesty(1, max(counts), options.seed)
    rows = finite([*honesty.rows, *found])
    size = str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"
    size += " graphs" + " in each file" * (len(sets) > 1) + ", as one draw"
    console.print(kind.table(task, rows, f"{options.samples}: {size}, against {options.reference}"))
    console.print("\n".join([kind.legend(task, honesty.test_in_train), *(note for one in sets for note in one.notes)]))
    protocol = {"samples": str(options.samples), "reference": options.reference, "train_set": options.train}
    result_of(options, kind, task, protocol, honesty, rows)


def _row(one: SampleSet, task: Task, seed: int) -> Row:
    found = pooled([one.task.evaluate(one.samples, torch.Generator().manual_seed(seed))], task.shares)
    return {"method": one.name, **found}


def _sets(options: argparse.Namespace, kind: Kind, task: Task, device: torch.device) -> list[SampleSet]:
    if (options.samples / "model.json").exists():
        return [_from_model(options, kind, task, device)]
    for name in ("num_graphs", "most_likely"):
        if getattr(options, name) is not None:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is for SAMPLES that are a saved model; all graphs of a file are judged")
    return kind.read(options.samples, task)


def _from_model(options: argparse.Namespace, kind: Kind, task: Task, device: torch.device) -> SampleSet:
    folder = options.samples
    model = load(folder, device)
    if not isinstance(model, GraphVAE):
        raise ValueError(f"SAMPLES must be graphs or a saved GraphVAE, {folder} holds {type(model).__name__}")
    if options.most_likely and model.decoder is None:
        raise ValueError(f"--most-likely is for models with a decoder of whole graphs, {folder} holds one without")
    saved = kind.of_model(model, folder, task)
    decoding: Mapping[str, bool] = saved.decoding
    if options.most_likely is not None and options.most_likely != decoding.get("most_likely", False):
        decoding = {"most_likely": options.most_likely}
    generator = torch.Generator().manual_seed(options.seed)
    samples = drawn(partial(model.sample, **decoding), options.num_graphs or task.size, generator)
    words = () if model.decoder is None else (in_words(folder.name, decoding),)
    return SampleSet(folder.name, samples, saved.task, (*words, *saved.notes))
