"""Prints the table from results/atlas.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "atlas.json"


def table(path: Path = RESULT) -> str:
    """Mean and standard deviation over seeds of every bound, for each objective of training."""
    rows = json.loads(path.read_text())["rows"]
    objectives = list(dict.fromkeys(row["trained by"] for row in rows))
    lines = ["| bound on log p([G]), nats | " + " | ".join(f"trained by {name}" for name in objectives) + " |"]
    lines.append("| --- |" + " ---: |" * len(objectives))
    for bound in dict.fromkeys(row["bound"] for row in rows):
        cells = []
        for name in objectives:
            values = [row["nats"] for row in rows if (row["bound"], row["trained by"]) == (bound, name)]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.2f}{spread}")
        lines.append("| " + " | ".join((bound, *cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
