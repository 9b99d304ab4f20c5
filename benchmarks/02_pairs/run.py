"""The likelihood over all pairs, value and gradient: exact in tiles, dense, by checkpointed rows, and the CPU's floor.

Usage: python benchmarks/02_pairs/run.py [--memory]
Writes results/cpu.json beside this file (--memory: results/memory.json, exact in tiles alone, to N = 100,000); where
there is a CUDA GPU, results/DEVICE.json. One thread, process CPU time, variants interleaved in one process.
"""

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from torch_geometric.utils import negative_sampling

from graphvae.layout import Layout
from graphvae.pairs import softplus_sum
from graphvae.recipes.measuring import interleaved
from graphvae.recipes.reporting import document, write_json

RESULTS = Path(__file__).parent / "results"
SEED, ROUNDS, STRIP, DEGREE = 0, 7, 512, 4
SIZES = [(2708, 16), (2708, 64), (8192, 16), (8192, 64), (19717, 16), (19717, 64)]
Value = Callable[[Tensor, Tensor], Tensor]
REGIMES = {"sparse": (0.4, -9.0), "balanced": (1.0, 0.0)}  # Standard deviation of a score of two nodes; bias.


def exact(h: Tensor, bias: Tensor) -> Tensor:
    """In tiles."""
    return softplus_sum(h, h, bias, Layout.single(len(h))).sum()


def dense(h: Tensor, bias: Tensor) -> Tensor:
    """As one matrix, both halves of it, less the diagonal."""
    values = F.softplus(h @ h.T + bias)
    return (values.sum() - values.diagonal().sum()) / 2


def checkpointed_rows(h: Tensor, bias: Tensor) -> Tensor:
    """Strips of rows, computed again in the backward pass."""

    def strip(rows: Tensor) -> Tensor:
        return F.softplus(rows @ h.T + bias).sum()

    total = sum(checkpoint(strip, rows, use_reentrant=False) for rows in h.split(STRIP))
    return (total - F.softplus(h.square().sum(1) + bias).sum()) / 2


def negative_sampled(edge_index: Tensor) -> Value:
    """The mean over sampled non-edges that PyG's examples take: not a likelihood, for its cost."""

    def value(h: Tensor, bias: Tensor) -> Tensor:
        rows, columns = negative_sampling(edge_index, len(h), edge_index.size(1))
        return F.softplus((h[rows] * h[columns]).sum(1) + bias).mean()

    return value


def with_gradient(function: Value, h: Tensor, bias: Tensor) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """A call gives the value and its gradient with respect to `h` and `bias`."""
    leaves = h.clone().requires_grad_(), bias.clone().requires_grad_()

    def run() -> tuple[Tensor, Tensor, Tensor]:
        for leaf in leaves:
            leaf.grad = None
        value = function(*leaves)
        value.backward()
        return value.detach(), leaves[0].grad, leaves[1].grad

    return run


def floor(h: Tensor) -> Callable[[], None]:
    """Three products of tiles and one sigmoid for every pair, with all its memory at hand."""
    tile, rows, columns = torch.empty(STRIP * STRIP), torch.zeros_like(h), torch.zeros_like(h.T)
    blocks, row_slopes, column_slopes = h.split(STRIP), rows.split(STRIP), columns.split(STRIP, 1)

    def run() -> None:
        for i, left in enumerate(blocks):
            for j in range(i, len(blocks)):
                scores = tile[: len(left) * len(blocks[j])].view(len(left), -1)
                torch.mm(left, blocks[j].T, out=scores)
                scores.sigmoid_()
                row_slopes[i].addmm_(scores, blocks[j])
                column_slopes[j].addmm_(left.T, scores)

    return run


def errors(h: Tensor, bias: Tensor) -> dict[str, float]:
    """Relative errors of value and gradient in float32 against dense float64."""
    value, gradient, _ = with_gradient(exact, h, bias)()
    true_value, true_gradient, _ = with_gradient(dense, h.double(), bias.double())()
    return {
        "value_error": abs(value.item() / true_value.item() - 1),
        "gradient_error": ((gradient - true_gradient).norm() / true_gradient.norm()).item(),
    }


def measure(n: int, width: int, regime: str) -> list[dict[str, Any]]:
    """All variants at one size."""
    generator = torch.Generator().manual_seed(SEED)
    spread, bias = REGIMES[regime]
    h = torch.randn(n, width, generator=generator) * (spread / width**0.5) ** 0.5
    bias = torch.tensor(bias)
    edge_index = torch.randint(n, (2, DEGREE * n), generator=generator)
    edge_index = edge_index[:, edge_index[0] != edge_index[1]]
    functions = {"exact": exact, "dense": dense, "checkpointed rows": checkpointed_rows}
    functions["negative sampling (PyG, 4 N pairs)"] = negative_sampled(edge_index)
    variants = {name: with_gradient(function, h, bias) for name, function in functions.items()}
    rows = interleaved(variants | {"floor": floor(h)}, ROUNDS)
    ours = next(row["milliseconds"] for row in rows if row["variant"] == "exact")
    common = {"nodes": n, "width": width, "regime": regime} | (errors(h, bias) if n <= 8192 else {})
    return [common | row | {"times_exact": row["milliseconds"] / ours} for row in rows]


def memory() -> list[dict[str, Any]]:
    """The exact sum alone, at all sizes and one at which a dense matrix would take 40 GB."""
    rows = []
    for n, width in [*SIZES, (100_000, 16), (100_000, 64)]:
        h = torch.randn(n, width, generator=torch.Generator().manual_seed(SEED)) * (0.4 / width**0.5) ** 0.5
        row = interleaved({"exact": with_gradient(exact, h, torch.tensor(-9.0))}, rounds=1)[0]
        rows.append({"nodes": n, "width": width, "regime": "sparse", "input_mib": n * width * 4 / 2**20} | row)
    return rows


def on_gpu() -> list[dict[str, Any]]:
    """The fused kernel: wall time by CUDA events, memory of the allocator, agreement with the CPU's tiles."""
    rows = []
    for n in (20_000, 100_000, 1_000_000):
        for width in (16, 64, 128):
            h = torch.randn(n, width, generator=torch.Generator().manual_seed(SEED)) * (0.4 / width**0.5) ** 0.5
            step = with_gradient(exact, h.cuda(), torch.tensor(-9.0).cuda())
            value, gradient, _ = step()
            torch.cuda.reset_peak_memory_stats()
            times = []
            for _ in range(ROUNDS if n < 1_000_000 else 2):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                step()
                end.record()
                torch.cuda.synchronize()
                times.append(start.elapsed_time(end))
            row = {"variant": "exact, GPU", "nodes": n, "width": width, "regime": "sparse", "all_milliseconds": times}
            row |= {"milliseconds": sorted(times)[len(times) // 2]}
            row |= {"extra_mib": torch.cuda.max_memory_allocated() / 2**20}
            if n == 20_000:
                there, slope, _ = with_gradient(exact, h, torch.tensor(-9.0))()
                row |= {"value_error": abs(value.item() / there.item() - 1)}
                row |= {"gradient_error": ((gradient.cpu() - slope).norm() / slope.norm()).item()}
            rows.append(row)
    return rows


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="only the memory of the exact sum")
    memory_only = parser.parse_args().memory
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    RESULTS.mkdir(exist_ok=True)
    protocol = {"rounds": ROUNDS, "threads": 1, "time": "process CPU time, median", "regimes": REGIMES}
    if torch.cuda.is_available():
        protocol |= {"time": "CUDA events, median", "device": torch.cuda.get_device_name()}
        name, rows = re.sub(r"\W+", "-", torch.cuda.get_device_name()).lower(), on_gpu()
    elif memory_only:
        name, rows = "memory", memory()
    else:
        cases = [(*size, regime) for size in SIZES for regime in REGIMES if size[0] < 10_000 or regime == "sparse"]
        name, rows = "cpu", [row for case in cases for row in measure(*case)]
    write_json(document(f"benchmarks/02_pairs/run.py ({name})", protocol, SEED, rows), RESULTS / f"{name}.json")


if __name__ == "__main__":
    main()
