"""The cheapest memory that recomputation alone reaches, by a fixed rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import keep_all_schedule, keep_option, recompute_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import Group, MemoryPlan, PipelinePlan, Schedule, UnitOption
from remora.simulator.compiled import CompiledSimulator, simulator_of

_PASSES = 2

_Rank = tuple[int, float]
"""Peak in bytes, seconds."""


def floor_schedule(problem: Problem, pipeline: PipelinePlan | None = None) -> Schedule:
    """The schedule of least simulated peak among recompute-only ones, ties to the faster.

    Tries per-unit recomputation, groups of equal length around it and groups halved again and
    again, every stage of a pipeline by itself, then keeps single units again where that lowers
    the peak. Deterministic; the budget is ignored.

    Args:
        problem: what is planned.
        pipeline: the one to plan for; by default that of :func:`default_pipeline`.
    """
    pipeline = pipeline or default_pipeline(problem)
    simulator = simulator_of(problem)
    best = _best_of_every_rank(problem, simulator, pipeline)
    for _ in range(_PASSES):
        better = _drop_useless(problem, simulator, best)
        if better == best:
            break
        best = better
    return best


def floor_peak_bytes(problem: Problem) -> int:
    """Peak of :func:`floor_schedule`."""
    return simulator_of(problem).figures(floor_schedule(problem)).max_peak_bytes


def _best_of_every_rank(
    problem: Problem, simulator: CompiledSimulator, pipeline: PipelinePlan
) -> Schedule:
    """The candidate of least memory; where stages differ, each rank has its own."""
    candidates = list(_candidates(problem, pipeline))
    figures = simulator.batch(candidates)
    ranks = [(one.max_peak_bytes, one.step_time_s) for one in figures]
    best = candidates[min(range(len(candidates)), key=ranks.__getitem__)]
    if pipeline.num_ranks == 1 or pipeline.chunks > 1:
        return best
    chosen = [
        min(range(len(candidates)), key=lambda c: (figures[c].peak_bytes[rank], ranks[c][1]))
        for rank in range(pipeline.num_ranks)
    ]
    spans = pipeline.spans(len(problem.graph.units))
    mixed = _joined(best, [candidates[c] for c in chosen], spans)
    return min(best, mixed, key=lambda plan: _rank(simulator, plan))


def _joined(
    best: Schedule, parts: Sequence[Schedule], spans: Sequence[tuple[int, int]]
) -> Schedule:
    """Options and groups of every stage from a schedule of its own."""
    options: list[UnitOption] = []
    groups: list[Group] = []
    for part, (start, end) in zip(parts, spans, strict=True):
        options += part.memory.options[start:end]
        groups += [group for group in part.memory.groups if start <= group.start < end]
    return dataclasses.replace(best, memory=MemoryPlan(tuple(options), tuple(groups)))


def _rank(simulator: CompiledSimulator, schedule: Schedule) -> _Rank:
    figures = simulator.figures(schedule)
    return figures.max_peak_bytes, figures.step_time_s


def _candidates(problem: Problem, pipeline: PipelinePlan) -> Iterator[Schedule]:
    graph = problem.graph
    keep = keep_all_schedule(graph, pipeline)
    yield keep
    options = tuple(_recompute_or_keep(problem, unit) for unit in range(len(graph.units)))
    spans = _free_spans(problem, pipeline.cuts)
    count = max((end - start for start, end in spans), default=0)
    for length in _lengths(count):
        groups = tuple(
            Group(position, min(position + length, end))
            for start, end in spans
            for position in range(start, end, length)
            if min(position + length, end) - position > 1
        )
        yield dataclasses.replace(keep, memory=MemoryPlan(options, groups))
    halved = tuple(g for start, end in spans for g in _halves(start, end))
    yield dataclasses.replace(keep, memory=MemoryPlan(options, halved))


def _recompute_or_keep(problem: Problem, unit: int) -> UnitOption:
    chain_unit = problem.chain.units[unit]
    record = problem.graph.units[unit]
    if chain_unit.fixed or not chain_unit.saved:
        return keep_option(record)
    return recompute_option(record)


def _free_spans(problem: Problem, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Maximal ranges of units of one stage that may be recomputed."""
    spans: list[tuple[int, int]] = []
    for unit in problem.chain.units:
        if unit.fixed:
            continue
        if spans and spans[-1][1] == unit.index and unit.index not in cuts:
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


def _drop_useless(problem: Problem, simulator: CompiledSimulator, schedule: Schedule) -> Schedule:
    """Keep single units again as long as the peak does not rise."""
    best, best_rank = schedule, _rank(simulator, schedule)
    for unit in problem.graph.units:
        option = keep_option(unit)
        if best.memory.options[unit.index] == option:
            continue
        options = list(best.memory.options)
        options[unit.index] = option
        trial = dataclasses.replace(
            best, memory=dataclasses.replace(best.memory, options=tuple(options))
        )
        rank = _rank(simulator, trial)
        if rank < best_rank:
            best, best_rank = trial, rank
    return best
