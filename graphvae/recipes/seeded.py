"""Networks drawn from a seed, with PyTorch's generator left as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int, scoring: bool = False) -> Iterator[None]:
    """Within the block PyTorch draws from this seed; after it, as if the block had not been.

    Args:
        seed: Of initialisation and training, as it is.
        scoring: Draw from a stream of this seed that nothing else has. With the draws that weights began as, noise of
            latents would be where a prior's components are, and a divergence estimated there too low.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_another(seed) if scoring else seed)
        yield


def _another(seed: int) -> int:
    return int(np.random.SeedSequence([seed, 1]).generate_state(1, np.uint64)[0] >> 1)
