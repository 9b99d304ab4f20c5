"""Prints the tables of results/*.json as Markdown."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table() -> str:
    """A row per variant: median time, time over that of the exact sum and of the floor, and memory."""
    rows = [row for path in sorted(RESULTS.glob("*.json")) for row in json.loads(path.read_text())["rows"]]
    lines = [
        "| nodes, width, scores | variant | ms | times exact | times floor | extra MiB | gradient error |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    floors = {key(row): row["milliseconds"] for row in rows if row["variant"] == "floor"}
    for row in rows:
        ratio = f"{row['times_exact']:.2f}" if "times_exact" in row else ""
        floor = f"{row['milliseconds'] / floors[key(row)]:.2f}" if key(row) in floors else ""
        error = f"{row['gradient_error']:.0e}" if row["variant"].startswith("exact") and "gradient_error" in row else ""
        memory = "" if row["extra_mib"] is None else f"{row['extra_mib']:.0f}"
        title = f"{row['nodes']}, {row['width']}, {row['regime']}"
        cells = [title, row["variant"], f"{row['milliseconds']:.1f}", ratio, floor, memory, error]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def key(row: dict[str, Any]) -> tuple[int, int, str]:
    """What the variants of one comparison share."""
    return row["nodes"], row["width"], row["regime"]


if __name__ == "__main__":
    print(table())
