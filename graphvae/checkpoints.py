"""A model or an encoder on disk: weights as safetensors, structure as JSON; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_weights
from safetensors.torch import save as serialise_weights
from torch import nn

from graphvae.descriptions import build, describe

_FORMAT = 1
_WEIGHTS, _DESCRIPTION = "model.safetensors", "model.json"


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes `model` into the folder `path`: `model.safetensors` and `model.json`.

    The JSON names classes of graphvae, `torch.nn` and `torch_geometric.nn` and their arguments; a class of your own is
    saved once `descriptions.register` knows it. The description is tried out before anything is written.

    Raises:
        ValueError: The model cannot be described, or the folder cannot be written.
    """
    description = describe(model)
    weights = serialise_weights({name: tensor.detach().cpu().contiguous() for name, tensor in _own(model).items()})
    document = {"format": _FORMAT, "sha256": hashlib.sha256(weights).hexdigest(), "model": description}
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / _WEIGHTS, weights)
        _write(folder / _DESCRIPTION, json.dumps(document, indent=1).encode())
    except OSError as error:
        raise ValueError(f"'path' must be a folder that can be written, got {folder} ({error.strerror})") from error


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Any:
    """Rebuilds the module saved in the folder `path`, in evaluation mode.

    Raises:
        ValueError: A file is missing, damaged, or not what `save` writes; the message names it.
    """
    folder = Path(path)
    for name in (_DESCRIPTION, _WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"'path' must be a folder written by graphvae.save, {folder / name} is missing")
    document = _parse_description(folder / _DESCRIPTION)
    content = (folder / _WEIGHTS).read_bytes()
    try:
        weights = parse_weights(content)
    except SafetensorError as error:
        raise ValueError(f"{folder / _WEIGHTS} is not a safetensors file ({error}); nothing was loaded") from error
    if hashlib.sha256(content).hexdigest() != document["sha256"]:
        raise ValueError(f"{folder / _WEIGHTS} is damaged: its SHA-256 is not the one in {_DESCRIPTION}")
    model = build(document["model"])
    floating = [tensor.dtype for tensor in weights.values() if tensor.is_floating_point()]
    model = model.to(floating[0]) if floating else model
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{folder / _WEIGHTS} does not fit {_DESCRIPTION}: {error}") from error
    return model.to(device).eval()


def _own(model: nn.Module) -> dict[str, torch.Tensor]:
    # safetensors refuses shared storage; a clone of each is what load needs anyway.
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _parse_description(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
        if document["format"] > _FORMAT:
            raise ValueError(f"{path} has format {document['format']}, this graphvae reads up to {_FORMAT}; upgrade it")
        return {"model": document["model"], "sha256": document["sha256"]}
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a description written by graphvae.save ({error})") from error


def _write(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)
