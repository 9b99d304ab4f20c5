"""A step past accelerate is a step through it; what is not finite is found."""

import math

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from graphvae import stepping
from graphvae.stepping import Stepper


def _prepared(optimizer=torch.optim.Adam, shape=(3, 2)):
    torch.manual_seed(0)
    parameter, accelerator = nn.Parameter(torch.randn(shape)), Accelerator(cpu=True)
    return parameter, accelerator, accelerator.prepare(optimizer([parameter], lr=0.1))


@pytest.mark.parametrize("accumulation", [1, 4])
def test_a_step_is_that_of_accelerate(accumulation):
    results = []
    for through in (False, True):
        parameter, accelerator, optimizer = _prepared()
        accelerator.gradient_accumulation_steps = accumulation
        stepper = Stepper(optimizer, accelerator)
        for _ in range(3):
            mean = -parameter.square().mean()
            if through:
                optimizer.zero_grad()
                accelerator.backward(-mean)
                optimizer.step()
            else:
                stepper.backward(mean)
                assert stepper.finite(mean)
                stepper.step()
        results.append((parameter.detach(), parameter.grad))
        accelerator.gradient_accumulation_steps = 1
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)


def test_an_optimizer_may_have_its_own_zero_grad():
    class Own(torch.optim.SGD):
        calls = 0

        def zero_grad(self, set_to_none=True):
            type(self).calls += 1
            super().zero_grad(set_to_none)

    parameter, accelerator, optimizer = _prepared(Own)
    Stepper(optimizer, accelerator).backward(parameter.sum())
    assert Own.calls == 1


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.0, 3e38])
@pytest.mark.parametrize("where", ["mean", "gradient"])
def test_finite(where, value, small, monkeypatch):
    if not small:
        monkeypatch.setattr(stepping, "_SMALL", 0)
    parameter, accelerator, optimizer = _prepared()
    parameter.grad = torch.full((3, 2), 3e38)  # Their sum is not finite; they are.
    mean = torch.tensor(1.0)
    if where == "mean":
        mean.fill_(value)
    else:
        parameter.grad[1, 1] = value
    assert Stepper(optimizer, accelerator).finite(mean) == math.isfinite(value)


def test_infinities_of_both_signs_do_not_cancel():
    parameter, accelerator, optimizer = _prepared()
    parameter.grad = torch.tensor([[math.inf, -math.inf], [0, 0], [0, 0]])
    assert not Stepper(optimizer, accelerator).finite(torch.tensor(0.0))
