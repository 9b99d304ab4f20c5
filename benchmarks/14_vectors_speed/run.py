"""Vectors as edgeless graphs: `fit` against a plain PyTorch loop and pythae; convolutions against their linear layers.

Usage: python benchmarks/14_vectors_speed/run.py [--rounds 9] [--pythae-python PATH]
PATH is the Python of an environment of its own with pythae 0.1.2 and the torch of constraints.txt; without it that
comparison is left out. Writes results/vectors_speed.json beside this file. One thread; process CPU time; no data.
"""

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg
from torch import Tensor, nn
from torch.optim import Adam

from graphvae import GraphVAE, fit
from graphvae.backbones import Nodewise
from graphvae.encoders import NormalEncoder
from graphvae.features import BernoulliFeatures
from graphvae.isolated import convolved
from graphvae.priors import StandardNormal
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

HERE = Path(__file__).parent
BATCH_SIZE = 128
MODELS = {"784-512-16": ((784, 512, 16), 5120, 6), "32-64-8": ((32, 64, 8), 6400, 20)}  # Sizes, vectors, epochs.
SHAPES = ((128, 64, 64), (1024, 784, 200))  # Rows, features, outputs.
NO_EDGES = torch.empty(2, 0, dtype=torch.long)


def binary_vectors(count: int, features: int) -> Tensor:
    """Independent bits, three in ten of them ones: what they say does not matter for the time."""
    return (torch.rand(count, features, generator=torch.Generator().manual_seed(0)) < 0.3).float()


class PlainVAE(nn.Module):
    """What one writes by hand, with the widths of `library_model`.

    Args:
        features: F.
        hidden: Width of both hidden layers.
        latent: D.
    """

    def __init__(self, features: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.hidden, self.loc = nn.Linear(features, hidden), nn.Linear(hidden, latent)
        self.log_scale = nn.Linear(hidden, latent)
        self.decoded, self.logits = nn.Linear(latent, hidden), nn.Linear(hidden, features)

    def forward(self, x: Tensor) -> Tensor:
        """Minus the ELBO, the mean over the batch."""
        rows = F.relu(self.hidden(x))
        loc, log_scale = self.loc(rows), self.log_scale(rows)
        z = loc + log_scale.exp() * torch.randn_like(loc)
        logits = self.logits(F.relu(self.decoded(z)))
        nats = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (loc.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum()
        return (nats + kl) / x.size(0)


def plain_training(sizes: tuple[int, int, int], x: Tensor, epochs: int) -> None:
    """A loop over index batches of a permutation."""
    torch.manual_seed(0)
    model = PlainVAE(*sizes)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = model(x[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def library_model(features: int, hidden: int, latent: int) -> GraphVAE:
    """The same network with this library's factors."""
    encoder = NormalEncoder(Nodewise(nn.Sequential(nn.Linear(features, hidden), nn.ReLU())), hidden, latent)
    decoder = Nodewise(nn.Sequential(nn.Linear(latent, hidden), nn.ReLU()))
    return GraphVAE(StandardNormal(latent), encoder, None, BernoulliFeatures(decoder, hidden, features))


def library_training(sizes: tuple[int, int, int], x: Tensor, epochs: int) -> None:
    """`fit`."""
    torch.manual_seed(0)
    model = library_model(*sizes)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    fit(model, x, epochs=epochs, batch_size=BATCH_SIZE, optimizer=optimizer, progress=False)


@contextmanager
def pythae(python: str | None) -> Iterator[Callable[..., float] | None]:
    """A function that measures a training of pythae, in a process that lives as long as the context."""
    if python is None:
        yield None
        return
    command = [python, str(HERE / "pythae_loop.py")]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def milliseconds(**arguments: Any) -> float:
        print(json.dumps(arguments), file=process.stdin, flush=True)
        return float(process.stdout.readline())

    try:
        yield milliseconds
    finally:
        process.stdin.close()
        process.wait()


def training_rows(name: str, rounds: int, peer: Callable[..., float] | None) -> list[dict[str, Any]]:
    """Milliseconds per step of every loop, and their ratio to the plain one, round by round."""
    sizes, count, epochs = MODELS[name]
    x = binary_vectors(count, sizes[0])
    loops: dict[str, Callable[[], float]] = {
        "plain PyTorch": lambda: _timed(lambda: plain_training(sizes, x, epochs)),
        "graphvae fit": lambda: _timed(lambda: library_training(sizes, x, epochs)),
    }
    if peer is not None:
        settings = {"sizes": list(sizes), "count": count, "epochs": epochs, "batch_size": BATCH_SIZE}
        loops["pythae 0.1.2, fused Adam"] = lambda: peer(**settings, fused=True)
        loops["pythae 0.1.2, its default Adam"] = lambda: peer(**settings, fused=False)
    times: dict[str, list[float]] = {loop: [] for loop in loops}
    for number in range(rounds + 1):
        for loop, run in loops.items():
            found = run()
            if number:  # The first round warms up.
                times[loop].append(found)
    steps = epochs * -(-count // BATCH_SIZE)
    plain = statistics.median(times["plain PyTorch"])
    return [
        {
            "measured": "training",
            "model": name,
            "variant": loop,
            "milliseconds_per_step": statistics.median(found) / steps,
            "times_plain": statistics.median(found) / plain,
            "all_milliseconds": found,
        }
        for loop, found in times.items()
    ]


def _timed(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return 1000 * (time.process_time() - started)


def convolutions(features: int, outputs: int) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Convolutions, each with the linear layer that it is without edges."""

    def linear(bias: bool = True) -> nn.Module:
        return nn.Linear(features, outputs, bias)

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(features, outputs), nn.ReLU(), nn.Linear(outputs, outputs))

    return {
        "GCNConv": (pyg.GCNConv(features, outputs), linear()),
        "SAGEConv": (pyg.SAGEConv(features, outputs), linear()),
        "GINConv": (pyg.GINConv(network()), network()),
        "GATConv": (pyg.GATConv(features, outputs), linear()),
        "GATv2Conv": (pyg.GATv2Conv(features, outputs), linear()),
        "GraphConv": (pyg.GraphConv(features, outputs), linear()),
        "TransformerConv": (pyg.TransformerConv(features, outputs), linear()),
    }


def convolution_rows(rounds: int) -> list[dict[str, Any]]:
    """Forward and backward pass of convolutions, PyG's and by closed form, as multiples of the linear layer's."""
    found = []
    for rows, features, outputs in SHAPES:
        x = torch.randn(rows, features, generator=torch.Generator().manual_seed(0))
        for name, (convolution, layer) in convolutions(features, outputs).items():
            repeats = 200 if rows < 1000 else 20
            variants = {
                "linear": _passes(layer, x, layer, repeats),
                "PyG": _passes(convolution, x, partial(convolution, edge_index=NO_EDGES), repeats),
                "graphvae": _passes(convolution, x, partial(convolved, convolution, edge_index=NO_EDGES), repeats),
            }
            times = {row["variant"]: row["milliseconds"] for row in interleaved(variants, rounds)}
            ratios = {f"{kind}_times_linear": times[kind] / times["linear"] for kind in ("PyG", "graphvae")}
            shape = f"{rows} rows, {features} to {outputs}"
            found.append({"measured": "convolution", "convolution": name, "shape": shape} | ratios)
    return found


def _passes(module: nn.Module, x: Tensor, run: Callable[[Tensor], Tensor], repeats: int) -> Callable[[], None]:
    def passes() -> None:
        for _ in range(repeats):
            module.zero_grad()
            run(x).sum().backward()

    return passes


def main() -> None:
    """Runs both comparisons and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pythae-python", metavar="PATH")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "vectors_speed.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with pythae(arguments.pythae_python) as peer:
        rows = [row for name in MODELS for row in training_rows(name, arguments.rounds, peer)]
    rows += convolution_rows(arguments.rounds)
    protocol = {
        "clock": "process CPU time, one thread, one warm-up round, then median of rounds, variants interleaved",
        "rounds": arguments.rounds,
        "batch_size": BATCH_SIZE,
        "optimizer": "Adam(lr=1e-3, fused=True) in all loops but where pythae has its default",
        "models": {name: {"vectors": count, "epochs": epochs} for name, (_, count, epochs) in MODELS.items()},
        "includes": "all of a training but making the data: model, set-up, and what the trainer does around its steps",
        "pythae": "0.1.2, a process of its own" if arguments.pythae_python else "not run: no --pythae-python given",
    }
    arguments.out.parent.mkdir(exist_ok=True)
    write_json(document("benchmarks/14_vectors_speed/run.py", protocol, 0, rows), arguments.out)


if __name__ == "__main__":
    main()
