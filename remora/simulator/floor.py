"""The cheapest memory that recomputation alone reaches, by a fixed rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from remora.schedule.menu import keep_all_schedule, keep_option, recompute_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import Group, MemoryPlan, Schedule, UnitOption
from remora.simulator.simulate import simulate

_PASSES = 2


def floor_schedule(problem: Problem) -> Schedule:
    """The schedule of least simulated peak among recompute-only ones, ties to the faster.

    Tries per-unit recomputation, groups of equal length around it and groups halved again and
    again, then keeps single units again where that lowers the peak. Deterministic; the budget is
    ignored.
    """
    best = min(_candidates(problem), key=lambda plan: _rank(problem, plan))
    for _ in range(_PASSES):
        better = _drop_useless(problem, best)
        if better == best:
            break
        best = better
    return best


def floor_peak_bytes(problem: Problem) -> int:
    """Peak of :func:`floor_schedule`."""
    return simulate(problem, floor_schedule(problem)).max_peak_bytes


def _rank(problem: Problem, schedule: Schedule) -> tuple[int, float]:
    timeline = simulate(problem, schedule)
    return timeline.max_peak_bytes, timeline.step_time_s


def _candidates(problem: Problem) -> Iterator[Schedule]:
    graph = problem.graph
    yield keep_all_schedule(graph)
    options = tuple(_recompute_or_keep(problem, unit) for unit in range(len(graph.units)))
    spans = _free_spans(problem)
    count = max((end - start for start, end in spans), default=0)
    for length in _lengths(count):
        groups = tuple(
            Group(position, min(position + length, end))
            for start, end in spans
            for position in range(start, end, length)
            if min(position + length, end) - position > 1
        )
        yield Schedule(graph.content_hash, MemoryPlan(options, groups))
    halved = tuple(g for start, end in spans for g in _halves(start, end))
    yield Schedule(graph.content_hash, MemoryPlan(options, halved))


def _recompute_or_keep(problem: Problem, unit: int) -> UnitOption:
    chain_unit = problem.chain.units[unit]
    record = problem.graph.units[unit]
    if chain_unit.fixed or not chain_unit.saved:
        return keep_option(record)
    return recompute_option(record)


def _free_spans(problem: Problem) -> list[tuple[int, int]]:
    """Maximal ranges of units that may be recomputed."""
    spans: list[tuple[int, int]] = []
    for unit in problem.chain.units:
        if unit.fixed:
            continue
        if spans and spans[-1][1] == unit.index:
            spans[-1] = (spans[-1][0], unit.index + 1)
        else:
            spans.append((unit.index, unit.index + 1))
    return spans


def _lengths(count: int) -> list[int]:
    """Group lengths to try: all up to 12, then growing by a quarter."""
    lengths, length = [], 1
    while length <= count:
        lengths.append(length)
        length = length + 1 if length < 12 else length * 5 // 4
    return lengths


def _halves(start: int, end: int) -> tuple[Group, ...]:
    """Groups that split a range in two again and again, down to single units."""
    if end - start < 2:
        return ()
    middle = (start + end) // 2
    parts = ((start, middle), (middle, end))
    return tuple(Group(a, b, children=_halves(a, b)) for a, b in parts if b - a > 1)


def _drop_useless(problem: Problem, schedule: Schedule) -> Schedule:
    """Keep single units again as long as the peak does not rise."""
    best, best_rank = schedule, _rank(problem, schedule)
    for unit in problem.graph.units:
        option = keep_option(unit)
        if best.memory.options[unit.index] == option:
            continue
        options = list(best.memory.options)
        options[unit.index] = option
        trial = dataclasses.replace(
            best, memory=dataclasses.replace(best.memory, options=tuple(options))
        )
        rank = _rank(problem, trial)
        if rank < best_rank:
            best, best_rank = trial, rank
    return best
