"""Rules that every schedule must meet before it is simulated or run."""

from __future__ import annotations

from collections.abc import Sequence

from remora.errors import InvalidInputError
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.precision import Precision
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, MemoryPlan, Schedule
from remora.schedule.validate_inference import check_caches, check_pass
from remora.schedule.validate_pipeline import check_pipeline_plan
from remora.schedule.validate_state import check_host, check_state_plan


def validate(problem: Problem, schedule: Schedule) -> None:
    """Check a schedule against the graph, hardware and world size of a problem, or of its variant.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    problem = problem.variant_of(schedule)
    validate_for_graph(problem.graph, schedule, problem.allow_lossy)
    check_pipeline_plan(problem, schedule)
    check_state_plan(problem, schedule)
    check_caches(problem, schedule.state)
    if _offloads(schedule.memory):
        check_host(problem, "memory offloads tensors", "keep, recompute")


def validate_for_graph(graph: ModelGraph, schedule: Schedule, allow_lossy: bool = False) -> None:
    """Check what can be checked without hardware; the executor needs no more.

    Args:
        graph: of the whole batch.
        schedule: to check.
        allow_lossy: whether saved tensors may be compressed.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    if schedule.graph_hash != graph.content_hash:
        raise InvalidInputError(
            f"graph_hash is {schedule.graph_hash!r}, made for another model or batch; "
            f"allowed: {graph.content_hash!r}"
        )
    if schedule.tensor.degree != graph.tensor_degree:
        raise InvalidInputError(
            f"tensor.degree is {schedule.tensor.degree}, and the graph is that of one of "
            f"{graph.tensor_degree} ranks that share every layer; allowed: {graph.tensor_degree}"
        )
    if schedule.precision.units != graph.precisions:
        raise InvalidInputError(
            f"precision.units is {_precisions(schedule.precision.units)}, and the graph was "
            f"traced with {_precisions(graph.precisions)}; allowed: those of the graph"
        )
    if graph.forward_only:
        check_pass(schedule)
    _check_memory(graph, schedule.memory, allow_lossy)


def _offloads(memory: MemoryPlan) -> bool:
    return any(Action.OFFLOAD in option.distinct for option in memory.options) or any(
        group.checkpoint is Action.OFFLOAD for group in memory.groups
    )


def _check_memory(graph: ModelGraph, memory: MemoryPlan, allow_lossy: bool) -> None:
    if len(memory.options) != len(graph.units):
        raise InvalidInputError(
            f"memory.options has {len(memory.options)} entries; allowed: {len(graph.units)}, "
            "one per unit"
        )
    paces = ((memory.offload_window, memory.prefetch_distance), *memory.paces)
    for window, distance in paces:
        for field, value in (("offload_window", window), ("prefetch_distance", distance)):
            if not isinstance(value, int) or value < 1:
                raise InvalidInputError(f"memory.{field} is {value!r}; allowed: integers from 1")
    for unit, option in zip(graph.units, memory.options, strict=True):
        names = [name for name, _ in option.actions]
        if names != [saved.name for saved in unit.saved]:
            raise InvalidInputError(
                f"memory.options[{unit.index}] does not name the saved tensors of unit "
                f"{unit.name!r} in order; allowed: one action for each of its {len(unit.saved)}"
            )
        _check_actions(unit.index, unit.fixed_reason, option.distinct, allow_lossy)
    grouped = _check_groups(graph, memory.groups, 0, len(graph.units))
    for index in sorted(grouped):
        actions = memory.options[index].distinct
        if actions - {Action.KEEP, Action.RECOMPUTE} or len(actions) > 1:
            raise InvalidInputError(
                f"memory.options[{index}] is {_words(actions)} inside a recompute group; "
                "allowed there: keep or recompute, for all saved tensors of the unit"
            )


def _check_actions(
    index: int, fixed_reason: str, actions: frozenset[Action], allow_lossy: bool
) -> None:
    if fixed_reason and actions - {Action.KEEP}:
        raise InvalidInputError(
            f"memory.options[{index}] is {_words(actions)} but the unit is {fixed_reason}; "
            "allowed: keep"
        )
    if Action.COMPRESS in actions and not allow_lossy:
        raise InvalidInputError(
            f"memory.options[{index}] compresses, which is lossy and not allowed here "
            "(allow_lossy is false); allowed: keep, recompute, offload"
        )


def _check_groups(
    graph: ModelGraph, groups: Sequence[Group], start: int, end: int, depth: int = 0
) -> set[int]:
    """Check order, nesting and bounds; returns the indices of all units in a group."""
    covered: set[int] = set()
    position = start
    for group in groups:
        where = f"memory.groups: [{group.start}, {group.end})"
        if not position <= group.start < group.end <= end:
            raise InvalidInputError(
                f"{where} is not inside [{position}, {end}); allowed: ordered, disjoint, nested "
                "ranges with at least one unit"
            )
        if group.checkpoint not in (Action.KEEP, Action.OFFLOAD):
            raise InvalidInputError(
                f"{where} has checkpoint {group.checkpoint.value!r}; allowed: keep, offload"
            )
        if depth and group.checkpoint is Action.OFFLOAD:
            raise InvalidInputError(
                f"{where} is nested and offloads its checkpoint; allowed: outermost groups only"
            )
        for index in range(group.start, group.end):
            if graph.units[index].fixed_reason:
                raise InvalidInputError(
                    f"{where} holds unit {index}, which is {graph.units[index].fixed_reason}; "
                    "allowed: units of the model"
                )
        if depth and (group.start, group.end) == (start, end):
            raise InvalidInputError(
                f"{where} repeats the group around it; allowed: a smaller range"
            )
        _check_groups(graph, group.children, group.start, group.end, depth + 1)
        covered |= set(range(group.start, group.end))
        position = group.end
    return covered


def _precisions(units: Sequence[Precision]) -> str:
    return ", ".join(units) or "model for all units"


def _words(actions: frozenset[Action]) -> str:
    return " and ".join(sorted(action.value for action in actions))
