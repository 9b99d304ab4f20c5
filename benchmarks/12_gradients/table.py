"""Prints the tables of results/gradients.json, as Markdown."""

import json
import statistics
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def table() -> str:
    """Normal latents, bits, and trainings on digits."""
    rows = json.loads((RESULTS / "gradients.json").read_text())["rows"]
    normal = [row for row in rows if row["problem"] in ("distance", "wave")]
    bits = [row for row in rows if row["problem"] in ("vector", "graph")]
    digits = [row for row in rows if row["problem"] == "digits"]
    return "\n\n".join([_normal(normal), _bits(bits), _digits(digits)])


def _normal(rows: list[dict[str, Any]]) -> str:
    """A line per problem, a column per estimator: total variance, per draw."""
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    draws = {row["estimator"]: row["draws"] for row in rows}
    lines = [_line(["f", *(f"{name} ({draws[name]})" for name in names), "score function / pathwise"])]
    lines.append("| --- |" + " ---: |" * (len(names) + 1))
    for problem, size in dict.fromkeys((row["problem"], row["size"]) for row in rows):
        of = {r["estimator"]: r["total_variance"] for r in rows if (r["problem"], r["size"]) == (problem, size)}
        f = f"\\|z - 1\\|², d = {size}" if problem == "distance" else f"sin({size}z)"
        ratio = of["score function"] / of["pathwise"]
        lines.append(_line([f, *(f"{of[name]:.4g}" for name in names), f"{ratio:.3g}"]))
    return "\n".join(lines)


def _bits(rows: list[dict[str, Any]]) -> str:
    names = ["latents", "bound", "estimator", "bias / gradient", "± of noise", "deviation / gradient", "total variance"]
    lines = [_line(names), "| --- | --- | --- |" + " ---: |" * (len(names) - 3)]
    for row in rows:
        relative = [row["bias"], row["bias_error"], row["total_variance"] ** 0.5]
        bias, error, deviation = (value / row["exact_norm"] for value in relative)
        cells = [f"{row['problem']}, {row['size']} bits", row["bound"], row["estimator"], f"{bias:.3f}"]
        lines.append(_line([*cells, f"{error:.3f}", f"{deviation:.2f}", f"{row['total_variance']:.3g}"]))
    return "\n".join(lines)


def _digits(rows: list[dict[str, Any]]) -> str:
    names = ["digits, trained by", "draws", "exact ELBO", "exact log p", "time / ELBO of normal latents"]
    lines = [_line(names), "| --- |" + " ---: |" * (len(names) - 1)]
    for row in rows:
        scores = [f"{statistics.mean(row[name]):.2f} ± {_deviation(row[name]):.2f}" for name in ("elbo", "log_p")]
        lines.append(_line([row["estimator"], str(row["draws"]), *scores, f"{row['time_over_normal_elbo']:.2f}"]))
    return "\n".join(lines)


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    print(table())
