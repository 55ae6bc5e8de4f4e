"""The state of this machine at this moment: free memory, and what its links give of their rates."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from remora.hardware.hardware import Hardware, HardwareState
from remora.hardware.memory import free_memory_bytes
from remora.hardware.rates import Stopwatch

__all__ = ["LiveRates", "live_rates", "live_state"]

_COPY_BYTES = 1 << 26
"""Short, since it is measured whenever somebody plans, and too long for any cache."""

_REPETITIONS = 5


@dataclass(frozen=True, slots=True)
class LiveRates:
    """Bytes per second of short copies right now.

    Attributes:
        d2h_bytes_per_s, h2d_bytes_per_s: to the host and back.
        link_bytes_per_s: to another device; None where there is no other one at hand.
    """

    d2h_bytes_per_s: float
    h2d_bytes_per_s: float
    link_bytes_per_s: float | None = None


def live_state(hardware: Hardware, again: bool = False) -> HardwareState:
    """Read free memory, and the share of their nominal rates that the links give.

    Without a second device the link between devices is taken to be as busy as that to the host,
    over which it leads then.

    Args:
        hardware: this machine, as it was measured once; its rates are the nominal ones.
        again: measure the links anew. Else they are measured once per process, in some tenths of
            a second.
    """
    if again:
        live_rates.cache_clear()
    rates = live_rates(hardware.device_type)
    host_share = min(
        _share(rates.d2h_bytes_per_s, hardware.host.d2h_bytes_per_s),
        _share(rates.h2d_bytes_per_s, hardware.host.h2d_bytes_per_s),
    )
    link_share = host_share
    if rates.link_bytes_per_s is not None:
        link_share = _share(rates.link_bytes_per_s, hardware.link.bandwidth_bytes_per_s)
    return HardwareState(free_memory_bytes(hardware.device_type), host_share, link_share)


@functools.lru_cache(maxsize=2)
def live_rates(device_type: str) -> LiveRates:
    """Measure short copies; without CUDA those from one place in host memory to another.

    Args:
        device_type: ``cuda`` or ``cpu``.
    """
    return _cuda_rates() if device_type == "cuda" else _cpu_rates()


def _cpu_rates() -> LiveRates:
    from remora.hardware.measure_cpu import stopwatch

    source = torch.ones(_COPY_BYTES // 4)  # [_COPY_BYTES / 4]
    rate = _best_rate(stopwatch, torch.empty_like(source), source)
    return LiveRates(rate, rate)


def _cuda_rates() -> LiveRates:
    from remora.hardware.measure_cuda import stopwatch

    source = torch.ones(_COPY_BYTES // 4, device="cuda")  # [_COPY_BYTES / 4]
    pinned = torch.empty(source.shape, pin_memory=True)  # [_COPY_BYTES / 4]
    link = None
    if torch.cuda.device_count() > 1:
        target = torch.empty(source.shape, device="cuda:1")  # [_COPY_BYTES / 4]
        link = _best_rate(stopwatch, target, source)
    return LiveRates(
        d2h_bytes_per_s=_best_rate(stopwatch, pinned, source),
        h2d_bytes_per_s=_best_rate(stopwatch, source, pinned),
        link_bytes_per_s=link,
    )


def _best_rate(stopwatch: Stopwatch, target: torch.Tensor, source: torch.Tensor) -> float:
    """Bytes per second of the fastest copy: a busy link slows all of them, chance only some."""
    apart = target.device != source.device
    best_s = min(
        stopwatch(lambda: target.copy_(source, non_blocking=apart)) for _ in range(_REPETITIONS)
    )
    return source.numel() * source.element_size() / best_s


def _share(live_bytes_per_s: float, nominal_bytes_per_s: float) -> float:
    """Live over nominal in whole percent, from 0.01 to 1."""
    return min(1.0, max(0.01, round(live_bytes_per_s / nominal_bytes_per_s, 2)))
