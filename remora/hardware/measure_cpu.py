"""Measures the CPU as a device, with the host as a copy target in the same memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from remora.hardware.hardware import Hardware, HostLink, Link
from remora.hardware.memory import free_memory_bytes, host_memory_bytes
from remora.hardware.rates import copy_rate, launch_time_s, matrix_rates

__all__ = ["measure_cpu"]

_LARGEST_SIDE = 2048
_COPY_BYTES = 1 << 28


def measure_cpu(name: str) -> Hardware:
    """Measure rates of the CPU with the threads that torch is set to use.

    Args:
        name: name of the processor.
    """
    copy_bytes = min(_COPY_BYTES, free_memory_bytes() // 8)
    source = torch.ones(copy_bytes // 4)  # [copy_bytes / 4]
    copy_bytes_per_s = copy_rate(_stopwatch, torch.empty_like(source), source)
    launch_s = launch_time_s(_stopwatch, "cpu")
    memory_bytes = host_memory_bytes()
    # Ranks on one machine exchange tensors through its memory: written once, read once.
    link = Link(bandwidth_bytes_per_s=copy_bytes_per_s / 2, latency_s=10 * launch_s)
    return Hardware(
        name=name,
        device_type="cpu",
        devices_per_node=1,
        memory_bytes=memory_bytes,
        context_bytes=0,
        flops_per_s=matrix_rates(_stopwatch, "cpu", _LARGEST_SIDE),
        # A copy reads every byte once and writes it once.
        memory_bandwidth_bytes_per_s=2 * copy_bytes_per_s,
        kernel_launch_s=launch_s,
        host=HostLink(
            memory_bytes=memory_bytes,
            d2h_bytes_per_s=copy_bytes_per_s,
            h2d_bytes_per_s=copy_bytes_per_s,
            latency_s=launch_s,
            ranks_per_link=1,
            unified=True,
            pool="none",
        ),
        link=link,
        node_link=link,
    )


def _stopwatch(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
