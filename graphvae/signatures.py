"""What a module's `forward` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import nn


def takes(module: nn.Module, name: str) -> bool:
    """Whether the module's `forward` has an argument of this name; one that takes any arguments takes edges."""
    # To look at a signature takes as long as a small layer; torch.compile, which does it once, warns of caches.
    if torch.compiler.is_compiling() or "forward" in vars(module):
        return name in _arguments(module.forward)
    return name in _remembered_arguments(type(module).forward)


def _arguments(forward: Callable[..., Any]) -> frozenset[str]:
    parameters = inspect.signature(forward).parameters
    anything = any(parameter.kind == parameter.VAR_POSITIONAL for parameter in parameters.values())
    return frozenset(parameters) | ({"edge_index"} if anything else frozenset())


_remembered_arguments = lru_cache(maxsize=1024)(_arguments)
