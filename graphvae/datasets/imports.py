"""The import graph of Python's own standard library: data that is always there, with nothing to download.

This is a demonstration and a smoke test, not a benchmark. The graph depends on the version of the interpreter, and
its modules were never chosen to be a sample of anything: use it to see a model run and learn, and use published data
to compare models. Every graph carries a fingerprint; scores of different fingerprints must never be compared.

Sources are only parsed: no module of the graph is ever imported or executed for it.
"""

import ast
import gc
import hashlib
import os
import platform
import sys
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.data import Data

from graphvae.datasets.folders import cache_folder, store_arrays

_FORMAT = 1  # of the cache file; raise it whenever the same sources would give another graph
_NUM_FEATURES = 1433  # as many as Cora has
_MIN_MODULES = 3  # a rarer identifier says nothing about a pair of modules

_TEST_FOLDERS = {"test", "tests", "idle_test", "testing"}
# Distributions ship, split or drop these as they please, so that keeping them would make the graph a matter of luck.
_OPTIONAL = (
    *("idlelib", "tkinter", "turtledemo", "turtle", "distutils", "_distutils_system_mod", "lib2to3", "ensurepip"),
    *("venv", "msilib", "pydoc_data", "ctypes.macholib", "sitecustomize"),
)
_IDENTIFIER_FIELD: dict[type, str] = {
    ast.Name: "id",
    ast.Attribute: "attr",
    ast.arg: "arg",
    **dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), "name"),
}
# The fields of each node that can lead to an identifier or an import; half of all nodes are contexts and operators.
_CHILD_FIELDS: dict[type, tuple[str, ...]] = {
    kind: tuple(field for field in kind._fields if field not in {"ctx", "op", "ops"} and kind is not ast.Constant)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}


class _Graph(NamedTuple):
    """What the cache holds; everything else follows from it."""

    modules: np.ndarray  # (N,) unicode, sorted
    edges: np.ndarray  # (E, 2) int64, one row per unordered pair, smaller index first, sorted
    features: np.ndarray  # (F,) unicode, most frequent first
    x: np.ndarray  # (N, F) uint8, 0 or 1


def standard_library(cache: str | os.PathLike[str] | None = None) -> Data:
    r"""Return the import graph of the running interpreter's standard library.

    Nodes are the pure-Python modules, without tests and without the packages that distributions treat as optional.
    Two modules are joined if one has an import statement, anywhere in its source and so also inside functions, that
    names the other. A statement names *one* module per name: the longest prefix of the absolute dotted name that is
    a node. So ``import os.path`` names `os`, ``from a import b`` names `a.b` if that is a module and otherwise `a`,
    never both, and packages on the way to a module are not named.

    Features are the presence of identifiers: variables, attributes, arguments, functions and classes. They do not
    spell out the answer: parts of the names of standard-library modules are no features, and a module's features
    leave out the names which its own import statements mention or bind. (What ``from m import *`` binds is not known
    without executing `m`, and stays.)

    Args:
        cache: Folder for the cache file, made if missing; by default the user's cache folder. A folder that cannot
            be written is no error, the graph is then built on every call (three seconds or so).

    Returns:
        Data with `x` (N, F) float32 in {0, 1}; `edge_index` (2, 2E) int64, both directions, sorted, no self-loops;
        `y` (N,) int64, the top-level package, numbered as in `label_names`; `module_names` and `feature_names`,
        lists of str; `name` and `fingerprint`.

    Raises:
        FileNotFoundError: If the interpreter comes without the sources of its standard library.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = _find_modules(root)
    if not files:
        raise FileNotFoundError(f"no sources of the standard library under {str(root)!r}")
    return _as_data(_cached(root, files, cache_folder() if cache is None else Path(cache)))


def _find_modules(root: Path) -> dict[str, Path]:
    """Map the dotted names of all modules under `root` to their files, sorted by name."""
    found = {}
    for folder, subfolders, names in os.walk(root):
        # Only identifiers can be imported: this also leaves out site-packages, lib-dynload and config-*.
        subfolders[:] = [s for s in subfolders if s.isidentifier() and s not in _TEST_FOLDERS | {"__pycache__"}]
        for path in (Path(folder, name) for name in names if name.endswith(".py")):
            parts = path.relative_to(root).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if parts and parts[-1].isidentifier() and not _is_optional(".".join(parts)) and path.is_file():
                found[".".join(parts)] = path  # a package comes after, and as in Python wins over, a like-named file
    return dict(sorted(found.items()))


def _is_optional(module: str) -> bool:
    return module.startswith(("_sysconfigdata", *(f"{name}." for name in _OPTIONAL))) or module in _OPTIONAL


def _build(files: Mapping[str, Path]) -> _Graph:
    """Parse the sources and join them up; files that do not parse are no nodes."""
    scans = {}
    with _uncollected():
        for module, path in files.items():
            tree = _parse(path)
            if tree is not None:
                parts = module.split(".")
                scans[module] = _scan(tree, package=parts if path.name == "__init__.py" else parts[:-1])
    modules = list(scans)
    edges = _edges(modules, [targets for targets, _ in scans.values()])
    features, x = _features(modules, [identifiers for _, identifiers in scans.values()])
    return _Graph(np.array(modules, dtype=str), edges, np.array(features, dtype=str), x)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Pause the cyclic garbage collector: trees hold no cycles, and looking for some takes a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _parse(path: Path) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library's own invalid escapes are not the caller's business
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that matter, in a fifth of the time of `ast.walk`."""
    todo = [tree]
    while todo:
        node = todo.pop()
        fields = _CHILD_FIELDS.get(type(node))
        if fields is None:  # a string or None, which some fields hold among or in place of nodes
            continue
        yield node
        for field in fields:
            value = getattr(node, field)
            if type(value) is list:
                todo += value
            else:
                todo.append(value)


def _scan(tree: ast.AST, package: Sequence[str]) -> tuple[set[str], set[str]]:
    """Return the absolute dotted names that a module imports, and its identifiers without what these give away."""
    targets: set[str] = set()
    identifiers: set[str] = set()
    bound: set[str] = set()
    for node in _walk(tree):
        field = _IDENTIFIER_FIELD.get(type(node))
        if field is not None:
            identifiers.add(getattr(node, field))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            targets.update(_targets(node, package))
            bound.update(alias.asname for alias in node.names if alias.asname is not None)
    return targets, identifiers - bound - _components(targets)


def _targets(node: ast.Import | ast.ImportFrom, package: Sequence[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = [node.module] if node.module else []
    if node.level:
        depth = len(package) - node.level + 1
        base = [*(package[:depth] if depth > 0 else [""]), *base]  # no module's name begins with a dot
    return [".".join([*base, alias.name]) for alias in node.names]


def _components(names: Iterable[str]) -> set[str]:
    return {part for name in names for part in name.split(".")}


def _edges(modules: Sequence[str], targets: Sequence[Iterable[str]]) -> np.ndarray:
    index = {module: i for i, module in enumerate(modules)}
    pairs = set()
    for source, names in enumerate(targets):
        for name in names:
            while name and name not in index:
                name = name.rpartition(".")[0]
            if name and index[name] != source:
                pairs.add((min(source, index[name]), max(source, index[name])))
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)


def _features(modules: Sequence[str], identifiers: Sequence[set[str]]) -> tuple[list[str], np.ndarray]:
    telling = _components(modules) | _components(sys.stdlib_module_names)
    counts = Counter(name for names in identifiers for name in names - telling)
    usable = [name for name, count in counts.items() if _MIN_MODULES <= count <= len(modules) / 2]
    features = sorted(usable, key=lambda name: (-counts[name], name))[:_NUM_FEATURES]
    column = {name: i for i, name in enumerate(features)}
    x = np.zeros((len(modules), len(features)), dtype=np.uint8)
    for row, names in enumerate(identifiers):
        x[row, [column[name] for name in names if name in column]] = 1
    return features, x


def _as_data(graph: _Graph) -> Data:
    both = np.concatenate([graph.edges, graph.edges[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    packages = [module.partition(".")[0] for module in graph.modules.tolist()]
    names, numbers = np.unique(packages, return_inverse=True)
    return Data(
        x=torch.from_numpy(graph.x).float(),
        edge_index=torch.from_numpy(both.T.copy()),
        y=torch.from_numpy(numbers.astype(np.int64)),
        label_names=names.tolist(),
        module_names=graph.modules.tolist(),
        feature_names=graph.features.tolist(),
        name="stdlib-imports",
        fingerprint=f"stdlib-imports {_interpreter()} {len(graph.modules)} modules {len(graph.edges)} edges "
        f"sha256:{_digest(graph)[:16]}",
    )


def _interpreter() -> str:
    return f"{sys.implementation.name}-{platform.python_version()}"


def _digest(graph: _Graph) -> str:
    """Return the SHA-256 of the sorted edges by name, the names of modules and features, and the matrix."""
    edges = ("\t".join(pair) for pair in graph.modules[graph.edges].tolist())
    blocks = ["\n".join(lines) for lines in (sorted(edges), graph.modules.tolist(), graph.features.tolist())]
    return hashlib.sha256("\n\n".join([*blocks, ""]).encode() + graph.x.tobytes()).hexdigest()


def _cached(root: Path, files: Mapping[str, Path], folder: Path) -> _Graph:
    sizes = sorted((path.relative_to(root).as_posix(), path.stat().st_size) for path in files.values())
    sources = hashlib.sha256(repr(sizes).encode()).hexdigest()[:12]
    path = folder / f"stdlib-imports-{_interpreter()}-v{_FORMAT}-{sources}.npz"
    graph = _load(path)
    if graph is None:
        graph = _build(files)
        store_arrays(path, **graph._asdict(), digest=np.array(_digest(graph)))
    return graph


def _load(path: Path) -> _Graph | None:
    """Read a cache file; None if there is none, or if it does not hold exactly what was stored."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            graph = _Graph(*(arrays[field] for field in _Graph._fields))
            return graph if arrays["digest"].item() == _digest(graph) else None
    except Exception:  # damage shows as nearly any error of zipfile, zlib and numpy, and rebuilding cures them all
        return None
