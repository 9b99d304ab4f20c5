"""Prints the tables from results/vectors_speed.json, as Markdown."""

import json
import sys
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "vectors_speed.json"


def table(path: Path = RESULT) -> str:
    """Training loops as multiples of a plain one; convolutions without edges as multiples of their linear layers."""
    rows = json.loads(path.read_text())["rows"]
    lines = ["| model | loop | ms per step | times plain PyTorch |", "| --- | --- | ---: | ---: |"]
    for row in rows:
        if row["measured"] == "training":
            numbers = f"{row['milliseconds_per_step']:.2f} | {row['times_plain']:.2f}"
            lines.append(f"| {row['model']} | {row['variant']} | {numbers} |")
    lines += ["", "| convolution | shape | PyG, times its linear layers | here |", "| --- | --- | ---: | ---: |"]
    for row in rows:
        if row["measured"] == "convolution":
            numbers = f"{row['PyG_times_linear']:.1f} | {row['graphvae_times_linear']:.1f}"
            lines.append(f"| {row['convolution']} | {row['shape']} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:])))
