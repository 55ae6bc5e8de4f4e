"""Step time and peak memory of a pipeline, measured on all ranks at once."""

from __future__ import annotations

import gc
import platform
import statistics
import time

import torch
import torch.distributed as dist

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.pipeline.training import PipelineStep
from remora.simulator.records import Measurement

__all__ = ["measure_on_ranks"]

_MIN_REPETITIONS = 3


def measure_on_ranks(
    step: PipelineStep, num_ranks: int, device: torch.device, repetitions: int
) -> Measurement:
    """Measure training steps in the steady state; every rank calls it alike.

    A first step is not counted. A step lasts from the moment that all ranks are ready until the
    last one is done.

    Args:
        step: of this rank; its weights are trained.
        num_ranks: ranks of one pipeline.
        device: of this rank.
        repetitions: timed steps, at least 3.

    Returns:
        The figures, on all ranks the same; the peak of a rank is that of its fullest replica.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    step.run()
    times_s = [_time_s(step, device) for _ in range(max(repetitions, _MIN_REPETITIONS))]
    if device.type == "cuda":
        peak_bytes = torch.cuda.max_memory_reserved(device)
    else:
        peak_bytes = step.resident_bytes() + cpu_peak_bytes(step.run)
    everywhere: list[tuple[list[float], int]] = [(times_s, peak_bytes)] * dist.get_world_size()
    dist.all_gather_object(everywhere, (times_s, peak_bytes))
    slowest = tuple(max(times) for times in zip(*(t for t, _ in everywhere), strict=True))
    replicas = dist.get_world_size() // num_ranks
    peaks = [peak for _, peak in everywhere]
    by_rank = tuple(max(peaks[r * replicas : (r + 1) * replicas]) for r in range(num_ranks))
    name = platform.machine()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return Measurement(
        statistics.median(slowest), slowest, max(by_rank), name, peak_by_rank_bytes=by_rank
    )


def _time_s(step: PipelineStep, device: torch.device) -> float:
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
