"""Where data sets are looked for, and how their npz files are opened."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """`root`, else the environment variable GRAPHVAE_DATA, else the user's cache folder."""
    given = root or os.environ.get("GRAPHVAE_DATA")
    return Path(given).expanduser() if given else cache_folder()


def cache_folder() -> Path:
    """The user's cache folder of this library; it may not exist yet."""
    home = Path(os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (home if home.is_absolute() else Path("~/.cache").expanduser()) / "graphvae"


def read_arrays(path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, np.ndarray[Any, Any]]:
    """Reads the named arrays of an npz file, and those of the optional ones that it has; a pickled array is refused.

    Raises:
        ValueError: Not an npz file, an array is missing, or an array is pickled.
    """
    if not zipfile.is_zipfile(path):  # What else np.load reads is a lone array, or a pickle.
        raise ValueError(f"{path} is not an npz file of plain arrays")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in (*names, *optional) if name in stored}
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are never loaded; save plain arrays") from error
        raise ValueError(f"{path} is damaged or not an npz file ({error})") from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"{path} must hold the arrays {', '.join(names)}, it lacks {', '.join(missing)}")
    return arrays


def store_arrays(path: Path, **arrays: np.ndarray[Any, Any]) -> None:
    """Writes a cache file, whole or not at all; a cache that cannot be written is merely slow."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink()
            raise
    except OSError:
        return


def both_directions(once: np.ndarray[Any, Any]) -> Tensor:
    """`(2, 2E)` edges of an array `(2, E)` that names each undirected edge once."""
    check_edge_array(once)
    edges = torch.from_numpy(once.astype(np.int64))
    return torch.cat([edges, edges.flip(0)], 1)


def check_edge_array(once: np.ndarray[Any, Any]) -> None:
    """Checks shape and type of an array that names each undirected edge once."""
    if once.ndim != 2 or len(once) != 2 or not (np.issubdtype(once.dtype, np.integer) or once.size == 0):
        raise ValueError(f"'edge_index' must be (2, E) integers, got shape {once.shape} of {once.dtype}")
