"""Prints the table from results/orderings.json, as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "orderings.json"


def table(path: Path = RESULT) -> str:
    """Milliseconds of a step at every K; at the largest, times the cost of one, and times the loop's speed."""
    rows = json.loads(path.read_text())["rows"]
    counts = sorted({row["orderings"] for row in rows})
    found: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for row in rows:
        found.setdefault((row["latent"], row["variant"]), {})[row["orderings"]] = row
    head = ["latents of", "step", *(f"K = {k}, ms" for k in counts), "of K = 1", "times the loop's speed"]
    lines = ["| " + " | ".join(head) + " |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for (latent, variant), by_count in found.items():
        cost = [f"{by_count[k]['milliseconds']:.1f}" if k in by_count else "" for k in counts]
        last = by_count[counts[-1]]
        ratios = [f"{last[name]:.1f}" if last[name] is not None else "" for name in ("of_one", "speed")]
        lines.append("| " + " | ".join([latent + "s", variant, *cost, *ratios]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
