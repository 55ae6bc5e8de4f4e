"""What one number says in every phase of an episode, and the schedule that a row of them makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from remora.schedule.menu import is_recompute
from remora.schedule.problem import Problem
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelinePlan,
    Schedule,
    StatePlan,
    UnitOption,
)

__all__ = [
    "FIRST_OPTION",
    "NUM_ACTIONS",
    "PACES",
    "NamedSpan",
    "Phase",
    "Setting",
    "UnitDecision",
    "joint_schedule",
    "spans_of",
]

Menus = Sequence[Sequence[UnitOption]]


class Phase(IntEnum):
    """What the next action decides about; phases with one choice are skipped."""

    MICRO_BATCHES = 0
    STATE = 1
    PACE = 2
    UNITS = 3
    DONE = 4


class UnitDecision(IntEnum):
    """Menu entry of a unit and what stands after it.

    Numbers from ``FIRST_OPTION`` on are the other entries of the unit's menu, in its order.
    """

    KEEP = 0
    OPEN = 1
    CLOSE = 2
    CLOSE_NESTED = 3
    CLOSE_OFFLOADED = 4


FIRST_OPTION = 5
"""The action of the first menu entry that neither keeps nor recomputes the whole unit."""

NUM_ACTIONS = 12
"""Actions of the largest phase; the most micro-batch counts that an episode chooses from."""

PACES = ((2, 1), (1, 1), (2, 2), (3, 2), (4, 2), (4, 4), (6, 4), (8, 4))
"""(offload window, prefetch distance) to choose from."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is decided before the first unit.

    Attributes:
        micro_batches: number of micro-batches of one step.
        state: where weights, gradients and optimizer state live.
        window, distance: offload window and prefetch distance.
    """

    micro_batches: int
    state: StatePlan
    window: int
    distance: int


@dataclass(frozen=True, slots=True)
class NamedSpan:
    """Units ``start`` to ``end - 1`` are recomputed together; ``closing`` ended the group."""

    start: int
    end: int
    closing: UnitDecision


def spans_of(decisions: Sequence[int]) -> Iterator[NamedSpan]:
    """Yield the groups of a row of decisions, in order; every group in it is closed."""
    start: int | None = None
    for unit, decision in enumerate(decisions):
        if decision == UnitDecision.OPEN and start is None:
            start = unit
        elif UnitDecision.CLOSE <= decision <= UnitDecision.CLOSE_OFFLOADED:
            yield NamedSpan(unit if start is None else start, unit + 1, UnitDecision(decision))
            start = None


def joint_schedule(
    problem: Problem, menus: Menus, setting: Setting, decisions: Sequence[int]
) -> Schedule:
    """Build the schedule of a complete row of decisions.

    Args:
        problem: what the decisions are about.
        menus: options of every unit: keep, recompute if it can be, others.
        setting: what was decided first.
        decisions: one action per unit, every group closed.  # [num_units]
    """
    options = [_option(menu, decision) for menu, decision in zip(menus, decisions, strict=True)]
    groups = [
        group for span in spans_of(decisions) if (group := _group(menus, span, options)) is not None
    ]
    memory = MemoryPlan(tuple(options), tuple(groups), setting.window, setting.distance)
    pipeline = PipelinePlan(micro_batches=setting.micro_batches)
    return Schedule(problem.graph.content_hash, memory, pipeline, setting.state)


def _option(menu: Sequence[UnitOption], decision: int) -> UnitOption:
    if decision < FIRST_OPTION:
        return menu[0]
    return menu[decision - FIRST_OPTION + 2]


def _group(menus: Menus, span: NamedSpan, options: list[UnitOption]) -> Group | None:
    """Write a span into ``options``; returns its group, None for a unit recomputed alone."""
    if span.closing is UnitDecision.CLOSE_OFFLOADED:
        return Group(span.start, span.end, Action.OFFLOAD)
    if span.closing is UnitDecision.CLOSE_NESTED or span.end - span.start == 1:
        for unit in range(span.start, span.end):
            if len(menus[unit]) > 1 and is_recompute(menus[unit][1]):
                options[unit] = menus[unit][1]
    return Group(span.start, span.end) if span.end - span.start > 1 else None
