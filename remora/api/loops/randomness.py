"""Leave all random generators as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["randomness_kept"]


@contextlib.contextmanager
def randomness_kept() -> Iterator[None]:
    """Draw random numbers that nobody misses: of Python, NumPy and PyTorch on every device."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
