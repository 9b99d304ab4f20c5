"""Prints the table of results/*.json, as Markdown: the worst of the seeds."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NAMES = ["data", "K", "method", "seeds", "min cosine in order", "with data", "angle, rad", "excess error", "nats", "s"]


def table() -> str:
    """A row per data set, K and method."""
    lines = ["| " + " | ".join(NAMES) + " |", "| --- | ---: | --- |" + " ---: |" * (len(NAMES) - 3)]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
        for row in result["rows"]:
            groups.setdefault((row["latent"], row["method"]), []).append(row)
        for (latent, method), rows in groups.items():
            cells = [
                result["protocol"]["dataset"],
                str(latent),
                method,
                "" if rows[0]["seed"] is None else str(len(rows)),
                f"{min(row['cosine'] for row in rows):.6f}",
                f"{min(row['cosine_with_data'] for row in rows):.6f}",
                f"{max(row['angle'] for row in rows):.1e}",
                f"{max(row['excess'] for row in rows):.1e}",
                f"{max(row['nats'] for row in rows):.1e}" if "nats" in rows[0] else "",
                f"{sum(row['seconds'] for row in rows) / len(rows):.1f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
