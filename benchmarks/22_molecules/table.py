"""Prints the table from results/qm9.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "qm9.json"
SHARES = ("valid", "unique", "novel")


def table(path: Path = RESULT) -> str:
    """Percent, mean over seeds; of one seed with the 95 % interval of validity."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(path.read_text())["rows"]:
        found.setdefault(row["method"], []).append(row)
    lines = [
        "| method | valid | unique | novel | sanitised | TV of rings | TV of atoms | CPU min of training | graphs/s |",
        "| --- |" + " ---: |" * 8,
    ]
    for method, rows in found.items():
        first = rows[0]
        if first["valid"] is None:
            lines.append(f"| {method}: {first['note']} |" + " |" * 8)
            continue
        cells = [_percent([row[name] for row in rows]) for name in (*SHARES, "sanitised")]
        if len(rows) == 1 and "valid" in first["intervals"]:
            low, high = first["intervals"]["valid"]
            cells[0] += f" [{100 * low:.1f}, {100 * high:.1f}]"
        for name in ("rings", "atoms"):
            cells.append(f"{statistics.mean(row['distances'][name] for row in rows):.3f}")
        seconds, rates = ([row.get(name) for row in rows] for name in ("cpu_seconds", "graphs_per_second"))
        cells.append(f"{statistics.mean(seconds) / 60:.0f}" if seconds[0] else "")
        cells.append(f"{statistics.mean(rates):,.0f}" if rates[0] else "")
        lines.append("| " + " | ".join((method, *cells)) + " |")
    return "\n".join(lines)


def _percent(shares: list[float | None]) -> str:
    known = [share for share in shares if share is not None]
    if not known:
        return ""
    spread = f" ± {100 * statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{100 * statistics.mean(known):.1f}{spread}"


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
