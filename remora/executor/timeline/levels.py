"""Live bytes at the moments of a recorded step, and a memory curve made of them."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from remora.executor.cpu_memory import quieten_profiler
from remora.executor.step import TrainingStep
from remora.executor.timeline.clocks import Mark
from remora.executor.timeline.event_log import RecordedLog
from remora.schedule.program import Stream
from remora.simulator.timeline import MemorySample, TimedInstruction

__all__ = ["levels_on_cpu", "memory_samples"]

_MARK = "remora: border"


def levels_on_cpu(step: TrainingStep, log: RecordedLog) -> list[tuple[int, int]]:
    """Run a step once more under the profiler, which sees every change of the CPU allocator.

    Args:
        step: to run, in the steady state.
        log: that it tells; it is restarted.

    Returns:
        Live bytes at every moment that the log notes, and the highest level since the one before.
    """
    quieten_profiler()
    log.restart(_ProfilerClock())
    resident_bytes = step.resident_bytes()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        step.run()
        log.finish()
    results = run.profiler.kineto_results if run.profiler is not None else None
    if results is None:
        return []
    events = [event for event in results.events() if event.device_type() == DeviceType.CPU]
    changes = [
        (event.start_ns(), event.nbytes() if event.name() == "[memory]" else 0, event.name())
        for event in events
        if event.name() in ("[memory]", _MARK)
    ]
    changes.sort(key=lambda change: change[0])
    levels: list[tuple[int, int]] = []
    level = highest = resident_bytes
    for _, num_bytes, name in changes:
        level += num_bytes
        highest = max(highest, level)
        if name == _MARK:
            levels.append((level, highest))
            highest = level
    return levels


def memory_samples(
    events: Sequence[TimedInstruction],
    mark_times_s: Sequence[float],
    levels_bytes: Sequence[tuple[int, int]],
) -> tuple[MemorySample, ...]:
    """Draw a curve: between two moments the highest level, at the second one what is left.

    Args:
        events: of the step, in order of start.
        mark_times_s: moments of the compute stream.  # [num_marks]
        levels_bytes: of the same, see :func:`levels_on_cpu`; no curve if there are fewer or more.
    """
    if len(levels_bytes) != len(mark_times_s):
        return ()
    compute = [i for i, e in enumerate(events) if e.instruction.stream is Stream.COMPUTE]
    starts = [events[index].start_s for index in compute]
    samples = []
    for number in range(1, len(mark_times_s)):
        begin_s, end_s = mark_times_s[number - 1], mark_times_s[number]
        position = bisect.bisect_right(starts, (begin_s + end_s) / 2) - 1
        index = compute[max(0, position)]
        level, highest = levels_bytes[number]
        samples.append(MemorySample(begin_s, highest, {}, index))
        samples.append(MemorySample(end_s, level, {}, index))
    return tuple(samples)


class _ProfilerClock:
    """Puts a border among the profiler's events where a moment is noted."""

    def __init__(self) -> None:
        self.levels_bytes: list[tuple[int, int]] = []

    def now(self, stream: torch.cuda.Stream | None = None) -> Mark:
        """Return no time."""
        return 0.0

    def note_level(self) -> None:
        """Leave a mark where the level is to be read."""
        with record_function(_MARK):
            pass

    def settle(self) -> None:
        """Do nothing."""

    def since_s(self, base: Mark, mark: Mark) -> float:
        """Return no time."""
        return 0.0
