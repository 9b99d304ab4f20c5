"""Prints the table from results/reconstruction.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "reconstruction.json"
NAMES = {
    "pca": "principal components",
    "logistic-pca": "logistic PCA, linear encoder",
    "autoencoder": "autoencoder 784-500-250-30",
    "vae": "VAE 784-500-250-30",
}


def table(path: Path = RESULT) -> str:
    """Mean over seeds of every method's squared error, its range, its share of that of PCA, and minutes of a run."""
    found: dict[str, list[dict[str, float]]] = {}
    for row in json.loads(path.read_text())["rows"]:
        found.setdefault(row["method"], []).append(row)
    baseline = statistics.mean(row["squared_error"] for row in found["pca"])
    lines = [
        "| 30 numbers from | squared error | range over seeds | of PCA's | min |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for method, rows in found.items():
        errors = [row["squared_error"] for row in rows]
        mean, minutes = statistics.mean(errors), statistics.mean(row["seconds"] for row in rows) / 60
        spread = f"{min(errors):.2f} to {max(errors):.2f}" if len(set(errors)) > 1 else ""
        lines.append(f"| {NAMES[method]} | {mean:.2f} | {spread} | {mean / baseline:.2f} | {minutes:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
