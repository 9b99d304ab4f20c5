"""Prints the table of results/cpu.json as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "cpu.json"


def table(path: Path = RESULT) -> str:
    """Milliseconds per graph of the loops and of ours, and how many times the one takes the other's."""
    rows = json.loads(path.read_text())["rows"]
    lines = [
        "| places k | edge types | loops, ms per graph | ours, ms per graph | times faster | rounding, ms per graph "
        "| largest difference |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    found = {(row["variant"], row["places"], row["types"]): row for row in rows}
    for name, places, types in found:
        if name == "matching":
            ours, loops = found[name, places, types], found.get(("loops", places, types))
            rounding = found["rounding", places, types]["milliseconds"]
            cells = [f"{places}", f"{types}", "" if loops is None else _loops(loops), f"{ours['milliseconds']:.3f}"]
            cells += [f"{ours['times_faster']:,.0f}" if "times_faster" in ours else "", f"{rounding:.3f}"]
            cells += [f"{ours['difference']:.0e}" if "difference" in ours else ""]
            lines.append("| " + " | ".join(cells) + " |")
    note = "\\* from the similarities of one node and one update, times k and 75." if _any_part(rows) else ""
    return "\n".join([*lines, "", note]).strip()


def _loops(row: dict[str, float]) -> str:
    return f"{row['milliseconds']:,.0f}" + (" \\*" if row["extrapolated"] else "")


def _any_part(rows: list[dict[str, float]]) -> bool:
    return any(row.get("extrapolated") for row in rows)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
