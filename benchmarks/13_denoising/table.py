"""Prints the tables from results/*.json, as Markdown: mean over seeds ± standard deviation."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
# The columns that tell rows apart, and those that are averaged with their format.
TABLES: dict[str, tuple[dict[str, str], dict[str, tuple[str, str]]]] = {
    "mixture": (
        {"noise": "mixture, σ", "parameterisation": "network is"},
        {
            "relative_error": ("squared error of the score, relative", ".4f"),
            "median_cosine": ("median cosine", ".5f"),
            "relative_error_to_clean": ("error against the score without noise", ".3f"),
            "mse": ("squared error of denoising", ".4f"),
            "smallest_mse": ("least possible", ".4f"),
        },
    ),
    "spiral": (
        {"noise": "spiral, σ"},
        {
            "median_cosine": ("median cosine", ".5f"),
            "mean_cosine": ("mean cosine", ".4f"),
            "relative_error": ("squared error, relative", ".4f"),
            "learned": ("arrows that lead nearer to the curve", ".4f"),
            "exact": ("exact ones that do", ".4f"),
        },
    ),
    "digits": (
        {"corruption": "digits, noise"},
        {
            "noisy": ("noisy, dB", ".2f"),
            "linear": ("best affine map", ".2f"),
            "denoised": ("denoising autoencoder", ".2f"),
        },
    ),
}
NAMES = {"residual": "the score", "direct": "the denoiser"}


def table(folder: Path = RESULTS) -> str:
    """A table for each file that is there."""
    parts = [part for part in TABLES if (folder / f"{part}.json").exists()]
    return "\n\n".join(
        _table(json.loads((folder / f"{part}.json").read_text())["rows"], *TABLES[part]) for part in parts
    )


def _table(rows: list[dict[str, Any]], keys: dict[str, str], columns: dict[str, tuple[str, str]]) -> str:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    titles = [*keys.values(), *(title for title, _ in columns.values())]
    lines = ["| " + " | ".join(titles) + " |", "| --- " * len(keys) + "| ---: " * len(columns) + "|"]
    for setting, seeds in found.items():
        cells = [NAMES.get(str(value), str(value)) for value in setting]
        cells += [_cell([row[name] for row in seeds], form) for name, (_, form) in columns.items()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(values: list[float], form: str) -> str:
    spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{form}}{spread}"


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
