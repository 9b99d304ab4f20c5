"""Prints the table of the README from results/*.json, as Markdown."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_METRICS = {"auc": "AUC", "ap": "AP", "hits@100": "Hits@100", "mrr": "MRR"}


def table() -> str:
    """The rows of every result file, mean ± standard deviation over splits in percent."""
    names = ["data, split", "method", *_METRICS.values(), "ECE", "expected / true edges", "nats per pair"]
    lines = ["| " + " | ".join(names) + " |", "| --- | --- |" + " ---: |" * (len(names) - 2)]
    for path in sorted(RESULTS.glob("*.json"), key=lambda path: (path.stem.split("-")[1] != "85", path.stem)):
        result = json.loads(path.read_text())
        title = f"{result['protocol']['dataset']}, {result['protocol']['ratio']}"
        for row in result["rows"]:
            cells = [title, row["method"], *(_percent(row[name]) for name in _METRICS)]
            cells += [_plain(row["ece"], ".1e"), _plain(row["expected_edges_ratio"], ".3g")]
            lines.append("| " + " | ".join([*cells, _plain(row["nats_per_pair"], ".5f")]) + " |")
    return "\n".join(lines)


def _percent(value: dict[str, float | None]) -> str:
    return f"{100 * value['mean']:.1f} ± {100 * value['std']:.1f}"


def _plain(value: dict[str, float | None], form: str) -> str:
    return "" if value["mean"] is None else f"{value['mean']:{form}}"


if __name__ == "__main__":
    print(table())
