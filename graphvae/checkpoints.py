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
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    document = {"format": _FORMAT, "frozen": frozen, "model": describe(model)}
    weights = serialise_weights(_own(model))
    document["sha256"] = _digest(weights, document)
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        contents = {folder / _WEIGHTS: weights, folder / _DESCRIPTION: json.dumps(document, indent=1).encode()}
        for file, content in contents.items():
            _new(file).write_bytes(content)
        for file in contents:  # Stopped between the two, the pair is refused by its SHA-256.
            _new(file).replace(file)
    except OSError as error:
        raise ValueError(f"'path' must be a folder that can be written, got {folder} ({error.strerror})") from error


def load(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> Any:
    """Rebuilds the module saved in the folder `path`, in evaluation mode; PyTorch's generator is left as it was.

    Raises:
        ValueError: A file is missing, damaged, or not what `save` writes; the message names it. Or there is no such
            device.
    """
    folder, device = Path(path), _device(device)
    for name in (_DESCRIPTION, _WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"'path' must be a folder written by graphvae.save, {folder / name} is missing")
    document = _parse_description(folder / _DESCRIPTION)
    content = (folder / _WEIGHTS).read_bytes()
    try:
        weights = parse_weights(content)
    except SafetensorError as error:
        raise ValueError(f"{folder / _WEIGHTS} is not a safetensors file ({error}); nothing was loaded") from error
    if _digest(content, document) != document["sha256"]:
        raise ValueError(
            f"{folder} is damaged, or was left by an interrupted save: its SHA-256 is not that in its JSON"
        )
    with torch.random.fork_rng([]):
        model = build(document["model"])
    floating = [tensor.dtype for tensor in weights.values() if tensor.is_floating_point()]
    model = model.to(floating[0]) if floating else model
    try:
        model.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise ValueError(f"{folder / _WEIGHTS} does not fit {_DESCRIPTION}: {error}") from error
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in document["frozen"])
    return model.to(device).eval()


def _device(name: torch.device | str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # The latter where PyTorch is built without CUDA.
        reason = str(error).partition("\n")[0]
        raise ValueError(f"'device' must be one that PyTorch sees, got '{name}' ({reason}); use 'cpu'") from error


def _own(model: nn.Module) -> dict[str, torch.Tensor]:
    # safetensors refuses shared storage and gaps.
    kept = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in kept.items()}


def _digest(weights: bytes, document: dict[str, Any]) -> str:
    described = json.dumps({name: value for name, value in document.items() if name != "sha256"}, sort_keys=True)
    return hashlib.sha256(weights + described.encode()).hexdigest()


def _parse_description(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["format"] > _FORMAT:
            raise ValueError(f"{path} has format {document['format']}, this graphvae reads up to {_FORMAT}; upgrade it")
        if set(document) != {"format", "frozen", "model", "sha256"} or not isinstance(document["frozen"], list):
            raise KeyError(", ".join(document))
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is not a description written by graphvae.save ({error})") from error
    return document


def _new(path: Path) -> Path:
    return path.with_name(path.name + ".new")
