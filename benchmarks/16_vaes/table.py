"""Prints the table from results/vaes.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "vaes.json"
COLUMNS = {
    "elbo": "ELBO",
    "log_likelihood": "log p(x)",
    "amortisation_gap": "amortisation gap",
    "approximation_gap": "approximation gap",
    "mutual_information": "I(x; z)",
    "aggregate_kl": "KL(q(z), p(z))",
    "active_units": "active of 8",
    "frechet": "Fréchet",
}


def table(path: Path = RESULT) -> str:
    """Mean and standard deviation over seeds, a row per prior and objective."""
    rows = json.loads(path.read_text())["rows"]
    lines = ["| prior, objective | " + " | ".join(COLUMNS.values()) + " |", "| --- " + "| ---: " * len(COLUMNS) + "|"]
    for method in dict.fromkeys(row["method"] for row in rows):
        seeds = [row for row in rows if row["method"] == method]
        cells = [_cell([row[name] for row in seeds]) for name in COLUMNS]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.2f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.2f}"


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
