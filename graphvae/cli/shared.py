"""What `graphvae generate` and `graphvae evaluate` share: options of data and measures, and the result."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from graphvae.cli.graph_kind import GRAPHS, KERNELS
from graphvae.cli.kinds import Kind
from graphvae.cli.molecule_kind import MAX_ATOMS, MOLECULES
from graphvae.recipes.comparison import Honesty, Row, Task
from graphvae.recipes.generation import RULES
from graphvae.recipes.reporting import document, write_json

KINDS = (MOLECULES, GRAPHS)  # Asked in turn whether a data set is theirs; the last takes what is left.


def add_data_options(parser: argparse.ArgumentParser, num_graphs: str) -> None:
    """Adds what both commands are asked about data and measures; `num_graphs` is the help of that option."""
    parser.add_argument("--num-graphs", type=int, metavar="M", help=num_graphs)
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of data sets (default: $GRAPHVAE_DATA, cache)")
    atoms = f"leave out molecules of the data with more heavy atoms; parts stay what they are (default: {MAX_ATOMS})"
    parser.add_argument("--max-atoms", type=int, metavar="K", help=atoms)
    parser.add_argument("--kernel", metavar="NAME", help=f"of the MMDs: {', '.join(KERNELS)} (default: tv)")
    valid = f"which graphs are valid: {', '.join(RULES)} (default: by the data set)"
    parser.add_argument("--valid", metavar="RULE", help=valid)


def kind_of(dataset: str) -> Kind:
    """The kind of data that a name or path is."""
    return next(kind for kind in KINDS if kind.suits(dataset))


def result_of(
    options: argparse.Namespace, kind: Kind, task: Task, protocol: Row, honesty: Honesty, rows: list[Row]
) -> dict[str, Any]:
    """The result, written where `--json` says."""
    protocol = protocol | kind.facts(task) | {"test_isomorphic_to_train": honesty.test_in_train}
    result = document(options.command, protocol, options.seed, rows)
    if options.json is not None:
        write_json(result, options.json)
    return result
