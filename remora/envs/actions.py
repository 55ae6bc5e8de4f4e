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
    PipelineKind,
    PipelinePlan,
    Placement,
    PrecisionPlan,
    Schedule,
    StatePlan,
    TensorPlan,
    UnitOption,
)

__all__ = [
    "FIRST_OPTION",
    "KINDS",
    "NUM_ACTIONS",
    "NUM_DECISIONS",
    "NUM_STATES",
    "OBSERVATION_VERSION",
    "PACES",
    "STATES",
    "NamedSpan",
    "Phase",
    "Setting",
    "UnitDecision",
    "decision_name",
    "joint_schedule",
    "spans_of",
]

Menus = Sequence[Sequence[UnitOption]]


class Phase(IntEnum):
    """What the next action decides about; phases with one choice are skipped."""

    RANKS = 0
    KIND = 1
    MICRO_BATCHES = 2
    STATE = 3
    PACE = 4
    UNITS = 5
    DONE = 6


class UnitDecision(IntEnum):
    """Menu entry of a unit, and whether a group ends with it.

    Numbers from ``FIRST_OPTION`` on are the other entries of the unit's menu, in its order. An
    action is a decision, plus ``NUM_DECISIONS`` if a stage of the pipeline ends after the unit.
    """

    KEEP = 0
    OPEN = 1
    CLOSE = 2
    CLOSE_NESTED = 3
    CLOSE_OFFLOADED = 4


FIRST_OPTION = 5
"""The action of the first menu entry that neither keeps nor recomputes the whole unit."""

NUM_DECISIONS = 12
"""Decisions about a unit, cuts apart."""

NUM_ACTIONS = 2 * NUM_DECISIONS
"""Actions of the largest phase; the most micro-batch counts that an episode chooses from."""

OBSERVATION_VERSION = 4
"""Changes whenever a column of the observation or the meaning of an action does."""

KINDS = (
    (PipelineKind.NONE, 1),
    (PipelineKind.GPIPE, 1),
    (PipelineKind.ONE_F_ONE_B, 1),
    (PipelineKind.INTERLEAVED, 2),
    (PipelineKind.INTERLEAVED, 3),
    (PipelineKind.INTERLEAVED, 4),
    (PipelineKind.ZERO_BUBBLE, 2),
    (PipelineKind.DUALPIPE_V, 2),
    (PipelineKind.CHIMERA, 1),
)
"""(kind of the pipeline, stages per rank of one copy of the model) to choose from."""

STATES = (
    StatePlan(),
    StatePlan(optimizer=Placement.HOST),
    StatePlan(optimizer=Placement.EIGHT_BIT),
    StatePlan(zero_stage=1),
    StatePlan(zero_stage=1, optimizer=Placement.HOST),
    StatePlan(zero_stage=2),
    StatePlan(zero_stage=3),
    StatePlan(gradients=Placement.HOST, optimizer=Placement.HOST),
)
"""Places of the state to choose from."""

NUM_STATES = len(STATES)

PACES = ((2, 1), (1, 1), (2, 2), (3, 2), (4, 2), (4, 4), (6, 4), (8, 4))
"""(offload window, prefetch distance) to choose from."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is decided before the first unit.

    Attributes:
        micro_batches: number of micro-batches of one step.
        state: where weights, gradients and optimizer state live.
        window, distance: offload window and prefetch distance.
        kind: place of the pipeline's kind and chunks in ``KINDS``.
    """

    micro_batches: int
    state: StatePlan
    window: int
    distance: int
    kind: int = 0


@dataclass(frozen=True, slots=True)
class NamedSpan:
    """Units ``start`` to ``end - 1`` are recomputed together; ``closing`` ended the group."""

    start: int
    end: int
    closing: UnitDecision


def spans_of(decisions: Sequence[int]) -> Iterator[NamedSpan]:
    """Yield the groups of a row of decisions, in order; every group in it is closed."""
    start: int | None = None
    for unit, action in enumerate(decisions):
        decision = action % NUM_DECISIONS
        if decision == UnitDecision.OPEN and start is None:
            start = unit
        elif UnitDecision.CLOSE <= decision <= UnitDecision.CLOSE_OFFLOADED:
            yield NamedSpan(unit if start is None else start, unit + 1, UnitDecision(decision))
            start = None


def decision_name(action: int) -> str:
    """A decision about a unit in words."""
    decision = action % NUM_DECISIONS
    known = decision < FIRST_OPTION
    name = UnitDecision(decision).name if known else f"menu entry {decision - FIRST_OPTION + 2}"
    return f"{name}, CUT" if action >= NUM_DECISIONS else name


def joint_schedule(
    problem: Problem, menus: Menus, setting: Setting, decisions: Sequence[int]
) -> Schedule:
    """Build the schedule of a complete row of decisions.

    Args:
        problem: what the decisions are about.
        menus: options of every unit: keep, recompute if it can be, others.
        setting: what was decided first.
        decisions: one action per unit, every group closed, a cut after every stage but the
            last.  # [num_units]
    """
    options = [_option(menu, decision) for menu, decision in zip(menus, decisions, strict=True)]
    groups = [
        group for span in spans_of(decisions) if (group := _group(menus, span, options)) is not None
    ]
    memory = MemoryPlan(tuple(options), tuple(groups), setting.window, setting.distance)
    cuts = tuple(unit + 1 for unit, action in enumerate(decisions) if action >= NUM_DECISIONS)
    kind, chunks = KINDS[setting.kind]
    pipeline = PipelinePlan(kind, cuts, chunks, setting.micro_batches)
    graph = problem.graph
    return Schedule(
        graph.content_hash,
        memory,
        pipeline,
        setting.state,
        tensor=TensorPlan(graph.tensor_degree),
        precision=PrecisionPlan(graph.precisions),
    )


def _option(menu: Sequence[UnitOption], action: int) -> UnitOption:
    decision = action % NUM_DECISIONS
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
