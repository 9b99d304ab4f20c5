"""What every command has: its common options, where its output goes, and the device."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

import torch
from accelerate import Accelerator
from rich.console import Console

from graphvae.plots import new_figure

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def common_options(seed: str = "of splits, initialisation and training") -> argparse.ArgumentParser:
    """`--seed`, which is `seed`, `--device` and `--json`, as a parent of a command's parser."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seed", type=int, default=0, help=f"{seed} (default: 0)")
    common.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto, a GPU if there is one)"
    )
    common.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return common


def new_console() -> Console:
    """Of standard output, 120 columns wide where there is no terminal."""
    console = Console(highlight=False)
    # Without a terminal there is no width to fit, and lines are better left whole.
    return console if console.is_terminal else Console(highlight=False, width=120)


def check_outputs(options: argparse.Namespace) -> None:
    """What cannot be written, or drawn, is told before the training rather than after it."""
    if options.out is not None:
        new_figure(1, 1)
        _check_folder(options.out)
    if options.json is not None:
        _check_folder(options.json.parent)
        if options.json.is_dir():
            raise ValueError(f"--json must be a file, {options.json} is a folder")


def _check_folder(folder: Path) -> None:
    """Makes `folder` and tries it out."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        trial = folder / ".graphvae-trial"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise ValueError(f"cannot write to the folder {folder} ({error.strerror})") from error


def check_positive(options: argparse.Namespace, *names: str) -> None:
    """Checks options that are counts."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be positive, got {value}")


def accelerator_of(device: str) -> Accelerator:
    """The accelerator of `--device`.

    Raises:
        ValueError: There is no such device.
    """
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device must be auto, cpu, cuda or cuda:N, got {device}")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"--device {device} asked for, but PyTorch finds no CUDA device; use --device cpu")
        torch.cuda.set_device(device if ":" in device else "cuda:0")
    return Accelerator(cpu=kind == "cpu" or not torch.cuda.is_available())
