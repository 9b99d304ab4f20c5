"""Prints the table of results/epoch.json as Markdown."""

import json
from pathlib import Path


def table() -> str:
    """A row per data set and variant."""
    result = json.loads((Path(__file__).parent / "results" / "epoch.json").read_text())
    lines = ["| data | variant | ms per epoch | over PyG's |", "| --- | --- | ---: | ---: |"]
    for row in result["rows"]:
        cells = [row["dataset"], row["variant"], f"{row['milliseconds']:.1f}", f"{row['over_pyg']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
