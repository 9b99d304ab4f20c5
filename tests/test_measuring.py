import time

import pytest
import torch

from graphvae.recipes.measuring import interleaved


def busy(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_variants_are_interleaved_and_the_median_is_of_cpu_time():
    calls = []

    def short():
        calls.append("short")
        busy(0.002)

    def long():
        calls.append("long")
        time.sleep(0.01)  # Does not count: it is not CPU time.
        busy(0.006)

    rows = {row["variant"]: row for row in interleaved({"short": short, "long": long}, rounds=3)}
    assert calls[-6:] == ["short", "long"] * 3
    assert len(rows["long"]["all_milliseconds"]) == 3
    assert rows["long"]["milliseconds"] == sorted(rows["long"]["all_milliseconds"])[1]
    assert 1.5 < rows["long"]["milliseconds"] / rows["short"]["milliseconds"] < 4.5


def test_memory_is_that_above_what_was_in_use():
    held = torch.ones(2**22)
    row = interleaved({"64 MiB": lambda: torch.ones(2**24).sum()}, rounds=1)[0]
    if row["extra_mib"] is None:
        pytest.skip("this system does not tell the memory in use")
    assert 60 < row["extra_mib"] < 80
    assert held.sum() > 0
