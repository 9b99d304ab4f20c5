"""The graph6 format: an undirected simple graph as one line of printable characters.

References:
    McKay, "Description of graph6, sparse6 and digraph6 encodings",
    https://users.cecs.anu.edu.au/~bdm/data/formats.txt.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
_OFFSET, _BITS = 63, 6  # Characters 63 to 126 stand for six bits each.
_LONG = 126  # One such character begins a size of 18 bits, two a size of 36.


def encoded(size: int, edge_index: Array) -> bytes:
    """The line, without its end, of a graph with `edge_index` `(2, E)`, which may hold edges in both directions."""
    low, high = np.sort(edge_index, 0)
    bits = np.zeros(_padded(size), dtype=bool)
    bits[high * (high - 1) // 2 + low] = True  # Column after column of the upper triangle.
    return _of_size(size) + (_numbers(bits) + _OFFSET).astype(np.uint8).tobytes()


def decoded(line: bytes) -> tuple[int, Array]:
    """The number of nodes, and each edge once `(2, E)`, of a line.

    Raises:
        ValueError: The line is not graph6.
    """
    values = np.frombuffer(line, np.uint8).astype(np.int64) - _OFFSET
    if line[:1] in (b":", b";", b"&"):
        raise ValueError("must be graph6, got sparse6 or digraph6; convert it, such as with networkx")
    if values.min() < 0 or values.max() >= 2**_BITS:
        raise ValueError(f"graph6 must consist of the characters ? to ~, got {line[:40]!r}")
    lead = 2 if line[:2] == b"~~" else int(line[:1] == b"~")
    digits = values[lead : lead + (1, 3, 6)[lead]]
    size = sum(int(digit) << _BITS * k for k, digit in enumerate(digits[::-1]))
    numbers = values[lead + len(digits) :]
    wanted = -(-size * (size - 1) // 2 // _BITS) if size else 0
    if numbers.size != wanted:
        raise ValueError(f"graph6 of {size} nodes must have {wanted} characters after the size, got {numbers.size}")
    places = np.flatnonzero((numbers[:, None] >> np.arange(_BITS)[::-1]) & 1)
    firsts = np.arange(size + 1) * (np.arange(size + 1) - 1) // 2  # Where the column of each node begins.
    high = np.searchsorted(firsts, places, "right") - 1
    if places.size and high[-1] >= size:
        raise ValueError("graph6 must end in zero bits, got others")
    return size, np.stack([places - firsts[high], high])


def _padded(size: int) -> int:
    return -(-size * (size - 1) // 2 // _BITS) * _BITS


def _numbers(bits: Array) -> Array:
    return bits.reshape(-1, _BITS) @ (1 << np.arange(_BITS)[::-1])


def _of_size(size: int) -> bytes:
    lead, digits = (0, 1) if size < _LONG - _OFFSET else (1, 3) if size < (_LONG - _OFFSET) << 12 else (2, 6)
    values = [size >> _BITS * k & 63 for k in reversed(range(digits))]
    return bytes([_LONG] * lead + [value + _OFFSET for value in values])
