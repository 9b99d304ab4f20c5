"""A module imports only from layers below its own (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

import graphvae

PACKAGE = Path(graphvae.__file__).parent
LAYERS = {
    "sparse": 0,
    "signatures": 0,
    "layout": 0,
    "validation": 0,
    "collation": 0,
    "graphs": 0,
    "tiles": 0,
    "softplus_tile": 0,
    "fused_pairs": 0,
    "pairs": 0,
    "nonedges": 0,
    "colours": 1,
    "automorphisms": 1,
    "adjacencies": 1,
    "orbits": 1,
    "isomorphism": 1,
    "neighbors": 1,
    "masking": 2,
    "distributions": 1,
    "edge_distributions": 1,
    "families": 1,
    "expectations": 1,
    "fixed_order": 1,
    "placed": 1,
    "protocols": 2,
    "decoders": 2,
    "matching": 1,
    "neighbour_maxima": 1,
    "pair_scores": 1,
    "proposals": 1,
    "controls": 1,
    "estimates": 1,
    "conventions": 2,
    "order_sets": 1,
    "sort_keys": 1,
    "structure": 1,
    "spectra": 1,
    "orders": 1,
    "traversals": 1,
    "orderings": 2,
    "priors": 2,
    "hierarchy": 2,
    "encoders": 2,
    "backbones": 2,
    "isolated": 2,
    "norms": 2,
    "edges": 2,
    "pair_decoders": 2,
    "features": 2,
    "corruptions": 2,
    "denoisers": 2,
    "model": 3,
    "contracts": 4,
    "bounds": 4,
    "objectives": 4,
    "linear": 4,
    "testing": 4,
    "library_arguments": 5,
    "resuming": 5,
    "sources": 5,
    "stepping": 5,
    "training": 5,
    "descriptions": 5,
    "checkpoints": 5,
    "datasets": 5,
    "evaluation": 5,
    "recipes": 6,
    "plots": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 9,
}
FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def part_of(name: str) -> str:
    return name.removeprefix("graphvae").removeprefix(".").partition(".")[0] or "__init__"


def imported(path: Path) -> set[str]:
    """The parts of graphvae that a file imports when it runs, not those it only names in annotations."""
    tree = ast.parse((PACKAGE / path).read_text())
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphvae"):
            names = [alias.name for alias in node.names] if node.module == "graphvae" else [""]
            found |= {part_of(f"{node.module}.{name}" if name in LAYERS else node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {part_of(alias.name) for alias in node.names if alias.name.startswith("graphvae")}
    return found


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down(path):
    own = path.parts[0].removesuffix(".py")
    assert own in LAYERS, f"{own} has no layer yet; give it one here and in docs/architecture.md"
    for other in imported(path) - {own, "__init__"}:
        assert LAYERS[other] <= LAYERS[own], f"{path} imports from {other}, which is above it"


def test_layer_zero_is_in_order():
    """Within layer 0 too there is one direction: sparse, validation, layout, graphs, tiles, pairs."""
    for name in ("sparse.py", "softplus_tile.py", "fused_pairs.py"):
        assert imported(Path(name)) == set()
    assert imported(Path("validation.py")) == {"sparse"}
    assert imported(Path("layout.py")) == {"sparse"}
    assert imported(Path("collation.py")) == {"validation"}
    assert imported(Path("graphs.py")) == {"sparse", "validation", "layout", "collation"}
    assert imported(Path("tiles.py")) == {"layout"}
    assert imported(Path("pairs.py")) == {"sparse", "layout", "tiles", "softplus_tile", "fused_pairs"}


def test_only_the_command_line_reads_the_version_from_the_package():
    assert {str(path) for path in FILES if "__init__" in imported(path)} <= {"cli/__init__.py"}


def test_the_library_does_not_print_or_seed():
    for path in FILES:
        tree = ast.parse((PACKAGE / path).read_text())
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not calls & {"print", "torch.set_default_dtype", "random.seed", "np.random.seed"}, path
        assert "torch.manual_seed" not in calls, path
        if path.name not in ("training.py", "seeded.py"):  # They fork the generator first.
            assert "torch.default_generator.manual_seed" not in calls, path
