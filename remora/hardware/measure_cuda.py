"""Measures the first CUDA device and its link to pinned host memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from remora.hardware.hardware import Hardware, HostLink, Link
from remora.hardware.memory import host_memory_bytes
from remora.hardware.rates import Stopwatch, copy_rate, launch_time_s, matrix_rates

__all__ = ["measure_cuda", "stopwatch"]

_LARGEST_SIDE = 8192
_COPY_BYTES = 1 << 28
_NODE_LINK = Link(bandwidth_bytes_per_s=12.5e9, latency_s=1e-5)
"""A network of 100 Gbit/s, since one machine cannot measure the way to another."""


def measure_cuda(name: str) -> Hardware:
    """Measure rates of the current CUDA device.

    Args:
        name: name of the device.
    """
    context_bytes = _context_bytes()
    _, total_bytes = torch.cuda.mem_get_info()
    count = _COPY_BYTES // 4
    source = torch.ones(count, device="cuda")  # [count]
    device_rate = copy_rate(stopwatch, torch.empty_like(source), source)
    pinned = torch.empty(count, pin_memory=True)  # [count]
    d2h_rate = copy_rate(stopwatch, pinned, source)
    h2d_rate = copy_rate(stopwatch, source, pinned)
    latency_s = min(stopwatch(lambda: pinned[:1].copy_(source[:1])) for _ in range(20))
    devices = torch.cuda.device_count()
    return Hardware(
        name=name,
        device_type="cuda",
        devices_per_node=devices,
        memory_bytes=total_bytes,
        context_bytes=context_bytes,
        flops_per_s=_rates(stopwatch),
        # A copy reads every byte once and writes it once.
        memory_bandwidth_bytes_per_s=2 * device_rate,
        kernel_launch_s=launch_time_s(stopwatch, "cuda"),
        host=HostLink(
            memory_bytes=host_memory_bytes(),
            d2h_bytes_per_s=d2h_rate,
            h2d_bytes_per_s=h2d_rate,
            latency_s=latency_s,
            ranks_per_link=1,
            unified=bool(torch.cuda.get_device_properties(0).is_integrated),
            pool="pinned",
        ),
        link=_peer_link(source, min(d2h_rate, h2d_rate), latency_s, devices),
        node_link=_NODE_LINK,
    )


def stopwatch(function: Callable[[], object]) -> float:
    """Run ``function`` once and return seconds between CUDA events around it."""
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    function()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _context_bytes() -> int:
    """Return what the driver and the libraries hold beyond the allocator's own blocks.

    Other processes on the device count too, since their memory is as little available.
    """
    side = torch.ones(64, 64, device="cuda")  # [64, 64]
    torch.cuda.synchronize()
    side @ side
    torch.cuda.synchronize()
    del side
    torch.cuda.empty_cache()
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    return max(0, total_bytes - free_bytes - torch.cuda.memory_reserved())


def _rates(watch: Stopwatch) -> dict[str, float]:
    rates = matrix_rates(watch, "cuda", _LARGEST_SIDE)
    torch.cuda.empty_cache()
    return rates


def _peer_link(
    source: torch.Tensor, host_bytes_per_s: float, latency_s: float, devices: int
) -> Link:
    """Return the link to the second device, by way of the host where there is none."""
    if devices < 2:
        return Link(bandwidth_bytes_per_s=host_bytes_per_s, latency_s=latency_s)
    target = torch.empty(source.shape, device="cuda:1")  # [count]
    return Link(
        bandwidth_bytes_per_s=copy_rate(stopwatch, target, source),
        latency_s=min(stopwatch(lambda: target[:1].copy_(source[:1])) for _ in range(20)),
    )
