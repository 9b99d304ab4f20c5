"""The state of an interrupted training run on disk: written whole or not at all, continued bit for bit."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, contiguous_format, nn, sparse_csr, uint8
from torch_geometric.data import Batch

from graphvae.graphs import contents

if TYPE_CHECKING:
    from graphvae.training import History

_LATEST, _BEST = "latest.json", "best.safetensors"


class RunFolder:
    """One run's state in one folder.

    Args:
        path: Made if it does not exist.
        accelerator: It holds the prepared model and optimiser of this run and nothing else.
        settings: What must be the same for a run to be continued.

    Raises:
        ValueError: `path` cannot be written.
    """

    def __init__(self, path: Path, accelerator: Accelerator, settings: dict[str, int | str]) -> None:
        self.path, self.accelerator, self.settings = path, accelerator, settings
        try:
            path.mkdir(parents=True, exist_ok=True)
            probe = path / f"{_LATEST}.new"
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise ValueError(f"'folder' must be a folder that can be written, got {path} ({error.strerror})") from error

    def save(self, history: History, best: dict[str, Tensor] | None, epoch: int) -> None:
        """Writes the state into a folder of its own, then points `latest.json` at it and removes the one before."""
        state = self._state(epoch)
        self.accelerator.save_state(str(state))
        self.accelerator.wait_for_everyone()
        if not self.accelerator.is_main_process:
            return
        if best is not None:
            # Clones, because safetensors refuses weights that share memory.
            save_file({k: t.clone(memory_format=contiguous_format) for k, t in best.items()}, state / _BEST)
        pointer = self.path / f"{_LATEST}.new"
        pointer.write_text(json.dumps({"epoch": epoch, "settings": self.settings, "history": asdict(history)}))
        pointer.replace(self.path / _LATEST)
        for old in self.path.glob("epoch-*"):
            if old != state:
                shutil.rmtree(old)

    def load(self, step: nn.Module, history: History, epochs: int) -> tuple[int, dict[str, Tensor] | None]:
        """Restores the run, if there is one, into the accelerator's prepared objects and `history`.

        Returns:
            The last finished epoch, 0 if there is no run, and the best weights if there are any.

        Raises:
            ValueError: The run is damaged, of another model or other settings, or longer than `epochs`; `step`, the
                prepared model, keeps its weights.
        """
        if not (self.path / _LATEST).exists():
            return 0, None
        before = copy.deepcopy(step.state_dict())
        try:
            latest = json.loads((self.path / _LATEST).read_text())
            self._check(latest, epochs)
            best = self._state(latest["epoch"]) / _BEST
            weights = load_file(best) if best.exists() else None
            with _global_generators_kept():
                self.accelerator.load_state(str(self._state(latest["epoch"])))
        except Exception as error:  # Files can be bad in any way; the cause is in the message.
            step.load_state_dict(before)
            cause = " ".join(str(error).split())[:300]
            raise ValueError(f"'folder' {self.path} holds another or a damaged run: {cause}") from error
        history.objective = latest["history"]["objective"]
        history.scores = {int(epoch): score for epoch, score in latest["history"]["scores"].items()}
        return latest["epoch"], weights

    def _state(self, epoch: int) -> Path:
        return self.path / f"epoch-{epoch:06d}"

    def _check(self, latest: dict[str, Any], epochs: int) -> None:
        for name, value in self.settings.items():
            found = latest["settings"].get(name)
            if found != value:
                raise ValueError(f"its '{name}' is {found}, not {value}")
        if latest["epoch"] > epochs:
            raise ValueError(f"it has {latest['epoch']} epochs, more than the {epochs} asked for")


def digest(graphs: Batch) -> str:
    """A short fingerprint of features, edges and sizes, by which a run knows its data."""
    return fingerprint(contents(graphs))


def fingerprint(tensors: Sequence[Tensor], settings: str = "") -> str:
    """A short fingerprint of tensors and of settings in words."""
    found = hashlib.sha256()
    for tensor in tensors:
        sparse = tensor.layout == sparse_csr
        parts = (tensor.crow_indices(), tensor.col_indices(), tensor.values()) if sparse else (tensor,)
        for part in parts:
            found.update(part.detach().cpu().contiguous().flatten().view(uint8).numpy().data)
    found.update(settings.encode())
    return found.hexdigest()[:16]


@contextmanager
def _global_generators_kept() -> Iterator[None]:
    # accelerate restores Python's and numpy's generators too, which are not ours to touch; `fit` guards PyTorch's.
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
