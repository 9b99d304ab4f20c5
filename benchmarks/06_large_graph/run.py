"""One epoch of mini-batches on a graph of a million nodes and ten million edges: its memory, time and what it learns.

Usage: python benchmarks/06_large_graph/run.py [--nodes 1000000 --edges 10000000 --batch-size 65536 --fanouts 4 2]
Writes results/NODES-EDGES.json beside this file. One thread, on the CPU; `peak_mib` is that of the whole process.

The graph has planted communities of a thousand nodes: four edges of five join two nodes of one community, the others
any two, and features are the centre of the community in noise. No score can tell the others from non-edges, so that
the best AUC on edges held out is about 0.9.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import SAGEConv

from graphvae import GraphVAE, fit
from graphvae.backbones import Stack
from graphvae.edges import InnerProduct
from graphvae.encoders import PointEncoder
from graphvae.masking import LinkBatches
from graphvae.objectives import masked_edges
from graphvae.priors import StandardNormal
from graphvae.recipes.measuring import measured
from graphvae.recipes.reporting import document, write_json

FEATURES, HIDDEN, LATENT, HELD_OUT, COMMUNITY, WITHIN, NOISE = 32, 32, 16, 50_000, 1000, 0.8, 1.5


def planted(num_nodes: int, num_edges: int, generator: torch.Generator) -> tuple[Data, Tensor]:
    """The graph, and `(2, HELD_OUT)` edges of the same kind that are not in it."""
    communities = max(1, num_nodes // COMMUNITY)
    wanted = num_edges + HELD_OUT
    drawn = torch.randint(num_nodes, (2, wanted + wanted // 10), generator=generator)
    within = torch.rand(drawn.size(1), generator=generator) < WITHIN
    same = (drawn[1] // communities * communities + drawn[0] % communities).clamp(max=num_nodes - 1)
    drawn[1] = torch.where(within, same, drawn[1])
    drawn = drawn[:, drawn[0] != drawn[1]].sort(0).values
    keys = (drawn[0] * num_nodes + drawn[1]).unique()
    if keys.numel() < wanted:
        raise SystemExit(f"the graph is too dense: {keys.numel()} different edges of {wanted} were drawn")
    keys = keys[torch.randperm(keys.numel(), generator=generator)[:wanted]]
    held_out, edges = torch.stack([keys // num_nodes, keys % num_nodes]).split([HELD_OUT, num_edges], 1)
    centres = torch.randn(communities, FEATURES, generator=generator)
    x = torch.randn(num_nodes, FEATURES, generator=generator).mul_(NOISE)
    x += centres[torch.arange(num_nodes) % communities]
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1)), held_out


def model_of(share: float) -> GraphVAE:
    """A graph autoencoder: GraphSAGE with two layers, inner product."""
    backbone = Stack(SAGEConv(FEATURES, HIDDEN), nn.ReLU(), SAGEConv(HIDDEN, HIDDEN))
    return GraphVAE(StandardNormal(LATENT), PointEncoder(backbone, HIDDEN, LATENT), InnerProduct(share))


@torch.no_grad()
def auc(model: GraphVAE, batches: LinkBatches, held_out: Tensor) -> float:
    """Of edges held out against as many non-edges, at the code given a sampled neighbourhood."""
    generator = torch.Generator().manual_seed(1)
    pairs = torch.cat([held_out, batches.non_edges.sample(held_out.size(1), generator)], 1)
    around = batches.sampler.sample(pairs.flatten(), generator)
    q = model.eval().encoder(batches.x[around.n_id], around.edge_index)
    scores = model.edges(q.mean).logits(around.seeds.view(2, -1))
    labels = torch.arange(pairs.size(1)) < held_out.size(1)
    return float(roc_auc_score(labels, scores))


def run(options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for the making of the graph and of its batches, and one for the epoch."""
    cpu = torch.device("cpu")
    with measured(cpu) as making:
        graph, held_out = planted(options.nodes, options.edges, torch.Generator().manual_seed(options.seed))
    with measured(cpu) as preparing:
        batches = LinkBatches(graph, options.batch_size, options.fanouts)
    del graph
    model = model_of(2 * options.edges / (options.nodes * (options.nodes - 1)))
    before = auc(model, batches, held_out)
    with measured(cpu) as training:
        history = fit(model, batches, masked_edges, epochs=1, seed=options.seed, accelerator=Accelerator(cpu=True))
    training |= {"steps": len(batches), "steps_per_second": len(batches) / training["seconds"]}
    training |= {"edges_per_second": options.edges / training["seconds"], "nats": history.objective[0]}
    training |= {"auc_before": before, "auc_after": auc(model, batches, held_out)}
    stages = {"make the graph": making, "LinkBatches": preparing, "one epoch": training}
    return [{"stage": name} | cost for name, cost in stages.items()]


def main() -> None:
    """Runs and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--edges", type=int, default=10_000_000)
    parser.add_argument("--batch-size", type=int, default=65_536)
    parser.add_argument("--fanouts", type=int, nargs="+", default=[4, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="instead of results/NODES-EDGES.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rows = run(options)
    names = ("nodes", "edges", "batch_size", "fanouts")
    protocol = {name: getattr(options, name) for name in names} | {"columns": 2 * options.edges, "threads": 1}
    protocol |= {"features": FEATURES, "held_out": HELD_OUT, "encoder": f"SAGE {FEATURES}-{HIDDEN}-{HIDDEN}-{LATENT}"}
    out = options.out or Path(__file__).parent / "results" / f"{options.nodes}-{options.edges}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(document("benchmarks/06_large_graph", protocol, options.seed, rows), out)
    for row in rows:
        print(
            ", ".join(f"{name} {value:.6g}" if isinstance(value, float) else str(value) for name, value in row.items())
        )


if __name__ == "__main__":
    main()
