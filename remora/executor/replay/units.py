"""Times of units: every distinct kind runs a few times on made-up tensors."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections import Counter
from collections.abc import Set as AbstractSet
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
from remora.graph.model_graph import ModelGraph
from remora.hardware.measurements import UnitRuns, UnitTimes
from remora.hardware.memory import free_memory_bytes

__all__ = ["measure_unit_runs", "measure_units"]

_LOG = logging.getLogger(__name__)

_MEMORY_SHARE = 0.6
"""A unit that needs more than this share of the free memory is left to the roofline."""

_LONGEST_CHAIN = 5
_CACHE_BYTES = 1 << 26
"""More than the caches next to a core hold."""

_TICK_S = 1e-9


@dataclass(frozen=True, slots=True)
class _Run:
    """Seconds of every call of one run, in order."""

    forward: list[float]
    backward: list[float]


def measure_units(
    graph: ModelGraph,
    kinds: AbstractSet[str],
    device: torch.device,
    repetitions: int = 5,
    unit_limit_s: float = 2.0,
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
    runs, notes = measure_unit_runs(graph, kinds, device, repetitions, unit_limit_s)
    return {kind: run.times() for kind, run in runs.items()}, notes


def measure_unit_runs(
    graph: ModelGraph,
    kinds: AbstractSet[str],
    device: torch.device,
    repetitions: int = 5,
    unit_limit_s: float = 2.0,
) -> tuple[dict[str, UnitRuns], tuple[str, ...]]:
    """Do what :func:`measure_units` does and return every repetition."""
    found: dict[str, UnitRuns] = {}
    notes: list[str] = []
    ends = storage_ends(graph)
    counts = Counter(unit.kind for unit in graph.units)
    first_of_kind = {unit.kind: unit for unit in reversed(graph.units)}
    for kind in sorted(kinds & first_of_kind.keys(), key=lambda k: first_of_kind[k].index):
        unit = first_of_kind[kind]
        plan = compile_unit(graph, unit, ends, device)
        length = _chain_length(plan, counts[kind], device)
        if length == 0:
            notes.append(
                f"unit {unit.name!r} is not measured: its replay may need {plan.num_bytes} bytes, "
                f"allowed: {_MEMORY_SHARE:.0%} of what is free"
            )
            continue
        with torch.no_grad(), torch.random.fork_rng(_cuda_indices(device)):
            found[kind] = _measure(graph, plan, length, device, repetitions, unit_limit_s)
    for note in notes:
        _LOG.info(note)
    return found, tuple(notes)


def _chain_length(plan: UnitPlan, occurrences: int, device: torch.device) -> int:
    """Return how many copies run in a row; 0 if not even one fits into memory.

    A unit larger than the caches needs no copies to be met by cold ones.
    """
    allowed = int(_MEMORY_SHARE * free_memory_bytes(device.type))
    num_bytes = max(plan.num_bytes, 1)
    if num_bytes > allowed:
        return 0
    return max(1, min(occurrences, _LONGEST_CHAIN, _CACHE_BYTES // num_bytes))


def _measure(
    graph: ModelGraph,
    plan: UnitPlan,
    length: int,
    device: torch.device,
    repetitions: int,
    unit_limit_s: float,
) -> UnitRuns:
    chain = _Chain(graph, plan, length, device)
    chain.mend()
    began = time.perf_counter()
    runs: list[_Run] = []
    while len(runs) < repetitions:
        runs += chain.run()
        if time.perf_counter() - began > unit_limit_s:
            break
    return UnitRuns(
        forward_op_s=tuple(_measurable(run.forward, plan.forward) for run in runs),
        backward_op_s=tuple(_measurable(run.backward, plan.backward) for run in runs),
        notes=tuple(dict.fromkeys(plan.notes)),
    )


def _measurable(times_s: list[float], calls: list[Call]) -> tuple[float, ...]:
    """Seconds of every call, NaN for those that stand for one that cannot run.

    A device's clock may be too coarse to see a view.
    """
    pairs = zip(calls, times_s, strict=True)
    return tuple(max(time_s, _TICK_S) if call.measurable else math.nan for call, time_s in pairs)


class _Chain:
    """Copies of one unit that run as a model of equal units does.

    All forwards, then all backwards in reverse: every copy has weights and saved tensors of its
    own, so that caches and allocator are met as they are in a real step.
    """

    def __init__(
        self, graph: ModelGraph, plan: UnitPlan, length: int, device: torch.device
    ) -> None:
        self.graph = graph
        self.plan = plan
        self.device = device
        self.clock = _CudaClock() if device.type == "cuda" else _CpuClock()
        self.statics: list[Tensors] = []
        for _ in range(length):
            statics: Tensors = [None] * plan.num_slots
            for external in plan.statics:
                make_external(graph, external, statics, device)
            self.statics.append(statics)

    def mend(self) -> None:
        """Run one copy and replace operators that fail by stand-ins; also the warm-up."""
        tensors = self._fresh(self.statics[0])
        for position, call in enumerate([*self.plan.forward, *self.plan.backward]):
            if position == len(self.plan.forward):
                self._free(tensors)
            try:
                execute([call], tensors, None)
            except Exception as error:
                self._replace(call, error)
                execute([call], tensors, None)

    def run(self) -> list[_Run]:
        """Run every copy's forward and backward once, timed."""
        copies = [self._fresh(statics) for statics in self.statics]
        forwards = []
        for tensors in copies:
            forwards.append(self.clock.time(self.plan.forward, tensors))
            self._free(tensors)
        backwards = []
        while copies:
            backwards.append(self.clock.time(self.plan.backward, copies.pop()))
        pairs = zip(forwards, reversed(backwards), strict=True)
        return [_Run(forward, backward) for forward, backward in pairs]

    def _fresh(self, statics: Tensors) -> Tensors:
        tensors = list(statics)
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
        pairs = itertools.pairwise(events)
        return [begin.elapsed_time(end) / 1e3 for begin, end in pairs]


def _cuda_indices(device: torch.device) -> list[int]:
    return [torch.cuda.current_device()] if device.type == "cuda" else []
