"""Times on links: the compiled counterpart of :mod:`remora.schedule.links`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.jit import kernel

__all__ = ["HardwareArrays", "exchange_s", "gather_s", "message_s"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_LINK, _NODE_LINK = 0, 2
DEVICES, REPLICAS, OVERLAPS, CUDA, COUNTED, TEMPORARIES = 0, 1, 2, 3, 4, 5
HOST_LATENCY, D2H_RATE, H2D_RATE, STEP_S, HOST_STEP_S = 4, 5, 6, 7, 8


class HardwareArrays(NamedTuple):
    """Figures of one problem's hardware and optimizer.

    Attributes:
        sizes: groups of tensor ranks per node, replicas, 1 if copies overlap, 1 on CUDA, 1 if an
            optimizer is counted, its temporaries per parameter.  # [6]
        rates: latency and live bytes per second of the link inside a node and between nodes;
            latency, bytes per second to the host and back of one rank; seconds of the optimizer
            step on the device and on the host.  # [9]
    """

    sizes: Ints
    rates: Floats


@kernel
def message_s(hardware: HardwareArrays, sender: int, receiver: int, num_bytes: int) -> float:
    """Seconds of a message between two ranks of a pipeline."""
    link = _between(hardware, sender, receiver)
    return float(hardware.rates[link] + num_bytes / hardware.rates[link + 1])


@kernel
def gather_s(hardware: HardwareArrays, rank: int, num_bytes: int) -> float:
    """Seconds of an all-gather or reduce-scatter over the replicas of a rank."""
    link = _between(hardware, rank, rank)
    return _ring_pass_s(hardware, link, hardware.sizes[REPLICAS], num_bytes)


@kernel
def exchange_s(
    hardware: HardwareArrays, first: int, last: int, members: int, num_bytes: int
) -> float:
    """Seconds of summing over some ranks of a pipeline."""
    link = _between(hardware, first, last)
    return 2 * _ring_pass_s(hardware, link, members, num_bytes)


@kernel
def _ring_pass_s(hardware: HardwareArrays, link: int, members: int, num_bytes: int) -> float:
    if members == 1:
        return 0.0
    steps = members - 1
    latency_s, rate = hardware.rates[link], hardware.rates[link + 1]
    return float(steps * latency_s + num_bytes * steps / members / rate)


@kernel
def _between(hardware: HardwareArrays, first: int, second: int) -> int:
    """Where the figures of the slowest link between any replicas of two ranks begin."""
    per_node, replicas = hardware.sizes[DEVICES], hardware.sizes[REPLICAS]
    low, high = min(first, second), max(first, second)
    same = low * replicas // per_node == ((high + 1) * replicas - 1) // per_node
    return _LINK if same else _NODE_LINK
