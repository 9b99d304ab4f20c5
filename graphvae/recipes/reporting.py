"""The machine-readable result of a command: what was run, on what, with which versions, and the rows."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

_PACKAGES = ("graphvae", "torch", "torch-geometric", "numpy", "scipy", "scikit-learn", "accelerate")


def document(command: str, protocol: dict[str, Any], seed: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """`{"command", "protocol", "versions", "commit", "seed", "rows"}`."""
    versions = {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}
    return {
        "command": command,
        "protocol": protocol,
        "versions": versions,
        "commit": _commit(),
        "seed": seed,
        "rows": rows,
    }


def write_json(content: dict[str, Any], path: Path) -> None:
    """Writes standard JSON: numbers that are not finite must have become None before."""
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _commit() -> str | None:
    """The commit of the source tree this package runs from, marked if the tree is changed; None if installed."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
