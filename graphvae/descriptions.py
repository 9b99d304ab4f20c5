"""A module as plain JSON and back: its class, from a fixed set, and the arguments that made it.

Arguments are read off the attributes of the same names, the convention of PyG (and of scikit-learn). Where PyG or
torch keep an argument elsewhere, `library_arguments` says where. A description is tried out before it is trusted: the
rebuilt module must agree with the original in every plain attribute and every tensor's shape.
"""

from __future__ import annotations

import inspect
import math
from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch_geometric import nn as pyg
from torch_geometric.nn import GATv2Conv, MessagePassing
from torch_geometric.nn.models.basic_gnn import BasicGNN

from graphvae import (
    backbones,
    controls,
    decoders,
    denoisers,
    edges,
    encoders,
    estimates,
    features,
    hierarchy,
    model,
    orderings,
    pair_decoders,
    priors,
    proposals,
)
from graphvae.library_arguments import READ_ELSEWHERE, aggregation

_registered: dict[str, type[nn.Module]] = {}
_OURS = (
    model,
    encoders,
    priors,
    edges,
    hierarchy,
    pair_decoders,
    estimates,
    proposals,
    controls,
    features,
    decoders,
    denoisers,
    orderings,
    backbones,
)
# PyG's Sequential makes Python code out of its strings; a file must not get to do that. Use `backbones.Stack`.
_REFUSED = (pyg.Sequential,)
_TRANSIENT = ("training", "_use_segment_matmul_heuristic_output")  # The latter is what RGCNConv found to be faster.
_PLAIN = (bool, int, float, str, type(None))


def register(cls: type[nn.Module]) -> type[nn.Module]:
    """Lets `save` and `load` know a module class of yours; use it as a decorator.

    The class must keep each argument of its constructor as an attribute of the same name.
    """
    _registered[cls.__name__] = cls
    return cls


def describe(module: nn.Module) -> dict[str, Any]:
    """`{"class": name, "arguments": {...}, "layers": [...]}`, tried out by rebuilding.

    Raises:
        ValueError: A class is unknown, or its arguments cannot be read back; the message says which.
    """
    with torch.random.fork_rng([]):
        description = _describe(module)
        _check_equal(module, build(description))
    return description


def build(description: Any) -> nn.Module:
    """The module a description stands for, with fresh weights.

    Raises:
        ValueError: Not a description, or of a class outside graphvae, torch.nn, torch_geometric.nn and `register`.
    """
    try:
        return _build(description)
    except RecursionError as error:
        raise ValueError("not a description of a module: it is nested too deeply") from error


def _build(description: Any) -> nn.Module:
    if not isinstance(description, dict) or set(description) != {"class", "arguments", "layers"}:
        raise ValueError(f"not a description of a module: {str(description)[:80]}")
    cls, layers, arguments = _class_named(description["class"]), description["layers"], description["arguments"]
    if not isinstance(layers, list) or not isinstance(arguments, dict):
        raise ValueError(f"'layers' of {description['class']} must be a list and 'arguments' a table")
    positional = [_value_of(layer) for layer in layers]
    named = {name: _value_of(value) for name, value in arguments.items()}
    try:
        return cls(*positional, **named)
    except Exception as error:  # A constructor may fail in any way on arguments from a file.
        raise ValueError(f"{description['class']} cannot be built as described: {error}") from error


def _describe(module: nn.Module) -> dict[str, Any]:
    name = _name_of(type(module))
    if isinstance(module, (nn.Sequential, backbones.Stack)):
        children = module if isinstance(module, nn.Sequential) else module.layers
        return {"class": name, "arguments": {}, "layers": [_describe(child) for child in children]}
    arguments = {p.name: _json_of(_argument(module, p), f"{name}.{p.name}") for p in _parameters(module)}
    if isinstance(module, BasicGNN):
        arguments |= _layer_arguments(module)
    description = {"class": name, "arguments": arguments, "layers": []}
    if isinstance(module, (BasicGNN, MessagePassing)):
        arguments |= _passed_on(module, build(description))
    return description


def _parameters(module: nn.Module) -> list[inspect.Parameter]:
    parameters = inspect.signature(type(module).__init__).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return [p for p in named if p.name not in ("self", "device", "dtype")]


def _argument(module: nn.Module, parameter: inspect.Parameter) -> Any:
    for cls, name, read in READ_ELSEWHERE:
        if isinstance(module, cls) and name == parameter.name:
            return read(module)
    if not hasattr(module, parameter.name):
        if parameter.default is not parameter.empty:
            return parameter.default
        raise ValueError(
            f"{type(module).__name__} cannot be saved: it does not keep its argument '{parameter.name}' as an attribute"
        )
    value = getattr(module, parameter.name)
    if isinstance(parameter.default, bool) and (value is None or isinstance(value, torch.Tensor)):
        return value is not None  # "bias=True" becomes a parameter, "bias=False" None.
    return value


def _layer_arguments(module: BasicGNN) -> dict[str, Any]:
    """Arguments that a PyG model passed on to its layers and did not keep, where they differ from the layer's own."""
    layer = module.convs[0]
    own = {p.name for p in _parameters(module)} | {"in_channels", "out_channels", "nn"}
    passed: dict[str, Any] = {"v2": True} if isinstance(layer, GATv2Conv) else {}
    for p in _parameters(layer):
        value = None if p.name in own else _argument(layer, p)
        if p.name not in own and (p.default is p.empty or value != p.default):
            passed[p.name] = _json_of(value, f"{type(module).__name__}.{p.name}")
    return passed


def _passed_on(module: nn.Module, rebuilt: nn.Module) -> dict[str, Any]:
    """Arguments that went through `**kwargs` to `MessagePassing`: they show as differences to the rebuilt module."""
    layer, other = (m.convs[0] if isinstance(m, BasicGNN) else m for m in (module, rebuilt))
    read = {"aggr": aggregation, "flow": lambda layer: layer.flow}
    names = [name for name in read if getattr(layer, name) != getattr(other, name)]
    return {name: _json_of(read[name](layer), f"{type(module).__name__}.{name}") for name in names}


def _name_of(cls: type[nn.Module]) -> str:
    if cls in _REFUSED:
        raise ValueError("torch_geometric.nn.Sequential cannot be saved; use graphvae.backbones.Stack")
    for space, prefix in _spaces():
        if space.get(cls.__name__) is cls:
            return f"{prefix}.{cls.__name__}"
    raise ValueError(f"{cls.__name__} cannot be saved: decorate the class with graphvae.descriptions.register")


def _class_named(name: str) -> type[nn.Module]:
    prefix, _, short = str(name).rpartition(".")
    for space, candidate in _spaces():
        cls = space.get(short)
        if candidate == prefix and inspect.isclass(cls) and issubclass(cls, nn.Module) and cls not in _REFUSED:
            return cls
    raise ValueError(f"unknown class '{name}'; a class of yours needs graphvae.descriptions.register before load")


def _spaces() -> list[tuple[dict[str, Any], str]]:
    ours = [(_defined_in(module), module.__name__) for module in _OURS]
    libraries = [(vars(module), module.__name__) for module in (nn, pyg, pyg.aggr)]
    return [*ours, *libraries, (_registered, "registered")]


def _defined_in(module: ModuleType) -> dict[str, Any]:
    return {name: item for name, item in vars(module).items() if getattr(item, "__module__", "") == module.__name__}


def _json_of(value: Any, place: str) -> Any:
    if isinstance(value, nn.Module):
        return _describe(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_json_of(item, place) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"table": {key: _json_of(item, place) for key, item in value.items()}}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    raise ValueError(
        f"{place} cannot be saved: {type(value).__name__} is neither a number, a string nor a module (give functions "
        "as modules)"
    )


def _value_of(value: Any) -> Any:
    if isinstance(value, list):
        return [_value_of(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"table"} and isinstance(value["table"], dict):
        return {key: _value_of(item) for key, item in value["table"].items()}
    if set(value) == {"tensor", "dtype"}:
        dtype = getattr(torch, str(value["dtype"]), None)
        try:
            return torch.tensor(value["tensor"], dtype=dtype)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"not a tensor: {str(value)[:80]}") from error
    return _build(value)


def _check_equal(original: nn.Module, rebuilt: nn.Module) -> None:
    refusal = f"{type(original).__name__} cannot be saved"
    if any(is_lazy(tensor) for tensor in original.state_dict(keep_vars=True).values()):
        raise ValueError(f"{refusal}: it has tensors without a shape; give their sizes in place of -1")
    ours, theirs = dict(original.named_modules()), dict(rebuilt.named_modules())
    for name in ours | theirs:
        if name not in ours or name not in theirs or type(ours[name]) is not type(theirs[name]):
            raise ValueError(f"{refusal}: '{name}' is not what its arguments make, or it is shared")
        mine, yours = _state(ours[name]), _state(theirs[name])
        for key in mine | yours:
            if not _same(mine.get(key), yours.get(key)):
                raise ValueError(f"{refusal}: '{name}.{key}' = {mine.get(key)} would be lost")
    shapes = [{name: tensor.shape for name, tensor in m.state_dict().items()} for m in (original, rebuilt)]
    parameters = [{name for name, _ in m.named_parameters()} for m in (original, rebuilt)]
    if shapes[0] != shapes[1] or parameters[0] != parameters[1]:
        raise ValueError(f"{refusal}: its tensors are not those its arguments make, or they are shared")


def _state(module: nn.Module) -> dict[str, Any]:
    """What a module is beside its weights: attributes, less caches, and the buffers that are not saved."""
    unsaved = {name: module._buffers[name] for name in module._non_persistent_buffers_set}
    kept = {k: v for k, v in vars(module).items() if k[0] != "_" or (isinstance(v, _PLAIN) and v is not None)}
    return {key: value for key, value in (kept | unsaved).items() if key not in _TRANSIENT}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a.cpu(), b.to("cpu", a.dtype))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=1e-5)  # The averages of PNA are stored in single precision.
    if isinstance(a, _PLAIN) or isinstance(b, _PLAIN) or inspect.isroutine(a):
        return bool(a == b)
    return type(a) is type(b)
