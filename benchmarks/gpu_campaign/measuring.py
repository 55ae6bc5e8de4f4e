"""Time and memory of training steps, and how a step that died is told apart."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.measure import failed_measurement

__all__ = [
    "StepFigures",
    "free_cached",
    "free_page_locked",
    "is_broken",
    "measure",
    "status_of",
    "stopwatch",
]

LEAST_REPETITIONS = 3
STABLE_SHARE = 0.01
MOST_SECONDS = 8.0


@dataclass(frozen=True)
class StepFigures:
    """A measured training step in the steady state.

    Attributes:
        step_time_s: median.
        step_times_s: every repetition.
        peak_allocated_bytes: most live bytes; on CUDA libraries' workspaces included.
        peak_reserved_bytes: most bytes that the allocator held; on a CPU the same.
        resident_bytes: parameters, buffers, batch and optimizer state.
        library_bytes: what is allocated between two steps beyond these.
    """

    step_time_s: float
    step_times_s: tuple[float, ...]
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    resident_bytes: int
    library_bytes: int

    @property
    def step_peak_bytes(self) -> int:
        """Peak without what libraries keep for themselves, which no trace sees."""
        return self.peak_allocated_bytes - self.library_bytes

    def values(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def measure(
    run: Callable[[], None],
    resident_bytes: Callable[[], int],
    device: torch.device,
    repetitions: int = 7,
) -> StepFigures:
    """Measure a step again and again until its median is stable.

    The first run, which makes the optimizer's state and page-locks host memory, does not count;
    the peak is that of the runs after it.

    Args:
        run: one step; leaves no gradients.
        resident_bytes: asked after the first run.
        device: that it runs on.
        repetitions: most runs that count.
    """
    run()
    gc.collect()
    if device.type == "cuda":
        return _measure_cuda(run, resident_bytes(), device, repetitions)
    times_s = _repeat(lambda: stopwatch(run, device), repetitions)
    peak_bytes = resident_bytes() + cpu_peak_bytes(run)
    return StepFigures(
        statistics.median(times_s), times_s, peak_bytes, peak_bytes, resident_bytes(), 0
    )


def _measure_cuda(
    run: Callable[[], None], resident_bytes: int, device: torch.device, repetitions: int
) -> StepFigures:
    torch.cuda.synchronize(device)
    # What the first run reserved and the steady state does not need must not count.
    torch.cuda.empty_cache()
    rest_bytes = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    times_s = _repeat(lambda: stopwatch(run, device), repetitions)
    return StepFigures(
        step_time_s=statistics.median(times_s),
        step_times_s=times_s,
        peak_allocated_bytes=torch.cuda.max_memory_allocated(device),
        peak_reserved_bytes=torch.cuda.max_memory_reserved(device),
        resident_bytes=resident_bytes,
        library_bytes=max(0, rest_bytes - resident_bytes),
    )


def stopwatch(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, on CUDA between events on the current stream."""
    if device.type != "cuda":
        start_s = time.perf_counter()
        function()
        return time.perf_counter() - start_s
    stream = torch.cuda.current_stream(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record(stream)
    function()
    end.record(stream)
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def free_cached(device: torch.device) -> None:
    """Give up what nobody refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def free_page_locked(device: torch.device) -> None:
    """Give up host memory that PyTorch keeps page-locked for later copies."""
    free_cached(device)
    # Younger than the oldest PyTorch that is asked for.
    empty = getattr(torch.accelerator, "empty_host_cache", None)
    if device.type == "cuda" and empty is not None:
        empty()


def status_of(error: BaseException) -> str:
    """``out_of_memory`` or ``crashed``."""
    # Page-locking host memory fails with an error of its own kind.
    if "out of memory" in str(error).lower():
        return "out_of_memory"
    return failed_measurement(error, "").status if isinstance(error, Exception) else "crashed"


def is_broken(device: torch.device) -> bool:
    """Whether the device answers no more: an illegal access breaks all calls after it."""
    if device.type != "cuda":
        return False
    try:
        torch.cuda.synchronize(device)
        torch.zeros(1, device=device).item()
    except RuntimeError:
        return True
    return False


def _repeat(measure_once: Callable[[], float], most: int) -> tuple[float, ...]:
    """Until the spread of the median is small, time is up, or there are enough."""
    times_s: list[float] = []
    while len(times_s) < max(most, LEAST_REPETITIONS):
        times_s.append(measure_once())
        if len(times_s) < LEAST_REPETITIONS:
            continue
        median = statistics.median(times_s)
        spread = statistics.median(abs(value - median) for value in times_s)
        stable = spread <= STABLE_SHARE * median * len(times_s) ** 0.5
        if stable or sum(times_s) > MOST_SECONDS:
            break
    return tuple(times_s)
