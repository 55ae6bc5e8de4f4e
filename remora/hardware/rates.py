"""The small measurements that CPU and CUDA share, given a clock for one call."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

__all__ = ["Stopwatch", "copy_rate", "launch_time_s", "matrix_rate", "matrix_rates"]

Stopwatch = Callable[[Callable[[], object]], float]
"""Runs a function once and returns the seconds until the device has finished it."""

# Large enough for the full rate, small enough for a slow core to finish within the time limit.
_SMALLEST_SIDE = 256
_TIMED_DTYPES = ("float32", "bfloat16", "float16", "int8")
_FLOAT8_CAPABILITY = (8, 9)
"""Elsewhere products in fp8 are emulated, if there are any."""


def matrix_rates(stopwatch: Stopwatch, device: str, largest_side: int) -> dict[str, float]:
    """Return FLOP/s of a square matrix product by dtype name.

    A dtype without a kernel on this device is left out.
    """
    rates = {}
    for name in _TIMED_DTYPES:
        try:
            rates[name] = matrix_rate(stopwatch, device, name, largest_side)
        except RuntimeError:
            if name == "float32":
                raise
    if device != "cpu" and torch.cuda.get_device_capability() >= _FLOAT8_CAPABILITY:
        rates["float8"] = matrix_rate(stopwatch, device, "float8_e4m3fn", largest_side)
    return rates


def matrix_rate(stopwatch: Stopwatch, device: str, dtype: str, largest_side: int) -> float:
    """Return FLOP/s of the largest square product that runs in a fraction of a second."""
    side = _SMALLEST_SIDE
    while True:
        a = torch.rand(side, side, device=device).to(getattr(torch, dtype))  # [side, side]
        # Kernels in eight bits want the second factor laid out by columns.
        b = a.clone().t() if a.itemsize == 1 else a.clone()  # [side, side]
        product = functools.partial(_product(a), a, b)
        stopwatch(product)
        best_s = min(stopwatch(product) for _ in range(3))
        if side >= largest_side or best_s > 0.05:
            return 2.0 * side**3 / best_s
        side *= 2


def _product(a: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The product of two matrices of a dtype."""
    if a.dtype is torch.int8:
        return torch._int_mm
    if a.itemsize > 1:
        return torch.matmul
    one = torch.ones((), device=a.device)
    return functools.partial(torch._scaled_mm, scale_a=one, scale_b=one, out_dtype=torch.bfloat16)


def copy_rate(
    stopwatch: Stopwatch, target: torch.Tensor, source: torch.Tensor, repetitions: int = 5
) -> float:
    """Return bytes per second of copying ``source`` into ``target`` (each byte counted once)."""
    non_blocking = target.device != source.device
    times = [
        stopwatch(lambda: target.copy_(source, non_blocking=non_blocking))
        for _ in range(repetitions + 1)
    ]
    return source.numel() * source.element_size() / sorted(times[1:])[repetitions // 2]


def launch_time_s(stopwatch: Stopwatch, device: str, calls: int = 500) -> float:
    """Return seconds that one operator on a single number takes."""
    x = torch.ones(1, device=device)  # [1]

    def run() -> None:
        for _ in range(calls):
            torch.add(x, x)

    return min(stopwatch(run) for _ in range(5)) / calls
