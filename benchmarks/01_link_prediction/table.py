"""Prints the table of the README from results/*.json, as Markdown."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_PERCENT = {"auc": "AUC", "ap": "AP", "hits@100": "Hits@100", "mrr": "MRR"}


def table() -> str:
    """The rows of every result file: mean ± standard deviation over splits."""
    names = ["data, split", "method", *_PERCENT.values(), "expected / true edges", "nats per 1000 pairs"]
    lines = ["| " + " | ".join([*names, "weight undone"]) + " |", "| --- | --- |" + " ---: |" * (len(names) - 1)]
    for path in sorted(RESULTS.glob("*.json"), key=lambda path: ("70" in path.stem, path.stem)):
        result = json.loads(path.read_text())
        title = f"{result['protocol']['dataset']}, {result['protocol']['ratio']}"
        for row in result["rows"]:
            cells = [title, row["method"], *(_cell(row[name], 100, ".1f") for name in _PERCENT)]
            cells.append(_cell(row["expected_edges_ratio"], 1, ".2f"))
            cells += [_cell(row[name], 1000, ".3f") for name in ("nats_per_pair", "nats_per_pair_unweighted")]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: dict[str, float | None], factor: float, form: str) -> str:
    mean, std = value["mean"], value["std"]
    return "" if mean is None or std is None else f"{factor * mean:{form}} ± {factor * std:{form}}"


if __name__ == "__main__":
    print(table())
