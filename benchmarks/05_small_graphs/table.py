"""Prints the table from results/small_graphs.json, as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "small_graphs.json"


def table(path: Path = RESULT) -> str:
    """Microseconds per graph, and speed against PyG, of every variant at every size."""
    rows = json.loads(path.read_text())["rows"]
    named = "model" in rows[0]  # Results from before there was more than one have no name for it.
    lines = [
        "| " + "model | " * named + "nodes | batch | variant | µs per graph | times PyG's speed |",
        "| " + "--- | " * named + "--- | --- | --- | ---: | ---: |",
    ]
    for row in rows:
        speed = f"{row['speed']:.2f}" if "speed" in row else ""
        where = [row.get("model", "")] * named + [row["nodes"], str(row["batch_size"]), row["variant"]]
        lines.append("| " + " | ".join([*where, f"{row['microseconds_per_graph']:.1f}", speed]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
