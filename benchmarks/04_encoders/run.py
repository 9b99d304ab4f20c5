"""What one training step of a graph convolutional encoder costs, full batch, on one CPU thread.

Usage: python benchmarks/04_encoders/run.py [--root FOLDER] [--rounds 15] [--large] [--only NAME]
Writes results/NAME.json beside this file and leaves what is there already; delete a file to run it again.

A step is forward, mean square of the output, backward, Adam, of two graph convolutions (32, then 16 wide) with a ReLU
between. The input is either 64 dense normal features, where propagation is most of the work, or the data set's own
bag of words. Before anything is timed, all variants must agree in outputs and gradients. What a variant keeps from its
first step on (PyG's cache, the operator of graphvae) is there already; making it is timed apart, as `prepare`.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch_geometric.nn import GCNConv

from graphvae.backbones import GraphConvolution, SparseLinear, Stack
from graphvae.datasets import citation
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json
from graphvae.sparse import normalized_adjacency, propagate, transposed

RESULTS = Path(__file__).parent / "results"
SEED, HIDDEN, LATENT, WIDTH = 0, 32, 16, 64
BASELINE = "PyG GCNConv, edge_index"
LARGE_NODES, LARGE_EDGES = 1_000_000, 10_000_000
CPU = torch.device("cpu")
Convolution = Callable[[int, int], nn.Module]


class Step:
    """One variant: `run` trains for one step."""

    def __init__(self, first: Convolution, second: Convolution, x: Tensor, edges: Tensor) -> None:
        torch.manual_seed(SEED)
        self.network = Stack(first(x.size(1), HIDDEN), nn.ReLU(), second(HIDDEN, LATENT))
        self.x, self.edges = x, edges
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.01)

    def gradients(self) -> list[Tensor]:
        """The output and every gradient."""
        self.optimizer.zero_grad()
        out = self.network(self.x, self.edges)
        out.square().mean().backward()
        return [out.detach(), *(p.grad for p in self.network.parameters())]

    def run(self) -> None:
        """Forward, backward, Adam."""
        self.gradients()
        self.optimizer.step()


class LinearStep:
    """X W + b of the first layer alone: `run` is forward, and backward from a given gradient."""

    def __init__(self, layer: Convolution, x: Tensor) -> None:
        torch.manual_seed(SEED)
        self.layer, self.x = layer(x.size(1), HIDDEN), x
        self.upstream = torch.rand(x.size(0), HIDDEN)

    def gradients(self) -> list[Tensor]:
        """The output and every gradient."""
        self.layer.zero_grad()
        out = self.layer(self.x)
        out.backward(self.upstream)
        return [out.detach(), *(p.grad for p in self.layer.parameters())]

    def run(self) -> None:
        """Forward and backward."""
        self.gradients()


def cached(in_channels: int, out_channels: int) -> GCNConv:
    """PyG's layer that keeps the normalised edges."""
    return GCNConv(in_channels, out_channels, cached=True)


def bare(in_channels: int, out_channels: int) -> GCNConv:
    """PyG's layer for an operator that is normalised already."""
    return GCNConv(in_channels, out_channels, normalize=False)


class Dense(nn.Module):
    """The first graph convolution on an input that was propagated before training: only its weights are left."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        layer = GraphConvolution(in_channels, out_channels)
        self.lin, self.bias = layer.lin, layer.bias

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """`(N, F)` to `(N, hidden)`."""
        return self.lin(x) + self.bias


def dense_input(edge_index: Tensor, num_nodes: int) -> dict[str, Step]:
    """The variants on 64 dense features."""
    x = torch.randn(num_nodes, WIDTH, generator=torch.Generator().manual_seed(SEED))
    operator = normalized_adjacency(edge_index, num_nodes)
    return {
        BASELINE: Step(GCNConv, GCNConv, x, edge_index),
        "PyG GCNConv, cached=True": Step(cached, cached, x, edge_index),
        "PyG GCNConv, torch CSR operator": Step(bare, bare, x, operator),
        "GraphConvolution, edge_index": Step(GraphConvolution, GraphConvolution, x, edge_index),
        "GraphConvolution, input propagated before": Step(
            Dense, GraphConvolution, propagate(x, edge_index), edge_index
        ),
    }


def words(x: Tensor, edge_index: Tensor) -> dict[str, Step]:
    """The variants on the bag of words, dense and sparse."""
    operator, sparse = normalized_adjacency(edge_index, x.size(0)), x.to_sparse_csr()
    return {
        f"{BASELINE}, dense x": Step(GCNConv, GCNConv, x, edge_index),
        "PyG GCNConv, cached=True, dense x": Step(cached, cached, x, edge_index),
        "PyG GCNConv, torch CSR operator, dense x": Step(bare, bare, x, operator),
        "PyG GCNConv, torch CSR operator, CSR x": Step(bare, bare, sparse, operator),
        "GraphConvolution, edge_index, dense x": Step(GraphConvolution, GraphConvolution, x, edge_index),
        "GraphConvolution, edge_index, CSR x": Step(GraphConvolution, GraphConvolution, sparse, edge_index),
    }


def first_layer(x: Tensor) -> dict[str, LinearStep]:
    """X W + b alone."""
    sparse = x.to_sparse_csr()
    return {
        "nn.Linear, dense x": LinearStep(nn.Linear, x),
        "nn.Linear, CSR x": LinearStep(nn.Linear, sparse),
        "SparseLinear, CSR x": LinearStep(SparseLinear, sparse),
    }


def check_equal(variants: Mapping[str, Step | LinearStep]) -> None:
    """All variants compute the same function and gradients, up to the rounding of float32."""
    results = {name: step.gradients() for name, step in variants.items()}
    expected = next(iter(results.values()))
    for name, found in results.items():
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(
                ours,
                theirs,
                rtol=1e-3,
                atol=1e-4 * float(theirs.abs().max()),
                msg=lambda found, name=name: f"{name}: {found}",
            )


def rows_of(
    variants: Mapping[str, Step | LinearStep], rounds: int, facts: dict[str, object]
) -> list[dict[str, object]]:
    """Checks, times and prints the variants; ratios are to the first."""
    check_equal(variants)
    rows = interleaved({name: step.run for name, step in variants.items()}, rounds)
    for row in rows:
        row |= facts | {"speedup": rows[0]["milliseconds"] / row["milliseconds"]}
        row["step_mib"] = row["extra_mib"]
        row["memory_ratio"] = rows[0]["step_mib"] / max(row["step_mib"], 1.0)  # Less than a MiB is not told apart.
        print(
            f"{facts['data']:12} {facts['input']:28} {row['variant']:44} {row['milliseconds']:9.1f} ms "
            f"{row['speedup']:5.1f}x {row['step_mib']:7.0f} MiB {row['memory_ratio']:5.1f}x",
            flush=True,
        )
    return rows


def prepare(edge_index: Tensor, num_nodes: int) -> dict[str, float]:
    """Seconds (CPU) and MiB of the operator and of finding out that it is its own transpose, paid once."""
    fresh, started = edge_index.clone(), time.process_time()
    operator = normalized_adjacency(fresh, num_nodes)
    made = time.process_time()
    transposed(operator)
    parts = (operator.crow_indices(), operator.col_indices(), operator.values())
    return {
        "operator_milliseconds": 1000 * (made - started),
        "transpose_milliseconds": 1000 * (time.process_time() - made),
        "operator_mib": sum(part.nbytes for part in parts) / 2**20,
    }


def measure(name: str, root: str | None, rounds: int) -> tuple[list[dict[str, object]], dict[str, float]]:
    """All rows of one data set."""
    if name == "random":
        generator = torch.Generator().manual_seed(SEED)
        half = torch.randint(LARGE_NODES, (2, LARGE_EDGES // 2), generator=generator)
        edge_index, num_nodes, x = torch.cat([half, half.flip(0)], 1), LARGE_NODES, None
        del half
    else:
        graph = citation(name, root)
        edge_index, num_nodes, x = graph.edge_index, graph.num_nodes, graph.x
    facts = {"data": name, "nodes": num_nodes, "edges": edge_index.size(1)}
    rows = rows_of(dense_input(edge_index, num_nodes), rounds, facts | {"input": f"{WIDTH} dense"})
    if x is not None:
        share = float((x != 0).float().mean())
        bag = facts | {"input": f"{x.size(1)} words, {share:.2%} present"}
        rows += rows_of(words(x, edge_index), rounds, bag)
        rows += rows_of(first_layer(x), rounds, bag | {"input": f"{bag['input']}, X W alone"})
    return rows, prepare(edge_index, num_nodes)


def main() -> None:
    """Runs what has no result yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="folder that holds the data sets; GRAPHVAE_DATA otherwise")
    parser.add_argument("--rounds", type=int, default=15, help="at least 7; the large graph takes 7")
    parser.add_argument(
        "--large", action="store_true", help="also 1,000,000 nodes and 10,000,000 edges: 4 GiB, minutes"
    )
    parser.add_argument("--only", help="one data set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    names = ["cora", "citeseer", "coauthor-cs"] + ["random"] * arguments.large
    RESULTS.mkdir(exist_ok=True)
    for name in [arguments.only] if arguments.only else names:
        out = RESULTS / f"{name}.json"
        if out.exists():
            continue
        rounds = 7 if name == "random" else max(7, arguments.rounds)
        rows, once = measure(name, arguments.root, rounds)
        protocol = {
            "step": f"Stack(conv(F, {HIDDEN}), ReLU, conv({HIDDEN}, {LATENT})): forward, backward, Adam; full batch",
            "threads": 1,
            "rounds": rounds,
            "time": "median process CPU time, variants interleaved in one process",
            "memory": "step_mib: peak above that in use before the step, after malloc_trim",
            "prepare": once,
        }
        write_json(document("benchmarks/04_encoders/run.py", protocol, SEED, rows), out)


if __name__ == "__main__":
    main()
