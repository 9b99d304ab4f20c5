"""Prints the table from results/community.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "community.json"


def table(path: Path = RESULT) -> str:
    """Mean and standard deviation over seeds of every ordering's bounds, and seconds of one training."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in json.loads(path.read_text())["rows"]:
        found.setdefault(row["method"], []).append(row)
    lines = ["| orders | training | validation | test | s per training |", "| --- | ---: | ---: | ---: | ---: |"]
    for method, rows in found.items():
        cells = []
        for part in ("train", "val", "test"):
            values = [row[part] for row in rows]
            spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        seconds = f"{statistics.mean(row['seconds'] for row in rows):.0f}" if "seconds" in rows[0] else ""
        lines.append("| " + " | ".join((method, *cells, seconds)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
