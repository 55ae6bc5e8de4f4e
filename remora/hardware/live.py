"""The state of this machine at this moment: free memory, and what its links give of their rates."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from remora.hardware.hardware import Hardware, HardwareState
from remora.hardware.memory import free_memory_bytes
from remora.hardware.rates import copy_rate

__all__ = ["LiveRates", "live_rates", "live_state"]

_COPY_BYTES = 1 << 25
"""Short, since it is measured whenever somebody plans, and too long for most caches."""

_SHORTEST_BYTES = 1 << 20
"""A shorter copy is mostly latency."""

_CPU_REPETITIONS = 20


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


_UNKNOWN = LiveRates(math.inf, math.inf)
"""Where nothing can be measured, rates count as nominal."""


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
    count = _copied(free_memory_bytes())
    if not count:
        return _UNKNOWN
    source = torch.ones(count)  # [count]
    target = torch.empty_like(source)  # [count]
    best_s = min(_running_s(lambda: target.copy_(source)) for _ in range(_CPU_REPETITIONS))
    return LiveRates(4 * count / best_s, 4 * count / best_s)


def _running_s(function: Callable[[], object]) -> float:
    """Seconds that a function ran on all threads of torch.

    Processes take turns on the cores. Waiting for a turn slows all work alike, so it is no matter
    of a link; other threads that run meanwhile count too, which is why several copies are made.
    """
    start_s = time.process_time()
    function()
    return max(time.process_time() - start_s, 1e-9) / torch.get_num_threads()


def _cuda_rates() -> LiveRates:
    from remora.hardware.measure_cuda import stopwatch

    count = _copied(torch.cuda.mem_get_info()[0])
    if not count:
        return _UNKNOWN
    source = torch.ones(count, device="cuda")  # [count]
    pinned = torch.empty(count, pin_memory=True)  # [count]
    link, devices = None, torch.cuda.device_count()
    if devices > 1:
        other = (torch.cuda.current_device() + 1) % devices
        target = torch.empty(count, device=f"cuda:{other}")  # [count]
        link = copy_rate(stopwatch, target, source)
    return LiveRates(
        d2h_bytes_per_s=copy_rate(stopwatch, pinned, source),
        h2d_bytes_per_s=copy_rate(stopwatch, source, pinned),
        link_bytes_per_s=link,
    )


def _copied(free_bytes: int) -> int:
    """Numbers of four bytes to copy; none where the memory is too full for a copy that tells."""
    num_bytes = min(_COPY_BYTES, free_bytes // 4)
    return num_bytes // 4 if num_bytes >= _SHORTEST_BYTES else 0


def _share(live_bytes_per_s: float, nominal_bytes_per_s: float) -> float:
    """Live over nominal in whole percent, from 0.01 to 1."""
    return min(1.0, max(0.01, round(live_bytes_per_s / nominal_bytes_per_s, 2)))
