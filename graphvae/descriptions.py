"""A module as plain JSON and back: its class, from a fixed set, and the arguments that made it.

Arguments are read off the attributes of the same names, the convention of PyG (and of scikit-learn). Where PyG or
torch keep an argument elsewhere, `_READ_ELSEWHERE` says where. A description is tried out before it is trusted: the
rebuilt module must agree with the original in every plain attribute and every tensor's shape.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch_geometric.nn
from torch import nn
from torch_geometric.nn.models.basic_gnn import BasicGNN

from graphvae import backbones, edges, encoders, features, model, priors

_registered: dict[str, type[nn.Module]] = {}
_OURS = (model, encoders, priors, edges, features, backbones)
# PyG's Sequential makes Python code out of its strings; a file must not get to do that. Use `backbones.Stack`.
_REFUSED = (torch_geometric.nn.Sequential,)
_PLAIN = (bool, int, float, str, type(None))


def register(cls: type[nn.Module]) -> type[nn.Module]:
    """Lets `save` and `load` know a module class of yours; use it as a decorator.

    The class must keep each argument of its constructor as an attribute of the same name.
    """
    _registered[cls.__name__] = cls
    return cls


def describe(module: nn.Module) -> dict[str, Any]:
    """`{"class": name, "arguments": {...}}`, tried out by rebuilding.

    Raises:
        ValueError: A class is unknown, or its arguments cannot be read back; the message says which.
    """
    description = _describe(module)
    _check_equal(module, build(description))
    return description


def build(description: Any) -> nn.Module:
    """The module a description stands for, with fresh weights.

    Raises:
        ValueError: Not a description, or of a class outside graphvae, torch.nn, torch_geometric.nn and `register`.
    """
    if not isinstance(description, dict) or set(description) != {"class", "arguments", "layers"}:
        raise ValueError(f"not a description of a module: {str(description)[:80]}")
    cls = _class_named(description["class"])
    layers = [_value_of(layer) for layer in description["layers"]]
    try:
        return cls(*layers, **{name: _value_of(value) for name, value in description["arguments"].items()})
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{description['class']} cannot be built as described: {error}") from error


def _describe(module: nn.Module) -> dict[str, Any]:
    name = _name_of(type(module))
    if isinstance(module, (nn.Sequential, backbones.Stack)):
        children = module if isinstance(module, nn.Sequential) else module.layers
        return {"class": name, "arguments": {}, "layers": [_describe(child) for child in children]}
    parameters = inspect.signature(type(module).__init__).parameters.values()
    named = [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and p.name not in ("self", "device", "dtype")]
    arguments = {p.name: _json_of(_argument(module, p), f"{name}.{p.name}") for p in named}
    if isinstance(module, BasicGNN):
        arguments |= _layer_arguments(module)
    return {"class": name, "arguments": arguments, "layers": []}


def _argument(module: nn.Module, parameter: inspect.Parameter) -> Any:
    for cls, name, read in _READ_ELSEWHERE:
        if isinstance(module, cls) and name == parameter.name:
            return read(module)
    if not hasattr(module, parameter.name):
        if parameter.default is not parameter.empty:
            return parameter.default
        raise ValueError(
            f"{type(module).__name__} cannot be saved: it does not keep its argument '{parameter.name}' as an attribute"
        )
    value = getattr(module, parameter.name)
    # "bias=True" becomes a parameter, "bias=False" None.
    return value is not None if parameter.name == "bias" and not isinstance(value, bool) else value


def _layer_arguments(module: BasicGNN) -> dict[str, Any]:
    """Arguments that a PyG model passed on to its layers and did not keep, where they differ from the layer's own."""
    layer = module.convs[0]
    parameters = inspect.signature(type(layer).__init__).parameters.values()
    own = inspect.signature(type(module).__init__).parameters
    passed: dict[str, Any] = {}
    for p in parameters:
        if p.name in own or p.name in ("in_channels", "out_channels", "bias") or p.default is p.empty:
            continue
        value = getattr(layer, p.name, p.default)
        if isinstance(value, _PLAIN) and isinstance(p.default, _PLAIN) and value != p.default:
            passed[p.name] = value
    return passed


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
    ours = [(vars(module), module.__name__) for module in _OURS]
    libraries = [(vars(module), module.__name__) for module in (nn, torch_geometric.nn, torch_geometric.nn.aggr)]
    return [*ours, *libraries, (_registered, "registered")]


def _json_of(value: Any, place: str) -> Any:
    if isinstance(value, nn.Module):
        return _describe(value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)):
        return [_json_of(item, place) for item in value]
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist()}
    raise ValueError(f"{place} cannot be saved: {type(value).__name__} is neither a number, a string nor a module")


def _value_of(value: Any) -> Any:
    if isinstance(value, list):
        return [_value_of(item) for item in value]
    if isinstance(value, dict):
        return torch.tensor(value["tensor"]) if set(value) == {"tensor"} else build(value)
    return value


def _check_equal(original: nn.Module, rebuilt: nn.Module) -> None:
    ours, theirs = dict(original.named_modules()), dict(rebuilt.named_modules())
    for name in ours | theirs:
        if name not in ours or name not in theirs or type(ours[name]) is not type(theirs[name]):
            raise ValueError(f"{type(original).__name__} cannot be saved: '{name}' is not what its arguments make")
        for key, value in vars(ours[name]).items():
            if key != "training" and isinstance(value, _PLAIN) and vars(theirs[name]).get(key) != value:
                raise ValueError(f"{type(ours[name]).__name__} cannot be saved: '{name}.{key}' = {value} would be lost")
    shapes = [{name: tensor.shape for name, tensor in m.state_dict().items()} for m in (original, rebuilt)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"{type(original).__name__} cannot be saved: its tensors are not those its arguments make")


_READ_ELSEWHERE: list[tuple[type, str, Callable[[Any], Any]]] = [
    (BasicGNN, "dropout", lambda m: m.dropout.p),
    (BasicGNN, "jk", lambda m: m.jk_mode),
    (BasicGNN, "act", lambda m: None if m.act is None else type(m.act).__name__),
    (BasicGNN, "act_kwargs", lambda m: None),
    (BasicGNN, "out_channels", lambda m: m.out_channels if getattr(m, "_is_conv_to_out", False) or m.jk_mode else None),
    # Only the averages of the degree histogram are kept, as buffers, which the weights fill in.
    (torch_geometric.nn.PNAConv, "deg", lambda m: torch.tensor([0, 1])),
    (torch_geometric.nn.PNAConv, "act", lambda m: "relu"),
    (torch_geometric.nn.GINConv, "eps", lambda m: m.initial_eps),
    (torch_geometric.nn.GINConv, "train_eps", lambda m: isinstance(m.eps, nn.Parameter)),
]
