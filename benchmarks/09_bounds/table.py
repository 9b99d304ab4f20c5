"""Prints the table from results/bounds.json, as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "bounds.json"


def table(path: Path = RESULT) -> str:
    """The mean gap of every bound to the exact log p([G]), sizes side by side."""
    rows = [row for row in json.loads(path.read_text())["rows"] if "bound" in row]
    cells: dict[tuple[str, str, str, str], dict[int, str]] = {}
    for row in rows:
        count = "all" if row["count"] in (24, 120) else str(row["count"])
        particles = count if row["bound"] == "joint" or row["bound"] == "outer" else str(row["particles"])
        key = (row["bound"], row["orderings"], count, particles)
        cells.setdefault(key, {})[row["nodes"]] = f"{row['gap']:.3f} ± {row['error']:.3f}"
    lines = ["| bound | orders | how many | latents | 4 nodes | 5 nodes |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    lines += ["| " + " | ".join((*key, found[4], found[5])) + " |" for key, found in cells.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
