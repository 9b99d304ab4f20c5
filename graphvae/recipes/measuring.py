"""What a computation costs: seconds, and the memory in use at its peak; alone, or against others in one process."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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


def interleaved(variants: Mapping[str, Callable[[], object]], rounds: int = 7) -> list[dict[str, Any]]:
    """Times `variants` against each other on a CPU: one after another, round after round, in this one process.

    A busy machine slows all of them alike, so that ratios can be trusted where times cannot.

    Args:
        variants: By name; each call is one measurement. One that allocates must let go of it again.
        rounds: After a first one that is not timed, and in which the memory is measured.

    Returns:
        A row per variant: `variant`; `milliseconds`, the median process CPU time; `all_milliseconds`; `extra_mib`, the
        peak memory above that in use before (None where the system does not tell).
    """
    extra = {name: extra_mib(variant) for name, variant in variants.items()}
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            started = time.process_time()
            variant()
            times[name].append(1000 * (time.process_time() - started))
    return [
        {"variant": name, "milliseconds": statistics.median(t), "all_milliseconds": t, "extra_mib": extra[name]}
        for name, t in times.items()
    ]


def extra_mib(variant: Callable[[], object]) -> float | None:
    """The peak memory of a call above that in use before it; one call before is not counted. None if unknown."""
    variant()
    gc.collect()
    _give_back()
    _restart_peak(torch.device("cpu"))
    before = _status("VmRSS")
    variant()
    found = _status("VmHWM") - before
    return found if math.isfinite(found) else None


def _give_back() -> None:
    # What the first call let go of is still the process's, and would hide what the second one takes (glibc only).
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


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
