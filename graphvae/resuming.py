"""The state of an interrupted training run on disk: written whole or not at all, continued bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

if TYPE_CHECKING:
    from graphvae.training import History

_LATEST = "latest.json"


def save_progress(
    folder: Path, accelerator: Accelerator, history: dict[str, Any], best: dict[str, Tensor] | None, epoch: int
) -> None:
    """Writes the run's state into a folder of its own, then points `latest.json` at it and removes the one before."""
    state = folder / f"epoch-{epoch:06d}"
    accelerator.save_state(str(state))
    if not accelerator.is_main_process:
        return
    if best is not None:
        save_file({name: tensor.contiguous() for name, tensor in best.items()}, state / "best.safetensors")
    pointer = folder / f"{_LATEST}.new"
    pointer.write_text(json.dumps({"epoch": epoch, "history": history}))
    pointer.replace(folder / _LATEST)
    for old in folder.glob("epoch-*"):
        if old != state:
            shutil.rmtree(old)


def load_progress(folder: Path, accelerator: Accelerator, history: History) -> tuple[int, dict[str, Tensor] | None]:
    """Restores a run into the accelerator's prepared objects and `history`.

    Returns:
        The last finished epoch, 0 if there is no run in `folder`, and the best weights if there are any.

    Raises:
        ValueError: `folder` cannot be written, or the run in it is of another model.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"'folder' must be a folder that can be written, got {folder} ({error.strerror})") from error
    if not (folder / _LATEST).exists():
        return 0, None
    latest = json.loads((folder / _LATEST).read_text())
    state = folder / f"epoch-{latest['epoch']:06d}"
    try:
        accelerator.load_state(str(state))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"'folder' {folder} holds a run of another model: {str(error).splitlines()[0]}") from error
    history.objective = latest["history"]["objective"]
    history.scores = {int(epoch): score for epoch, score in latest["history"]["scores"].items()}
    best = state / "best.safetensors"
    return latest["epoch"], load_file(best) if best.exists() else None
