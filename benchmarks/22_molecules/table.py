"""Prints the table from results/qm9.json, as Markdown."""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "qm9.json"
SHARES = ("valid", "unique", "novel", "sanitised", "aromatic")
COLUMNS = (*SHARES, "FCD", "TV of rings", "KL, nats", "CPU min", "graphs/s")


def table(path: Path = RESULT) -> str:
    """Percent, mean over seeds ± their deviation; of one seed with the 95 % interval of validity."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(path.read_text())["rows"]:
        found.setdefault(row["method"], []).append(row)
    lines = ["| " + " | ".join(("method", *COLUMNS)) + " |", "| --- |" + " ---: |" * len(COLUMNS)]
    for method, rows in found.items():
        first = rows[0]
        if first["valid"] is None:
            lines.append(f"| {method}: {first['note']} |" + " |" * len(COLUMNS))
            continue
        cells = [_percent([row[name] for row in rows]) for name in SHARES]
        if len(rows) == 1 and "valid" in first["intervals"]:
            low, high = first["intervals"]["valid"]
            cells[0] += f" [{100 * low:.1f}, {100 * high:.1f}]"
        cells.append(_mean([row["fcd"] for row in rows], ".2f"))
        cells.append(_mean([row["distances"]["rings"] for row in rows], ".3f"))
        cells.append(_mean([row.get("kl") for row in rows], ".1f"))
        cells.append(_mean([row["cpu_seconds"] / 60 if "cpu_seconds" in row else None for row in rows], ".0f"))
        cells.append(_mean([row.get("graphs_per_second") for row in rows], ",.0f"))
        if len(rows) > 1:
            method += f", {len(rows)} seeds"
        lines.append("| " + " | ".join((method, *cells)) + " |")
    return "\n".join(lines)


def _mean(numbers: list[float | None], form: str) -> str:
    known = [number for number in numbers if number is not None]
    return format(statistics.mean(known), form) if known else ""


def _percent(shares: list[float | None]) -> str:
    known = [share for share in shares if share is not None]
    if not known:
        return ""
    spread = f" ± {100 * statistics.stdev(known):.1f}" if len(known) > 1 else ""
    return f"{100 * statistics.mean(known):.1f}{spread}"


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
