"""Prints the tables of results/*.json as Markdown."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table() -> str:
    """A table per data set and input, with what is made once beneath it."""
    return "\n\n".join(_tables(json.loads(path.read_text())) for path in sorted(RESULTS.glob("*.json")))


def _tables(result: dict[str, Any]) -> str:
    parts = []
    for given, group in groupby(result["rows"], lambda row: (row["data"], row["nodes"], row["edges"], row["input"])):
        data, nodes, edges, features = given
        lines = [f"{data}: {nodes:,} nodes, {edges:,} directed edges, input: {features}", ""]
        lines += ["| variant | ms | speed-up | MiB | memory ratio |", "| --- | ---: | ---: | ---: | ---: |"]
        for row in group:
            cells = [row["variant"], f"{row['milliseconds']:.1f}", f"{row['speedup']:.1f}x"]
            lines.append("| " + " | ".join([*cells, f"{row['step_mib']:.0f}", f"{row['memory_ratio']:.1f}x"]) + " |")
        parts.append("\n".join(lines))
    once = result["protocol"]["prepare"]
    made, kept, checked = once["operator_milliseconds"], once["operator_mib"], once["transpose_milliseconds"]
    operator = (
        f"Once per graph: {made:.0f} ms for the operator ({kept:.1f} MiB), then {checked:.0f} ms to find that it is"
    )
    return "\n\n".join([*parts, f"{operator} its own transpose."])


if __name__ == "__main__":
    print(table())
