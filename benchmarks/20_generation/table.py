"""Prints a table for each results/SET.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from graphvae.evaluation.graphs import wilson

RESULTS = Path(__file__).parent / "results"
STATISTICS = ("degree", "clustering", "orbit", "spectral")
COSTS = {"nats": ".1f", "KL": ".1f", "active": "", "s": ".0f", "graphs/s": ",.0f"}
HEADER = ["method", "valid", "unique", "novel", "V.U.N., 95 %", *STATISTICS, "ratio", *COSTS]


def table(*paths: Path) -> str:
    """A table for each set."""
    return "\n\n".join(map(_of_set, paths or sorted(RESULTS.glob("*.json"))))


def _of_set(path: Path) -> str:
    """Means over seeds. The interval of V.U.N. is Wilson's for the samples of all seeds; ratio is DeFoG's."""
    result = json.loads(path.read_text())
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        rows.setdefault(row["method"], []).append(row)
    leak = result["rows"][0]["test_in_train"]
    lines = [
        f"{result['protocol']['data']}. Valid: {result['protocol']['valid']}. Test graphs isomorphic to a training "
        f"graph: {leak:.0%}.",
        "",
        "| " + " | ".join(HEADER) + " |",
        "| --- " + "| ---: " * (len(HEADER) - 1) + "|",
    ]
    lines += ["| " + " | ".join([method, *_cells(found)]) + " |" for method, found in rows.items()]
    return "\n".join(lines)


def _cells(rows: list[dict[str, Any]]) -> list[str]:
    shares = [f"{100 * statistics.mean(row[name] for row in rows):.1f}" for name in ("valid", "unique", "novel")]
    total = sum(row["num_graphs"] for row in rows)
    count = round(sum(row["vun"] * row["num_graphs"] for row in rows))
    low, high = wilson(count, total)
    shares.append(f"{100 * count / total:.1f} ({100 * low:.1f}–{100 * high:.1f})")
    distances = [_mean([row["mmd"][name] for row in rows], ".2g") for name in STATISTICS]
    ratio = _mean([row["ratios"]["defog"] for row in rows], ".3g")
    return [*shares, *distances, ratio, *_costs(rows)]


def _costs(rows: list[dict[str, Any]]) -> list[str]:
    names = {"nats": "bound", "KL": "kl", "s": "seconds", "graphs/s": "graphs_per_second"}
    found = {title: _mean([row.get(name) for row in rows], COSTS[title]) for title, name in names.items()}
    active = ", ".join(str(row["active_units"]) for row in rows if "latent" in row)
    active += f" of {rows[0]['latent']}" if active else ""
    return [found["nats"], found["KL"], active, found["s"], found["graphs/s"]]


def _mean(values: list[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.mean(known):{form}}" if known else ""


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
