"""Link prediction on Cora and CiteSeer, ten splits of each ratio, every method on the same splits.

Usage: python benchmarks/01_link_prediction/run.py [--root FOLDER]   (or GRAPHVAE_DATA=FOLDER, as for the command line)
Writes results/DATASET-RATIO.json beside this file and leaves what is there already; delete a file to run it again.
"""

import argparse
from pathlib import Path

from graphvae.cli import main

RESULTS = Path(__file__).parent / "results"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--root", help="folder that holds Cora/raw and CiteSeer/raw")
root = parser.parse_args().root
where = ["--root", root] if root else []
for ratio in ("85/5/10", "70/10/20"):
    for dataset in ("cora", "citeseer"):
        out = RESULTS / f"{dataset}-{ratio.replace('/', '-')}.json"
        if not out.exists():
            words = ["--dataset", dataset, *where, "--splits", "10", "--ratio", ratio, "--device", "cpu"]
            if main(["link-prediction", *words, "--json", str(out)]):
                raise SystemExit(2)
