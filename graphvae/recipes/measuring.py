"""What a computation costs: seconds, and the memory in use at its peak."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def measured(device: torch.device) -> Iterator[dict[str, float]]:
    """Fills the dictionary it gives with `seconds` (wall) and `peak_mib`, when the block ends.

    On a GPU the peak is that of its allocator; on a CPU that of the whole process (Linux; elsewhere NaN).
    """
    cost = {"seconds": math.nan, "peak_mib": math.nan}
    _restart_peak(device)
    started = time.perf_counter()
    yield cost
    cost["seconds"] = time.perf_counter() - started
    cost["peak_mib"] = _peak(device)


def _restart_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        _CLEAR.write_text("5")  # Makes VmHWM, the peak, start again from here.


def _peak(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _status("VmHWM")


def _status(field: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return math.nan
    return next((float(line.split()[1]) / 1024 for line in lines if line.startswith(field)), math.nan)
