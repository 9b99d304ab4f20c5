"""Prints the table of results/*.json, as Markdown."""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NAMES = ["data", "regime", "estimator", "bias / s.e.", "value std, %", "gradient error", "cosine", "time / PyG"]


def table() -> str:
    """A row per regime and estimator."""
    lines = ["| " + " | ".join(NAMES) + " |", "| --- | --- | --- |" + " ---: |" * (len(NAMES) - 3)]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        for row in result["rows"]:
            exact = row["draws"] is None
            cells = [
                result["protocol"]["dataset"],
                f"{row['regime']} ({row['nats_per_pair']:.4f} nats per pair)",
                row["estimator"],
                "" if exact else f"{row['bias_in_standard_errors']:+.1f}",
                "0" if exact else f"{100 * row['value_std']:.3f}",
                f"{row['gradient_error']:.3f}",
                f"{row['cosine']:.4f}",
                f"{row['time_over_pyg']:.2f}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
