"""Training on many small graphs: this library, PyG's loader with dense decoders, and a loop over graphs.

Usage: python benchmarks/05_small_graphs/run.py [--rounds 9] [--graphs 2000]
Writes results/small_graphs.json beside this file. One thread; process CPU time; no data needed.

Two models: latents of nodes, with an inner-product decoder; and a latent of the graph (GIN, sum), with a decoder of all
pairs of places (Simonovsky & Komodakis, 2018, without the matching). Each is written twice, and tested to be equal.
"""

import argparse
import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import BatchSampler, RandomSampler
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import GCNConv, GINConv, SumAggregation, global_add_pool
from torch_geometric.utils import to_dense_adj, to_dense_batch

from graphvae import GraphVAE, elbo, fit
from graphvae.backbones import GraphConvolution, Nodewise, Stack
from graphvae.edges import DenseEdges, InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.features import CategoricalFeatures
from graphvae.graphs import Selector, as_batch, density
from graphvae.priors import StandardNormal
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
SETTINGS = {"5-9": (5, 9, 128), "9-38": (9, 38, 128), "9-64": (9, 64, 32)}
BASES = dict.fromkeys(
    ("PyG DataLoader, dense decoder", "graphvae", "loop over graphs"), "PyG DataLoader, dense decoder"
)
BASES |= dict.fromkeys(("data path, PyG DataLoader", "data path, graphvae"), "data path, PyG DataLoader")
TYPES, HIDDEN, LATENT, WIDE, EPOCHS, LOOPED = 8, 64, 32, 128, 4, 128


def random_graphs(count: int, smallest: int, largest: int, seed: int) -> list[Data]:
    """Random trees with a few pairs more joined, mean degree 2 to 3, nodes of random types, as molecules have."""
    rng = np.random.default_rng(seed)
    graphs = []
    for size in rng.integers(smallest, largest + 1, count):
        joined = np.zeros((size, size), dtype=bool)
        joined[np.arange(1, size), [rng.integers(node) for node in range(1, size)]] = True
        extra = rng.integers(size, size=(2, size // 3))
        joined[extra[0], extra[1]] = True
        joined = np.tril(joined | joined.T, -1)
        x = F.one_hot(torch.from_numpy(rng.integers(TYPES, size=size)), TYPES).float()
        graphs.append(Data(x=x, edge_index=torch.from_numpy(np.stack(np.nonzero(joined | joined.T)))))
    return graphs


def our_model(graphs: list[Data]) -> GraphVAE:
    """Two GCN layers, normal latents, an inner-product decoder, and a network that tells the type of each node."""
    torch.manual_seed(0)
    backbone = Stack(GraphConvolution(TYPES, HIDDEN), nn.ReLU(), GraphConvolution(HIDDEN, HIDDEN), nn.ReLU())
    types = Nodewise(nn.Sequential(nn.Linear(LATENT, HIDDEN), nn.ReLU()))
    return GraphVAE(
        prior=StandardNormal(LATENT),
        encoder=NormalEncoder(backbone, HIDDEN, LATENT),
        edges=InnerProduct(density(graphs)),
        features=CategoricalFeatures(types, HIDDEN, TYPES),
    )


class PyGModel(nn.Module):
    """The same model as it is written with PyG: padded latents and adjacency, masked cross-entropy.

    Args:
        ours: Whose layers it starts from.
    """

    def __init__(self, ours: GraphVAE) -> None:
        super().__init__()
        ours = copy.deepcopy(ours)
        self.conv1, self.conv2 = GCNConv(TYPES, HIDDEN), GCNConv(HIDDEN, HIDDEN)
        for theirs, layer in ((self.conv1, 0), (self.conv2, 2)):
            theirs.load_state_dict(ours.encoder.backbone.layers[layer].state_dict())
        self.loc, self.log_scale = ours.encoder.loc, ours.encoder.log_scale
        self.types = nn.Sequential(*ours.features.backbone.network, ours.features.logits)
        self.edge_scale, self.edge_bias = ours.edges.log_scale, ours.edges.bias

    def forward(self, data: Data, noise: Tensor | None = None) -> Tensor:
        """The ELBO summed over the graphs of the batch, `()`."""
        h = self.conv1(data.x, data.edge_index).relu()
        h = self.conv2(h, data.edge_index).relu()
        loc, log_scale = self.loc(h), self.log_scale(h).clamp(-10, 10)
        z = loc + (torch.randn_like(loc) if noise is None else noise) * log_scale.exp()
        kl = -0.5 * (1 + 2 * log_scale - loc.square() - (2 * log_scale).exp()).sum()
        types = F.cross_entropy(self.types(z), data.x.argmax(1), reduction="sum")
        padded, mask = to_dense_batch(z, data.batch)
        logits = self.edge_scale.exp() * padded @ padded.mT + self.edge_bias
        adjacency = to_dense_adj(data.edge_index, data.batch, max_num_nodes=padded.size(1))
        pairs = (mask[:, :, None] & mask[:, None, :]).triu(1)
        edges = F.binary_cross_entropy_with_logits(logits, adjacency, weight=pairs.float(), reduction="sum")
        return -edges - types - kl


def our_dense_model(graphs: list[Data]) -> GraphVAE:
    """Two GIN layers, their sum to a normal latent, and a network that gives every pair of places a logit."""
    torch.manual_seed(0)
    layers = [GINConv(nn.Linear(width, HIDDEN)) for width in (TYPES, HIDDEN)]
    backbone = Stack(layers[0], nn.ReLU(), layers[1], nn.ReLU())
    network = nn.Sequential(nn.Linear(LATENT, WIDE), nn.ReLU())
    return GraphVAE(
        prior=StandardNormal(LATENT),
        encoder=NormalEncoder(backbone, HIDDEN, LATENT, pool=SumAggregation()),
        edges=DenseEdges(max(graph.num_nodes for graph in graphs), WIDE, density(graphs), network),
    )


class PyGDenseModel(nn.Module):
    """The same model as it is written with PyG: the adjacency as padded matrices, masked cross-entropy.

    Args:
        ours: Whose layers it starts from.
    """

    def __init__(self, ours: GraphVAE) -> None:
        super().__init__()
        ours = copy.deepcopy(ours)
        self.conv1, self.conv2 = ours.encoder.backbone.layers[0], ours.encoder.backbone.layers[2]
        self.loc, self.log_scale = ours.encoder.loc, ours.encoder.log_scale
        self.scores, self.places = nn.Sequential(*ours.edges.network, ours.edges.scores), ours.edges.max_nodes
        self.register_buffer("pairs", torch.tril_indices(self.places, self.places, -1))

    def forward(self, data: Data, noise: Tensor | None = None) -> Tensor:
        """The ELBO summed over the graphs of the batch, `()`."""
        h = self.conv1(data.x, data.edge_index).relu()
        h = global_add_pool(self.conv2(h, data.edge_index).relu(), data.batch)
        loc, log_scale = self.loc(h), self.log_scale(h).clamp(-10, 10)
        z = loc + (torch.randn_like(loc) if noise is None else noise) * log_scale.exp()
        kl = -0.5 * (1 + 2 * log_scale - loc.square() - (2 * log_scale).exp()).sum()
        later, earlier = self.pairs
        adjacency = to_dense_adj(data.edge_index, data.batch, max_num_nodes=self.places)[:, later, earlier]
        sizes = torch.ones(len(h), dtype=torch.long) if data.batch is None else data.ptr.diff()
        mask = (later < sizes[:, None]).float()
        return -F.binary_cross_entropy_with_logits(self.scores(z), adjacency, weight=mask, reduction="sum") - kl


MODELS = {"node latents": (our_model, PyGModel), "graph latent": (our_dense_model, PyGDenseModel)}


def check_equal(ours: GraphVAE, theirs: nn.Module, graphs: list[Data], batch_size: int) -> None:
    """Both are the same model: equal ELBO for equal weights and noise, and equal gradients."""
    batch = as_batch(graphs[:batch_size])
    noise = torch.randn(batch.num_nodes if ours.encoder.pool is None else batch.num_graphs, LATENT)
    a, b = elbo(ours, batch, noise=noise).sum(), theirs(next(iter(DataLoader(graphs, batch_size))), noise)
    torch.testing.assert_close(a, b, rtol=1e-5, atol=0)
    a.backward()
    b.backward()
    torch.testing.assert_close(ours.encoder.loc.weight.grad, theirs.loc.weight.grad, rtol=1e-3, atol=1e-3)
    weights = (ours.edges.scores, theirs.scores[-1]) if ours.encoder.pool else (ours.edges, theirs)
    grads = [(layer.edge_bias if hasattr(layer, "edge_bias") else layer.bias).grad for layer in weights]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3)
    ours.zero_grad()
    theirs.zero_grad()


def train_pyg(model: nn.Module, loader: DataLoader, epochs: int) -> None:
    """The usual loop."""
    optimizer = Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for data in loader:
            optimizer.zero_grad()
            (-model(data) / data.num_graphs).backward()
            optimizer.step()


def train_looped(model: nn.Module, graphs: list[Data], batch_size: int) -> None:
    """One graph at a time, gradients added up over a batch."""
    optimizer = Adam(model.parameters(), lr=0.01)
    for start in range(0, len(graphs), batch_size):
        optimizer.zero_grad()
        for graph in graphs[start : start + batch_size]:
            (-model(graph) / batch_size).backward()
        optimizer.step()


def variants(model: str, graphs: list[Data], batch_size: int) -> dict[str, Callable[[], object]]:
    """What is timed. The set-up of `fit` (checks, once per training) is in both of its rows, to be taken off."""
    make, translate = MODELS[model]
    ours = make(graphs)
    theirs, looped, selector = translate(ours), translate(ours), Selector(as_batch(graphs))
    check_equal(ours, theirs, graphs, batch_size)
    loader = DataLoader(graphs, batch_size, shuffle=True)
    sampler = BatchSampler(RandomSampler(graphs), batch_size, drop_last=False)

    def ours_for(epochs: int) -> Callable[[], object]:
        return lambda: fit(ours, graphs, epochs=epochs, batch_size=batch_size, progress=False)

    return {
        "PyG DataLoader, dense decoder": lambda: train_pyg(theirs, loader, EPOCHS),
        "graphvae, one epoch and set-up": ours_for(1),
        "graphvae, more epochs and set-up": ours_for(1 + EPOCHS),
        "loop over graphs": lambda: train_looped(looped, graphs[:LOOPED], batch_size),
        "data path, PyG DataLoader": lambda: [data.num_graphs for data in loader],
        "data path, graphvae": lambda: [selector(ids).num_graphs for ids in sampler],
        "check and join a list, graphvae": lambda: as_batch(graphs),
    }


def rows(model: str, name: str, rounds: int, count: int) -> list[dict[str, object]]:
    """Microseconds per graph of each variant, and how many times as fast as PyG's it is."""
    smallest, largest, batch_size = SETTINGS[name]
    graphs = random_graphs(count, smallest, largest, seed=0)
    timed = {row["variant"]: row for row in interleaved(variants(model, graphs, batch_size), rounds)}
    every = {variant: np.array(row["all_milliseconds"]) for variant, row in timed.items()}
    once, more = every.pop("graphvae, one epoch and set-up"), every.pop("graphvae, more epochs and set-up")
    extra = timed["graphvae, more epochs and set-up"]["extra_mib"]
    every["graphvae"] = more - once
    timed["graphvae"] = {"extra_mib": extra}
    seen = dict.fromkeys(every, count) | {"loop over graphs": LOOPED}
    seen |= {"PyG DataLoader, dense decoder": EPOCHS * count, "graphvae": EPOCHS * count}
    cost = {variant: 1000 * every[variant] / seen[variant] for variant in every}
    found: list[dict[str, object]] = []
    for variant in sorted(cost):
        row = {
            "model": model,
            "nodes": name,
            "batch_size": batch_size,
            "variant": variant,
            "microseconds_per_graph": float(np.median(cost[variant])),
            "all_microseconds_per_graph": cost[variant].tolist(),
            "extra_mib": timed[variant]["extra_mib"],
        }
        if variant in BASES:
            row["speed"] = float(np.median(cost[BASES[variant]] / cost[variant]))
        found.append(row)
    set_up = 1000 * float(np.median(once - every["graphvae"] / EPOCHS)) / count
    return [
        *found,
        {
            "model": model,
            "nodes": name,
            "batch_size": batch_size,
            "variant": "set-up",
            "microseconds_per_graph": set_up,
        },
    ]


def main() -> None:
    """Runs all settings and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--nodes", choices=SETTINGS, nargs="*", default=list(SETTINGS))
    parser.add_argument("--model", choices=MODELS, nargs="*", default=list(MODELS))
    parser.add_argument("--out", type=Path, default=RESULTS / "small_graphs.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        row
        for model in arguments.model
        for name in arguments.nodes
        for row in rows(model, name, arguments.rounds, arguments.graphs)
    ]
    protocol = {
        "graphs": arguments.graphs,
        "rounds": arguments.rounds,
        "threads": 1,
        "time": "process CPU time, interleaved in one process, median over rounds",
        "models": {
            "node latents": f"GCN 2 x {HIDDEN}, latent {LATENT}, inner product, {TYPES} node types",
            "graph latent": f"GIN 2 x {HIDDEN}, sum, latent {LATENT}, hidden {WIDE}, a logit for every pair of places",
        },
        "step": "ELBO, backward, Adam",
        "speed": "against PyG's DataLoader with the dense decoder (data path: against that loader alone)",
    }
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("benchmarks/05_small_graphs", protocol, 0, found), arguments.out)


if __name__ == "__main__":
    main()
