"""How fast the device makes low-bit copies and reads them back."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from remora.executor.memory.compression import compress, restore

__all__ = ["compression_rates"]

_ELEMENTS = 1 << 20
_REPETITIONS = 7


def compression_rates(device: torch.device) -> tuple[float, float]:
    """Return bytes per second of compressing and of restoring, in bytes of the original.

    Args:
        device: where to run a few MiB of float32.
    """
    values = torch.linspace(-1.0, 1.0, _ELEMENTS, device=device)  # [elements]
    codes, scales = compress(values)
    compress_s = _median_s(lambda: compress(values), device)
    restore_s = _median_s(lambda: restore(codes, scales, values.dtype), device)
    return values.nbytes / compress_s, values.nbytes / restore_s


def _median_s(function: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(_REPETITIONS + 1):
        _wait(device)
        start = time.perf_counter()
        function()
        _wait(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
