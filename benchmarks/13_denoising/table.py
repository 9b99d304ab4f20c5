"""Prints the tables from results/*.json, as Markdown: mean over seeds ± standard deviation."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# The columns that tell rows apart, and those that are averaged with their format.
TABLES = {
    "mixture": (
        ("noise", "parameterisation"),
        {
            "relative_error": ".4f",
            "median_cosine": ".5f",
            "relative_error_to_clean": ".3f",
            "mse": ".4f",
            "smallest_mse": ".4f",
        },
    ),
    "spiral": (
        ("noise",),
        {"median_cosine": ".5f", "mean_cosine": ".4f", "relative_error": ".4f", "learned": ".4f", "exact": ".4f"},
    ),
    "digits": (("corruption",), {"noisy": ".2f", "linear": ".2f", "denoised": ".2f"}),
}


def table(path: Path, keys: tuple[str, ...], formats: dict[str, str]) -> str:
    """One line per setting."""
    found: dict[tuple[Any, ...], list[dict[str, float]]] = {}
    for row in json.loads(path.read_text())["rows"]:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    columns = [*keys, *formats]
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join(["---"] * len(keys) + ["---:"] * len(formats)) + " |"]
    for setting, rows in found.items():
        cells = [f"{value}" for value in setting]
        for name, form in formats.items():
            values = [row[name] for row in rows]
            spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):{form}}{spread}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(folder: Path = RESULTS) -> None:
    """Prints a table for each file that is there."""
    for part, (keys, formats) in TABLES.items():
        if (folder / f"{part}.json").exists():
            print(f"{part}\n\n{table(folder / f'{part}.json', keys, formats)}\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
