"""The fused kernel, run by Triton's interpreter on a CPU; on a GPU, `test_pairs` compares both."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton comes with PyTorch's CUDA builds")

PROGRAM = """
import torch
from graphvae import fused_pairs

torch.manual_seed(0)
for n, width, directed in [(150, 16, False), (150, 5, True), (65, 100, False), (64, 20, True)]:
    left, right, bias = torch.randn(n, width) / 2, torch.randn(n, width), torch.tensor(-9.0)
    double = [t.double().requires_grad_() for t in (left, right, bias)]
    scores = double[0] @ double[1].T + double[2]
    counts = ~torch.eye(n, dtype=torch.bool)
    exact = torch.nn.functional.softplus(scores, threshold=100)[counts if directed else counts.triu(1)].sum()
    exact.backward()
    value, slope = torch.zeros(2, dtype=torch.float64)
    grad_left, grad_right = torch.zeros(n, width), torch.zeros(width, n + 3)[:, 2:-1]
    fused_pairs.add_graph(value, (grad_left, grad_right, slope), left, right, bias, directed)
    for mine, theirs in zip((value, grad_left, grad_right.T, slope), (exact, *(t.grad for t in double))):
        error = (mine.double() - theirs).norm() / theirs.norm()
        assert error < 1e-6, (n, width, directed, error)
    alone = torch.zeros((), dtype=torch.float64)
    fused_pairs.add_graph(alone, None, left, right, bias, directed)
    assert torch.equal(alone, value)
"""


def test_kernel_equals_dense():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
