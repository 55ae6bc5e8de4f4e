"""Times of units: every distinct kind runs a few times on made-up tensors."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from remora.executor.replay.plan import (
    Call,
    Tensors,
    UnitPlan,
    compile_unit,
    execute,
    make_external,
    stand_in,
    storage_ends,
)
from remora.graph.model_graph import ModelGraph, Unit
from remora.hardware.measurements import UnitTimes
from remora.hardware.memory import free_memory_bytes

__all__ = ["measure_units"]

_LOG = logging.getLogger(__name__)

_MEMORY_SHARE = 0.6
"""A unit that needs more than this share of the free memory is left to the roofline."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Seconds after every call of one run, from the start of its phase."""

    forward: list[float]
    backward: list[float]


def measure_units(
    graph: ModelGraph,
    kinds: Collection[str],
    device: torch.device,
    repetitions: int = 5,
    unit_limit_s: float = 4.0,
) -> tuple[dict[str, UnitTimes], tuple[str, ...]]:
    """Run the first unit of every kind, forward and backward, and time its operators.

    Args:
        graph: the traced step.
        kinds: unit kinds to measure.
        device: where to run.
        repetitions: runs after one warm-up; medians are kept.
        unit_limit_s: stop repeating a unit after this time (one run is always made).

    Returns:
        Times by kind, and one sentence per unit that could not run, which is then absent.
    """
    times: dict[str, UnitTimes] = {}
    notes: list[str] = []
    ends = storage_ends(graph)
    for unit in graph.units:
        if unit.kind not in kinds or unit.kind in times:
            continue
        note = _too_large(graph, unit, ends, device)
        if note:
            notes.append(note)
            continue
        with torch.no_grad(), torch.random.fork_rng(_cuda_indices(device)):
            times[unit.kind] = _measure(graph, unit, ends, device, repetitions, unit_limit_s)
    for note in notes:
        _LOG.info(note)
    return times, tuple(dict.fromkeys(notes))


def _too_large(graph: ModelGraph, unit: Unit, ends: Sequence[int], device: torch.device) -> str:
    """Return why the unit cannot run on this device; empty if it can."""
    needed = compile_unit(graph, unit, ends, device).num_bytes
    free = free_memory_bytes(device.type)
    if needed <= _MEMORY_SHARE * free:
        return ""
    return (
        f"unit {unit.name!r} is not measured: its replay may need {needed} bytes, "
        f"allowed: {_MEMORY_SHARE:.0%} of the {free} bytes that are free"
    )


def _measure(
    graph: ModelGraph,
    unit: Unit,
    ends: Sequence[int],
    device: torch.device,
    repetitions: int,
    unit_limit_s: float,
) -> UnitTimes:
    runner = _Runner(graph, compile_unit(graph, unit, ends, device), device)
    runner.mend()
    began = time.perf_counter()
    runs: list[_Run] = []
    while len(runs) < repetitions and (not runs or time.perf_counter() - began < unit_limit_s):
        runs.append(runner.run())
    plan = runner.plan
    return UnitTimes(
        forward_op_s=_medians([run.forward for run in runs], plan.forward),
        backward_op_s=_medians([run.backward for run in runs], plan.backward),
        repetitions=len(runs),
        notes=tuple(dict.fromkeys(plan.notes)),
    )


def _medians(runs: list[list[float]], calls: list[Call]) -> tuple[float | None, ...]:
    """Median seconds of every call, scaled so that they add up to the median of the whole."""
    medians = [statistics.median(column) for column in zip(*runs, strict=True)]
    total = sum(medians)
    scale = statistics.median(sum(run) for run in runs) / total if total > 0 else 1.0
    pairs = zip(calls, medians, strict=True)
    return tuple(median * scale if call.measurable else None for call, median in pairs)


class _Runner:
    """Runs a plan again and again, as the steps of a training run do.

    What one run frees the next finds again, so that the allocator is met in its steady state.
    """

    def __init__(self, graph: ModelGraph, plan: UnitPlan, device: torch.device) -> None:
        self.graph = graph
        self.plan = plan
        self.device = device
        self.clock = _CudaClock() if device.type == "cuda" else _CpuClock()
        self.statics: Tensors = [None] * plan.num_slots
        for external in plan.statics:
            make_external(graph, external, self.statics, device)

    def mend(self) -> None:
        """Run once and replace operators that fail by stand-ins; also the warm-up."""
        tensors = self._fresh()
        unit_ops = [*self.plan.forward, *self.plan.backward]
        for position, call in enumerate(unit_ops):
            if position == len(self.plan.forward):
                self._free(tensors)
            try:
                execute([call], tensors, None)
            except Exception as error:
                self._replace(call, error)
                execute([call], tensors, None)

    def run(self) -> _Run:
        """Run forward and backward once, timed."""
        tensors = self._fresh()
        forward = self.clock.time(self.plan.forward, tensors)
        self._free(tensors)
        backward = self.clock.time(self.plan.backward, tensors)
        return _Run(forward, backward)

    def _fresh(self) -> Tensors:
        tensors = list(self.statics)
        for external in self.plan.externals:
            make_external(self.graph, external, tensors, self.device)
        return tensors

    def _free(self, tensors: Tensors) -> None:
        """Free what the real step frees between this unit's forward and its backward."""
        for slot in self.plan.releases_between:
            tensors[slot] = None

    def _replace(self, call: Call, error: Exception) -> None:
        op = self.graph.ops[call.op]
        reason = str(error).partition("\n")[0]
        self.plan.notes.append(f"{op.name} is not measured: {type(error).__name__}: {reason}")
        call.function = stand_in(self.graph, op, self.device)
        call.args, call.kwargs, call.holes = [], {}, ()
        call.measurable = False


class _CpuClock:
    """Times calls that end when they return."""

    def time(self, calls: list[Call], tensors: Tensors) -> list[float]:
        marks: list[float] = []
        start = time.perf_counter()
        execute(calls, tensors, lambda: marks.append(time.perf_counter()))
        return [end - begin for begin, end in zip([start, *marks], marks, strict=False)]


class _CudaClock:
    """Times calls by events on the stream they run on."""

    def time(self, calls: list[Call], tensors: Tensors) -> list[float]:
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(calls) + 1)]
        waiting = iter(events)
        torch.cuda.synchronize()
        next(waiting).record()
        execute(calls, tensors, lambda: next(waiting).record())
        torch.cuda.synchronize()
        pairs = zip(events, events[1:], strict=False)
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]


def _cuda_indices(device: torch.device) -> list[int]:
    return [torch.cuda.current_device()] if device.type == "cuda" else []
