"""One step of training: gradients, whether they are finite, and the optimiser's step."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.optim import Optimizer

_SMALL = 2**16  # Numbers; so few are copied sooner than summed up one tensor after another.


class Stepper:
    """Takes steps through accelerate; or past it, where it would change nothing and costs as much as a small model.

    Args:
        optimizer: As `accelerator` prepared it.
        accelerator: Of the training.
    """

    def __init__(self, optimizer: Optimizer, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        alone = accelerator.distributed_type is DistributedType.NO and accelerator.scaler is None
        self._direct = alone and accelerator.gradient_accumulation_steps == 1
        if self._direct and isinstance(optimizer, AcceleratedOptimizer):
            optimizer = cast(Any, optimizer).optimizer
        self.optimizer = optimizer
        self._plain = type(optimizer).zero_grad is Optimizer.zero_grad

    def backward(self, mean: Tensor) -> None:
        """Puts the gradient of the descent on -`mean` in place of that of the step before."""
        if self._plain:  # What zero_grad does, without what it tells the profiler.
            for parameter in self._parameters():
                parameter.grad = None
        else:
            self.optimizer.zero_grad()
        if self._direct:
            (-mean).backward()
        else:
            self.accelerator.backward(-mean)

    def finite(self, mean: Tensor) -> bool:
        """Whether `mean` and its gradient are; of the gradient it is not asked where half precision is scaled."""
        if self.accelerator.scaler is not None:
            return bool(mean.isfinite())  # Half precision overflows now and then; its scaler skips those steps.
        return _all_finite([mean.detach(), *(p.grad for p in self._parameters() if p.grad is not None)])

    def step(self) -> None:
        """Moves the parameters."""
        self.optimizer.step()

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]


def _all_finite(tensors: list[Tensor]) -> bool:
    device = tensors[0].device
    if device.type == "cpu":
        # A value that is not finite makes its sum so, and sums take a thirtieth of the time of the largest value. They
        # may also overflow; the largest value decides then.
        if sum(tensor.numel() for tensor in tensors) < _SMALL:
            total = torch.cat([tensor.reshape(-1) for tensor in tensors]).sum()
        else:
            total = torch.stack([tensor.sum().to(device) for tensor in tensors]).sum()
        if math.isfinite(total.item()):
            return True
    return math.isfinite(nn.utils.get_total_norm(tensors, norm_type=torch.inf).item())
