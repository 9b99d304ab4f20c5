"""The import graph of the standard library: its figures, its rules on a hand-written library, and its cache."""

import ast
import platform
import sys
import sysconfig
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from graphvae.datasets import imports
from graphvae.datasets.imports import standard_library

# Eight modules. `everywhere` is in five, too many; `zeta` in four; the others that count in three.
SOURCES = {
    "alpha.py": "import beta, pkg.leaf as twig\neverywhere = twig.shared, leaf, zeta\nraise SystemExit\n",
    "beta.py": """
def shared(argument):
    def inner():
        from pkg import leaf, common
        return everywhere(leaf.field, argument, common, zeta)
""",
    "gamma.py": """
from alpha import shared as common
import os.path, beta.missing
class Everything:
    everywhere = shared, common, argument, field, leaf, zeta
""",
    "delta.py": """
try:
    import broken
except ImportError:
    pass
async def shared():
    everywhere.field = lambda argument: (os, leaf, zeta)
    global everything
""",
    "pkg/__init__.py": """
from . import leaf
from .leaf import common
from .sub.deep import *
leaf, common, everywhere
""",
    "pkg/leaf.py": "from . import sub, argument\nfrom ..alpha import everything\ncommon = argument, re, '\\d'\n",
    "pkg/sub/__init__.py": "from .. import leaf as deep\nfrom . import nothing\ndeep.common = re\n",
    "pkg/sub/deep.py": "def common():\n    import pkg.sub, pkg.sub.deep\n    re\n",
}
EDGES = {
    ("alpha", "beta"),
    ("alpha", "gamma"),
    ("alpha", "pkg.leaf"),
    ("beta", "gamma"),  # by its longest prefix: there is no beta.missing
    ("beta", "pkg"),
    ("beta", "pkg.leaf"),
    ("pkg", "pkg.leaf"),
    ("pkg", "pkg.sub.deep"),
    ("pkg.leaf", "pkg.sub"),
    ("pkg.sub", "pkg.sub.deep"),
}
FEATURES = {
    "zeta": {"alpha", "beta", "gamma", "delta"},
    "argument": {"beta", "gamma", "delta"},  # pkg.leaf imports it
    "common": {"pkg.leaf", "pkg.sub", "pkg.sub.deep"},  # beta and pkg import it, gamma binds it
    "field": {"beta", "gamma", "delta"},
    "shared": {"alpha", "beta", "delta"},  # gamma imports it under another name
}
NO_NODES = {
    "broken.py": b"def (\n",
    "undecodable.py": b"x = '\xff'\n",
    "with-dash.py": b"import alpha\n",
    "turtle.py": b"import alpha\n",
    "_sysconfigdata_x.py": b"import alpha\n",
    "test/case.py": b"import alpha\n",
    "pkg/tests/case.py": b"import alpha\n",
    "pkg/__pycache__/leaf.py": b"import alpha\n",
    "venv/__init__.py": b"import alpha\n",
    "ctypes/macholib/dyld.py": b"import alpha\n",
    "site-packages/other.py": b"import alpha\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(folder: Path) -> Data:
    return standard_library(folder)


@pytest.fixture
def miniature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a hand-written standard library in place of the interpreter's."""
    root = tmp_path / "stdlib"
    for name, source in {**{name: text.encode() for name, text in SOURCES.items()}, **NO_NODES}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(source)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(root)})
    return root


def assert_identical(a: Data, b: Data) -> None:
    assert set(a.keys()) == set(b.keys())
    for key, value in a.to_dict().items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == b[key].dtype
            assert torch.equal(value, b[key])
        else:
            assert value == b[key]


def read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def edge_names(data: Data) -> list[tuple[str, str]]:
    return [(data.module_names[i], data.module_names[j]) for i, j in data.edge_index.T.tolist()]


def imported_names(source: bytes) -> set[str]:
    """Return all that the import statements of a source mention or bind, found in another way than the library's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {alias.name for n in nodes for alias in n.names} | {alias.asname or "" for n in nodes for alias in n.names}
    names |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    return set(".".join(names).split("."))


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11), reason="counted on CPython 3.11"
)
def test_counts(data: Data) -> None:
    assert data.num_nodes == 503
    assert data.num_edges // 2 in ({1909} if sys.version_info[2] == 7 else range(1895, 1921))
    assert data.x.shape == (503, 1433)


def test_counts_within_bounds(data: Data) -> None:
    assert 300 < data.num_nodes < 1000
    assert 2 * data.num_nodes < data.num_edges // 2 < 8 * data.num_nodes
    assert data.x.shape == (len(data.module_names), len(data.feature_names))
    assert data.num_features <= 1433


def test_edges_are_sorted_symmetric_without_loops_and_duplicates(data: Data) -> None:
    pairs = [tuple(pair) for pair in data.edge_index.T.tolist()]
    assert data.edge_index.dtype == torch.int64
    assert pairs == sorted(set(pairs))
    assert {(j, i) for i, j in pairs} == set(pairs)
    assert all(i != j for i, j in pairs)


def test_features_are_binary_and_of_the_asked_frequency(data: Data) -> None:
    assert data.x.dtype == torch.float32
    assert set(data.x.unique().tolist()) == {0.0, 1.0}
    counts = data.x.sum(0).int().tolist()
    assert min(counts) >= 3
    assert max(counts) <= data.num_nodes / 2
    ranks = [(-count, name) for count, name in zip(counts, data.feature_names, strict=True)]
    assert ranks == sorted(ranks)


def test_no_feature_is_part_of_a_module_name(data: Data) -> None:
    parts = {part for name in [*data.module_names, *sys.stdlib_module_names] for part in name.split(".")}
    assert parts.isdisjoint(data.feature_names)


def test_no_feature_of_a_module_is_a_name_it_imports(data: Data) -> None:
    files = imports._find_modules(Path(sysconfig.get_paths()["stdlib"]))
    for row in range(0, data.num_nodes, 10):
        present = {data.feature_names[i] for i in data.x[row].nonzero().flatten().tolist()}
        assert present.isdisjoint(imported_names(files[data.module_names[row]].read_bytes()))


def test_labels_are_top_level_packages(data: Data) -> None:
    packages = sorted({name.split(".")[0] for name in data.module_names})
    assert data.y.dtype == torch.int64
    assert [packages[label] for label in data.y.tolist()] == [name.split(".")[0] for name in data.module_names]


def test_fingerprint(data: Data) -> None:
    start = f"stdlib-imports {sys.implementation.name}-{platform.python_version()} {data.num_nodes} modules "
    assert data.name == "stdlib-imports"
    assert data.fingerprint.startswith(f"{start}{data.num_edges // 2} edges sha256:")
    assert len(data.fingerprint.partition("sha256:")[2]) == 16


def test_nothing_was_executed(data: Data) -> None:
    assert "antigravity" in data.module_names
    assert "antigravity" not in sys.modules


def test_cache_hit_equals_fresh_build(data: Data, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_build", None)
    assert_identical(standard_library(folder), data)
    (file,) = folder.iterdir()
    assert platform.python_version() in file.name


def test_miniature(miniature: Path, tmp_path: Path) -> None:
    data = standard_library(tmp_path / "cache")
    assert data.module_names == ["alpha", "beta", "delta", "gamma", "pkg", "pkg.leaf", "pkg.sub", "pkg.sub.deep"]
    assert edge_names(data) == sorted(EDGES | {(b, a) for a, b in EDGES})
    assert data.feature_names == list(FEATURES)
    rows = [[float(module in modules) for modules in FEATURES.values()] for module in data.module_names]
    assert data.x.tolist() == rows
    assert data.y.tolist() == [0, 1, 2, 3, 4, 4, 4, 4]


def test_fingerprint_follows_the_edges(miniature: Path, tmp_path: Path) -> None:
    before = standard_library(tmp_path)
    (miniature / "delta.py").write_text(SOURCES["delta.py"].replace("import broken", "import alpha"))
    after = standard_library(tmp_path)  # another size, and so another file of the cache
    assert torch.equal(before.x, after.x)
    assert before.fingerprint.split(":")[1] != after.fingerprint.split(":")[1]


def test_says_nothing(miniature: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pkg.leaf has an invalid escape
        standard_library(tmp_path)
        assert standard_library(tmp_path).num_nodes == 8
    assert capfd.readouterr() == ("", "")


def test_package_wins_over_module_of_the_same_name(miniature: Path, tmp_path: Path) -> None:
    (miniature / "pkg.py").write_text("import gamma\n")
    assert ("gamma", "pkg") not in edge_names(standard_library(tmp_path))


@pytest.mark.parametrize("damage", ["empty", "garbage", "truncated", "missing", "altered", "folder"])
def test_damaged_cache_is_rebuilt(miniature: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    fresh = standard_library(cache)
    (file,) = cache.iterdir()
    content = file.read_bytes()
    arrays = read(file)
    if damage == "missing":
        np.savez(file, modules=arrays["modules"])
    elif damage == "altered":
        np.savez(file, **{**arrays, "x": 1 - arrays["x"]})
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "garbage": b"graph", "truncated": content[: len(content) // 2]}[damage])
    assert_identical(standard_library(cache), fresh)
    assert list(cache.iterdir()) == [file]
    if damage != "folder":
        assert read(file).keys() == arrays.keys()


def test_unwritable_cache_is_no_error(miniature: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_identical(standard_library(tmp_path / "file" / "cache"), standard_library(tmp_path / "cache"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has LOCALAPPDATA instead")
def test_default_cache_folder(miniature: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    standard_library()
    assert len(list((tmp_path / "xdg" / "graphvae").iterdir())) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    standard_library()
    assert len(list((tmp_path / "home" / ".cache" / "graphvae").iterdir())) == 1


def test_library_without_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match="no sources"):
        standard_library(tmp_path)
