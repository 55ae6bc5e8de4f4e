"""Time and peak memory of a pipeline, measured on all ranks at once."""

from __future__ import annotations

import gc
import platform
import statistics
import time

import torch
import torch.distributed as dist

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.measure import Measured
from remora.simulator.records import Measurement

__all__ = ["measure_on_ranks", "peaks_on_ranks"]

_MIN_REPETITIONS = 3


def measure_on_ranks(
    step: Measured, num_ranks: int, device: torch.device, repetitions: int
) -> Measurement:
    """Measure steps, or passes, in the steady state; every rank calls it alike.

    A first step is not counted. A step lasts from the moment that all ranks are ready until the
    last one is done.

    Args:
        step: of this rank; that of a training trains its weights.
        num_ranks: ranks of one pipeline.
        device: of this rank.
        repetitions: timed steps, at least 3.

    Returns:
        The figures, on all ranks the same; the peak of a rank is that of its fullest replica.
    """
    _begin(device)
    step.run()
    times_s = [_time_s(step, device) for _ in range(max(repetitions, _MIN_REPETITIONS))]
    by_rank = _peaks(step, num_ranks, device)
    everywhere = [times_s] * dist.get_world_size()
    dist.all_gather_object(everywhere, times_s)
    slowest = tuple(max(times) for times in zip(*everywhere, strict=True))
    name = platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return Measurement(
        statistics.median(slowest), slowest, max(by_rank), name, peak_by_rank_bytes=by_rank
    )


def peaks_on_ranks(step: Measured, num_ranks: int, device: torch.device) -> tuple[int, ...]:
    """Measure the peak of one run on every rank; all call it alike.

    Args:
        step: of this rank.
        num_ranks: ranks of one pipeline.
        device: of this rank.

    Returns:
        Bytes, on all ranks the same; of a rank those of its fullest replica.  # [num_ranks]
    """
    _begin(device)
    if device.type == "cuda":
        step.run()
    return _peaks(step, num_ranks, device)


def _begin(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _peaks(step: Measured, num_ranks: int, device: torch.device) -> tuple[int, ...]:
    """Peaks of what was run since the beginning; on the CPU of one more run."""
    if device.type == "cuda":
        peak_bytes = torch.cuda.max_memory_reserved(device)
    else:
        peak_bytes = step.resident_bytes() + cpu_peak_bytes(step.run)
    peaks = [peak_bytes] * dist.get_world_size()
    dist.all_gather_object(peaks, peak_bytes)
    replicas = dist.get_world_size() // num_ranks
    return tuple(max(peaks[r * replicas : (r + 1) * replicas]) for r in range(num_ranks))


def _time_s(step: Measured, device: torch.device) -> float:
    _settle(device)
    start_s = time.perf_counter()
    step.run()
    _settle(device)
    return time.perf_counter() - start_s


def _settle(device: torch.device) -> None:
    """Wait until the device and all ranks are done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    dist.barrier()
