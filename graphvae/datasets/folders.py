"""Where data sets are looked for, and how their npz files are opened."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """`root`, else the environment variable GRAPHVAE_DATA, else the user's cache folder."""
    given = root or os.environ.get("GRAPHVAE_DATA")
    return Path(given).expanduser() if given else cache_folder()


def cache_folder() -> Path:
    """The user's cache folder of this library; it may not exist yet."""
    home = Path(os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", ""))
    # The XDG specification says to ignore a relative path.
    return (home if home.is_absolute() else Path("~/.cache").expanduser()) / "graphvae"


def read_arrays(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray[Any, Any]]:
    """Reads the named arrays of an npz file; a pickled array is refused.

    Raises:
        ValueError: Not an npz file, an array is missing, or an array is pickled.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in names if name not in file]
            if missing:
                raise ValueError(f"{path} must hold the arrays {', '.join(names)}, it lacks {', '.join(missing)}")
            return {name: file[name] for name in names}
    except (OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable npz file ({error})") from error
    except ValueError as error:
        if "pickle" in str(error):
            raise ValueError(f"{path} holds pickled objects, which are never loaded; save plain arrays") from error
        raise
