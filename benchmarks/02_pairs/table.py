"""Prints the tables of results/*.json as Markdown."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table() -> str:
    """Times, and the memory of the exact sum."""
    return f"{_times(_rows('cpu'))}\n\n{_memory(_rows('memory'))}"


def _rows(name: str) -> list[dict[str, Any]]:
    return json.loads((RESULTS / f"{name}.json").read_text())["rows"]


def _times(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| nodes | width | scores | variant | ms | times exact | times floor | gradient error |",
        "| ---: | ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    floors = {_case(row): row["milliseconds"] for row in rows if row["variant"] == "floor"}
    for row in rows:
        error = f"{row['gradient_error']:.0e}" if row["variant"] == "exact" and "gradient_error" in row else ""
        ratios = [f"{row['times_exact']:.2f}", f"{row['milliseconds'] / floors[_case(row)]:.2f}", error]
        cells = [*map(str, _case(row)), row["variant"], f"{row['milliseconds']:.0f}", *ratios]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _memory(rows: list[dict[str, Any]]) -> str:
    names = ["nodes", "width", "MiB of h", "extra MiB of value and gradient", "seconds, one run"]
    lines = ["| " + " | ".join(names) + " |", "|" + " ---: |" * len(names)]
    for row in rows:
        cells = [str(row["nodes"]), str(row["width"]), f"{row['input_mib']:.1f}", f"{row['extra_mib']:.1f}"]
        lines.append("| " + " | ".join([*cells, f"{row['milliseconds'] / 1000:.2f}"]) + " |")
    return "\n".join(lines)


def _case(row: dict[str, Any]) -> tuple[int, int, str]:
    """What the variants of one comparison share."""
    return row["nodes"], row["width"], row["regime"]


if __name__ == "__main__":
    print(table())
