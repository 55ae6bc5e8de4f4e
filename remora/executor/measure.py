"""Measure the time and peak memory of a training step in this process."""

from __future__ import annotations

import gc
import platform
import statistics
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import nn

from remora.executor.cpu_memory import cpu_peak_bytes
from remora.executor.memory.install import Handle
from remora.executor.step import TrainingStep, model_device
from remora.graph.loss import ExampleInputs, LossFunction
from remora.simulator.records import Measurement

__all__ = ["Measured", "failed_measurement", "measure", "measure_step"]

_STABLE_SHARE = 0.02


class Measured(Protocol):
    """A piece of work with its own memory."""

    def run(self) -> None:
        """Do it once."""
        ...

    def resident_bytes(self) -> int:
        """Bytes on the device that exist before and after it."""
        ...


def measure_step(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None = None,
    optimizer_name: str = "adamw",
    repetitions: int = 10,
    handle: Handle | None = None,
    least_repetitions: int = 3,
) -> Measurement:
    """Measure training steps in the steady state.

    A first step, which creates the optimizer's state, is not counted. On the CPU the peak comes
    from one more step under the profiler, on top of what exists before it; on CUDA it is the
    allocator's largest number of reserved bytes. The model is trained: see
    :func:`remora.executor.step.preserved`.

    Args:
        model: in the mode in which it is trained, plain or with a plan applied.
        example_inputs: one batch, on the model's device.
        loss: of the output; None for the default.
        optimizer_name: ``adamw``, ``adam``, ``sgd``, ``sgd_momentum`` or ``none``.
        repetitions: most timed steps; fewer if their median is stable.
        handle: of the plan that is applied to the model; None for a plain model.
        least_repetitions: so many are timed in any case.

    Returns:
        The figures; a step that fails is a measurement too, with its ``status`` and ``detail``.

    Raises:
        InvalidInputError: the plan wants an optimizer in eight bits that does not exist.
        MissingExtraError: the plan wants one of a package that is not installed.
        UnknownNameError: no such optimizer.
    """
    step = TrainingStep(model, example_inputs, loss, optimizer_name, handle)
    try:
        return measure(step, model_device(model), repetitions, least_repetitions)
    finally:
        model.zero_grad(set_to_none=True)


def measure(
    step: Measured, device: torch.device, repetitions: int = 10, least_repetitions: int = 3
) -> Measurement:
    """Measure anything that runs again and again; see :func:`measure_step`.

    Args:
        step: what is run.
        device: where it runs.
        repetitions: most timed runs; fewer if their median is stable.
        least_repetitions: so many are timed in any case.
    """
    try:
        gc.collect()
        if device.type == "cuda":
            return _measure_cuda(step, device, least_repetitions, repetitions)
        return _measure_cpu(step, least_repetitions, repetitions)
    except Exception as error:
        return failed_measurement(error, _device_name(device))


def failed_measurement(error: Exception, device: str) -> Measurement:
    """Record a step that died."""
    text = f"{type(error).__name__}: {error}"
    short_of_memory = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    # The CPU allocator raises a plain RuntimeError.
    short_of_memory |= "can't allocate memory" in text or "not enough memory" in text
    status = "out_of_memory" if short_of_memory else "crashed"
    return Measurement(0.0, (), 0, device, status=status, detail=text)


def _measure_cpu(step: Measured, least: int, most: int) -> Measurement:
    step.run()
    times_s = _repeat(lambda: _wall_time_s(step.run), least, most)
    peak_bytes = step.resident_bytes() + cpu_peak_bytes(step.run)
    return Measurement(statistics.median(times_s), times_s, peak_bytes, platform.machine())


def _measure_cuda(step: Measured, device: torch.device, least: int, most: int) -> Measurement:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    step.run()
    times_s = _repeat(lambda: _cuda_time_s(step.run, device), least, most)
    peak_bytes = torch.cuda.max_memory_reserved(device)
    return Measurement(statistics.median(times_s), times_s, peak_bytes, _device_name(device))


def _repeat(measure: Callable[[], float], least: int, most: int) -> tuple[float, ...]:
    """Measure until the median's standard error, from the median deviation, is small."""
    times_s: list[float] = []
    while len(times_s) < max(most, least):
        times_s.append(measure())
        median = statistics.median(times_s)
        spread = statistics.median(abs(value - median) for value in times_s)
        if len(times_s) >= least and spread <= (_STABLE_SHARE * median * len(times_s) ** 0.5):
            break
    return tuple(times_s)


def _wall_time_s(function: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s


def _cuda_time_s(function: Callable[[], None], device: torch.device) -> float:
    stream = torch.cuda.current_stream(device)
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record(stream)
    function()
    end.record(stream)
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
