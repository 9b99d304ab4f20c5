"""Prints the results beside this file as Markdown tables.

Usage: python benchmarks/04_encoders/table.py
"""

import json
from itertools import groupby
from pathlib import Path

for path in sorted((Path(__file__).parent / "results").glob("*.json")):
    result = json.loads(path.read_text())
    once = result["protocol"]["prepare"]
    for given, group in groupby(result["rows"], lambda row: (row["data"], row["nodes"], row["edges"], row["input"])):
        data, nodes, edges, features = given
        print(f"\n{data}: {nodes:,} nodes, {edges:,} directed edges, input: {features}\n")
        print("| variant | ms | speed-up | MiB | memory ratio |\n| --- | ---: | ---: | ---: | ---: |")
        for row in group:
            cells = (f"{row['milliseconds']:.1f}", f"{row['speedup']:.1f}x")
            memory = (f"{row['step_mib']:.0f}", f"{row['memory_ratio']:.1f}x")
            print(f"| {row['variant']} | {' | '.join(cells + memory)} |")
    made, kept, checked = once["operator_milliseconds"], once["operator_mib"], once["transpose_milliseconds"]
    print(f"\nOnce per graph: {made:.0f} ms for the operator ({kept:.1f} MiB),")
    print(f"then {checked:.0f} ms to find that it is its own transpose.")
