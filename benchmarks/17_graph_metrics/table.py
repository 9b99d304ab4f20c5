"""Prints the tables from results/graph_metrics.json, as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "graph_metrics.json"


def table(path: Path = RESULT) -> str:
    """The MMDs against the loop over pairs, then whole evaluations."""
    rows = json.loads(path.read_text())["rows"]
    head = ["kernels", "graphs", "statistic", "loop, s", "ours, s", "times faster", "difference"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- | --- |" + " ---: |" * 4]
    for row in rows:
        if "kernels" not in row:
            continue
        cost = [row[name] / 1000 for name in ("loop_milliseconds", "milliseconds")]
        cells = [row["kernels"], " + ".join(map(str, row["graphs"])), row["statistic"], f"{cost[0]:,.2f}"]
        cells += [f"{cost[1]:.4f}", f"{row['times_faster']:,.0f}", f"{row['difference']:.0e}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| evaluation | samples, test, train | all, s | statistics, s | the same by networkx, without orbits, s |",
    ]
    lines.append("| --- | --- |" + " ---: |" * 3)
    for row in rows:
        if "evaluation" in row:
            cost = [row[name] for name in ("seconds", "statistics_seconds", "statistics_networkx_seconds")]
            cells = [row["evaluation"], ", ".join(map(str, row["graphs"])), *(f"{seconds:.2f}" for seconds in cost)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
