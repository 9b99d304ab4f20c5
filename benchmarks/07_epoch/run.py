"""One training epoch of a VGAE: PyG's own, with sampled negatives, against this library's, exact over all pairs.

Usage: python benchmarks/07_epoch/run.py [--root FOLDER]   (or GRAPHVAE_DATA=FOLDER)
Writes results/epoch.json beside this file. Both are GCN 32-16 with Adam, at 0.01; PyG's as in its example. A
measurement is `EPOCHS` epochs; one thread, process CPU time, variants interleaved in one process.
"""

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch_geometric.data import Data
from torch_geometric.nn import VGAE, GCNConv

from graphvae import GraphVAE, fit
from graphvae.backbones import GraphConvolution, Propagation, Stack
from graphvae.datasets import citation
from graphvae.edges import Estimated, InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.estimates import SampledPairs
from graphvae.objectives import kipf_welling
from graphvae.priors import StandardNormal
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
SEED, ROUNDS, EPOCHS, HIDDEN, LATENT = 0, 9, 10, 32, 16
PYG = "PyG VGAE, sampled"


class PyGEncoder(nn.Module):
    """The encoder of PyG's example.

    Args:
        features: Width of x.
        cached: Normalise the graph once.
    """

    def __init__(self, features: int, cached: bool) -> None:
        super().__init__()
        self.conv1 = GCNConv(features, HIDDEN, cached=cached)
        self.conv_mu = GCNConv(HIDDEN, LATENT, cached=cached)
        self.conv_logstd = GCNConv(HIDDEN, LATENT, cached=cached)

    def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-scale."""
        x = self.conv1(x, edge_index).relu()
        return self.conv_mu(x, edge_index), self.conv_logstd(x, edge_index)


def pyg(graph: Data, cached: bool) -> Callable[[], None]:
    """Epochs of PyG's example."""
    model = VGAE(PyGEncoder(graph.num_features, cached))
    optimizer = Adam(model.parameters(), lr=0.01)

    def run() -> None:
        for _ in range(EPOCHS):
            model.train()
            optimizer.zero_grad()
            z = model.encode(graph.x, graph.edge_index)
            loss = model.recon_loss(z, graph.edge_index) + model.kl_loss() / graph.num_nodes
            loss.backward()
            optimizer.step()

    return run


def ours(graph: Data, estimated: bool = False) -> Callable[[], None]:
    """Epochs of the objective of Kipf & Welling, exact or with as many sampled pairs as PyG samples."""
    edges: Any = InnerProduct(density=0.5).requires_grad_(False)
    if estimated:
        edges = Estimated(edges, SampledPairs(graph.edge_index.size(1)))
    backbone = Stack(GraphConvolution(graph.num_features, HIDDEN), nn.ReLU(), Propagation())
    model = GraphVAE(StandardNormal(LATENT), NormalEncoder(backbone, HIDDEN, LATENT), edges)
    optimizer = Adam(model.parameters(), lr=0.01, fused=True)
    batch = model.batch(graph)

    def run() -> None:
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            (-kipf_welling(model, batch).mean()).backward()
            optimizer.step()

    return run


def dense(graph: Data) -> Callable[[], None]:
    """The same network with the objective as it was published: N x N matrices, dense features."""
    model = VGAE(PyGEncoder(graph.num_features, cached=True))
    optimizer = Adam(model.parameters(), lr=0.01)
    nodes = graph.num_nodes
    label = torch.eye(nodes)
    label[graph.edge_index[0], graph.edge_index[1]] = 1
    absent = nodes**2 - graph.edge_index.size(1)
    weight = torch.tensor(absent / graph.edge_index.size(1))

    def run() -> None:
        for _ in range(EPOCHS):
            optimizer.zero_grad()
            z = model.encode(graph.x, graph.edge_index)
            loss = F.binary_cross_entropy_with_logits(z @ z.T, label, pos_weight=weight) * (nodes**2 / (2 * absent))
            (loss + model.kl_loss() / nodes).backward()
            optimizer.step()

    return run


def trained(graph: Data) -> Callable[[], None]:
    """`fit` with the exact objective, its checks and its set-up included."""
    backbone = Stack(GraphConvolution(graph.num_features, HIDDEN), nn.ReLU(), Propagation())
    edges = InnerProduct(density=0.5).requires_grad_(False)
    model = GraphVAE(StandardNormal(LATENT), NormalEncoder(backbone, HIDDEN, LATENT), edges)
    return lambda: fit(model, graph, kipf_welling, epochs=EPOCHS, progress=False) and None


def measure(name: str, root: str | None) -> list[dict[str, Any]]:
    """A row per variant, times per epoch."""
    graph = citation(name, root)
    sparse = Data(x=graph.x.to_sparse_csr(), edge_index=graph.edge_index)
    variants = {
        PYG: pyg(graph, cached=False),
        "PyG VGAE, sampled, cached=True": pyg(graph, cached=True),
        "published, dense N x N": dense(graph),
        "graphvae, exact": ours(sparse),
        "graphvae, exact, dense features": ours(graph),
        "graphvae, exact, through fit": trained(sparse),
        "graphvae, sampled": ours(sparse, estimated=True),
    }
    rows = interleaved(variants, ROUNDS)
    base = next(row["milliseconds"] for row in rows if row["variant"] == PYG)
    for row in rows:
        row["over_pyg"] = row["milliseconds"] / base
        row["all_milliseconds"] = [value / EPOCHS for value in row["all_milliseconds"]]
        row["milliseconds"] /= EPOCHS
    return [{"dataset": name} | row for row in rows]


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder of the data sets")
    root = parser.parse_args().root
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    random.seed(SEED)  # PyG's negative sampling draws from it.
    rows = [row for name in ("cora", "citeseer") for row in measure(name, root)]
    protocol = {"rounds": ROUNDS, "epochs": EPOCHS, "threads": 1, "time": "process CPU time per epoch, median"}
    RESULTS.mkdir(exist_ok=True)
    write_json(document("benchmarks/07_epoch", protocol, SEED, rows), RESULTS / "epoch.json")


if __name__ == "__main__":
    main()
