"""What one decision says about a unit, and how a row of decisions becomes a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from remora.schedule.menu import keep_option, offload_option, recompute_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule, UnitOption

__all__ = [
    "FilledGroup",
    "GroupFill",
    "Pace",
    "Span",
    "UnitAction",
    "group_spans",
    "nest_every_unit",
    "to_schedule",
]


class UnitAction(IntEnum):
    """Menu entry of a unit and what stands after it.

    ``RECOMPUTE`` entries in a row form one group until one of them closes it; a kept or offloaded
    unit and the end of the chain close an open group too, as ``CLOSE`` would.
    """

    KEEP = 0
    OFFLOAD = 1
    RECOMPUTE = 2
    CLOSE = 3
    CLOSE_NESTED = 4
    CLOSE_OFFLOADED = 5

    @property
    def recomputes(self) -> bool:
        """Whether the unit belongs to a recompute group."""
        return self >= UnitAction.RECOMPUTE

    @property
    def closes(self) -> bool:
        """Whether the group ends after the unit."""
        return self >= UnitAction.CLOSE


@dataclass(frozen=True, slots=True)
class Pace:
    """How far host copies run ahead of the units, as in :class:`MemoryPlan`.

    Attributes:
        offload_window: unit i waits for the copy to host of unit i - window.
        prefetch_distance: the copy back is issued so many units early.
    """

    offload_window: int = 2
    prefetch_distance: int = 1


@dataclass(frozen=True, slots=True)
class Span:
    """Units ``start`` to ``end - 1`` form a group that ``closing`` closed."""

    start: int
    end: int
    closing: UnitAction


@dataclass(frozen=True, slots=True)
class FilledGroup:
    """What happens inside a group that was closed with nested checkpoints.

    Attributes:
        children: nested groups, as in :class:`Group`.
        recomputed: units of the group that are recomputed again inside it.
    """

    children: tuple[Group, ...]
    recomputed: frozenset[int]


GroupFill = Callable[[Problem, int, int], FilledGroup]
"""Places nested checkpoints in the group of units ``start`` to ``end - 1``."""


def nest_every_unit(problem: Problem, start: int, end: int) -> FilledGroup:
    """Keep the input of every unit when the group runs again; the least memory of one level."""
    units = problem.chain.units[start:end]
    return FilledGroup((), frozenset(unit.index for unit in units if unit.saved))


def group_spans(decisions: Sequence[int]) -> Iterator[Span]:
    """Yield the groups of a row of decisions, in order; an open one ends with the row."""
    start: int | None = None
    for index, decision in enumerate(decisions):
        action = UnitAction(decision)
        if not action.recomputes:
            if start is not None:
                yield Span(start, index, UnitAction.CLOSE)
            start = None
            continue
        start = index if start is None else start
        if action.closes:
            yield Span(start, index + 1, action)
            start = None
    if start is not None:
        yield Span(start, len(decisions), UnitAction.CLOSE)


def to_schedule(
    problem: Problem, decisions: Sequence[int], fill: GroupFill, pace: Pace | None = None
) -> Schedule:
    """Build the schedule of a complete row of decisions.

    Args:
        problem: what the decisions are about.
        decisions: one :class:`UnitAction` per unit.  # [num_units]
        fill: places checkpoints inside groups closed by ``CLOSE_NESTED``.
        pace: of host copies.
    """
    pace = pace or Pace()
    graph = problem.graph
    options = [
        offload_option(graph, unit) if decision == UnitAction.OFFLOAD else keep_option(unit)
        for unit, decision in zip(graph.units, decisions, strict=True)
    ]
    groups = [
        group
        for span in group_spans(decisions)
        if (group := _place(problem, span, fill, options)) is not None
    ]
    memory = MemoryPlan(tuple(options), tuple(groups), pace.offload_window, pace.prefetch_distance)
    return Schedule(graph.content_hash, memory)


def _place(
    problem: Problem, span: Span, fill: GroupFill, options: list[UnitOption]
) -> Group | None:
    """Write a span into ``options``; returns its group, None for a unit recomputed alone."""
    units = problem.graph.units
    alone = span.end - span.start == 1
    if span.closing is UnitAction.CLOSE_OFFLOADED:
        return Group(span.start, span.end, Action.OFFLOAD)
    if alone:
        options[span.start] = recompute_option(units[span.start])
        return None
    if span.closing is UnitAction.CLOSE:
        return Group(span.start, span.end)
    filled = fill(problem, span.start, span.end)
    for index in filled.recomputed:
        options[index] = recompute_option(units[index])
    return Group(span.start, span.end, children=filled.children)
