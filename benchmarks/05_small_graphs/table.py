"""Prints the table from results/small_graphs.json, as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "small_graphs.json"


def table(path: Path = RESULT) -> str:
    """Microseconds per graph, and speed against PyG, of every variant at every size."""
    lines = [
        "| model | nodes | batch | variant | µs per graph | times PyG's speed |",
        "| --- | --- | --- | --- | ---: | ---: |",
    ]
    for row in json.loads(path.read_text())["rows"]:
        speed = f"{row['speed']:.2f}" if "speed" in row else ""
        where = (row.get("model", "node latents"), row["nodes"], str(row["batch_size"]), row["variant"])
        cells = (*where, f"{row['microseconds_per_graph']:.1f}", speed)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
