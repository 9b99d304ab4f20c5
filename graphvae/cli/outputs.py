"""The folder that `graphvae generate` fills: what is in it of an earlier run goes, but never unasked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

RESULT = "result.json"


def earlier_files(folder: Path, overwrite: bool) -> list[Path]:
    """The files of an earlier result in `folder`, as it lists them.

    Raises:
        ValueError: There is one, and `overwrite` was not asked for; or it does not list its files.
    """
    path = folder / RESULT
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        command, names = str(found.get("command")), found.get("files")
    except (ValueError, AttributeError):
        command, names = "another program", None
    if not overwrite:
        raise ValueError(
            f"--out {folder} has the result of another run ({command}); give another folder, or --overwrite to remove "
            "the files of that run when this one is done"
        )
    if not isinstance(names, list):
        raise ValueError(f"{path} does not list the files of its run, so --overwrite cannot; give another folder")
    inside = folder.resolve()
    return [folder / name for name in [*names, RESULT] if (inside / str(name)).resolve().is_relative_to(inside)]


def remove(files: Sequence[Path], folder: Path) -> None:
    """Removes files, and what folders below `folder` have become empty."""
    for file in files:
        if file.is_file():
            file.unlink()
    for parent in {file.parent for file in files} - {folder}:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def listed(files: Sequence[Path], folder: Path) -> list[str]:
    """Names for the result, from which `earlier_files` has them."""
    return sorted(file.relative_to(folder).as_posix() for file in files)
