"""Prints results/*.json as Markdown."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def table() -> str:
    """A row per stage of every result file."""
    names = ["nodes", "edges", "stage", "seconds", "peak MiB of the process", "edges per second", "AUC before", "after"]
    lines = ["| " + " | ".join(names) + " |", "| ---: | ---: | --- |" + " ---: |" * (len(names) - 3)]
    for path in sorted(RESULTS.glob("*.json"), key=lambda path: int(path.stem.split("-")[0])):
        result = json.loads(path.read_text())
        size = [f"{result['protocol'][name]:,}" for name in ("nodes", "edges")]
        for row in result["rows"]:
            forms = {"seconds": ".0f", "peak_mib": ",.0f", "edges_per_second": ",.0f"}
            forms |= {"auc_before": ".3f", "auc_after": ".3f"}
            cells = [format(row[name], form) if name in row else "" for name, form in forms.items()]
            lines.append("| " + " | ".join([*size, row["stage"], *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
