"""Rules of schedules of inference: a pass has no backward, so nothing is saved, and no state."""

from __future__ import annotations

from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, Placement, Schedule, StatePlan
from remora.schedule.validate_state import check_host

__all__ = ["PASS_KINDS", "check_caches", "check_pass"]

PASS_KINDS = (PipelineKind.NONE, PipelineKind.GPIPE)
"""Kinds of pipelines of a pass: without backwards all others are gpipe, or need two copies."""

_WHERE = "allowed with mode='inference'"


def check_pass(schedule: Schedule) -> None:
    """Check what a schedule of a forward alone must not say.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    for index, option in enumerate(schedule.memory.options):
        if option.actions:
            words = " and ".join(sorted(action.value for action in option.distinct))
            raise InvalidInputError(
                f"memory.options[{index}] is {words}; {_WHERE}: no actions, since a pass saves "
                "nothing for a backward"
            )
    if schedule.memory.groups:
        raise InvalidInputError(
            f"memory.groups has {len(schedule.memory.groups)} entries; {_WHERE}: none, since a "
            "pass recomputes nothing"
        )
    if schedule.pipeline.kind not in PASS_KINDS:
        raise InvalidInputError(
            f"pipeline.kind is {schedule.pipeline.kind.value!r}; {_WHERE}: "
            f"{', '.join(repr(kind.value) for kind in PASS_KINDS)}"
        )
    _check_no_training_state(schedule.state)


def check_caches(problem: Problem, state: StatePlan) -> None:
    """Check which caches wait on the host.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    units = state.host_caches
    if not units:
        return
    spec = problem.inference
    if spec is None:
        raise InvalidInputError(
            f"state.host_caches is {list(units)}; allowed with mode='train': none, since a step "
            "keeps no cache"
        )
    able = [u for u in range(len(problem.graph.units)) if spec.cache_of(u, 1).held]
    if list(units) != sorted(set(units) & set(able)):
        raise InvalidInputError(
            f"state.host_caches is {list(units)}; allowed: ascending indices of units with a "
            f"cache, {', '.join(map(str, able)) or 'of which there are none'}"
        )
    check_host(problem, "state.host_caches names units", "none")


def _check_no_training_state(state: StatePlan) -> None:
    for field in ("gradients", "optimizer"):
        placement: Placement = getattr(state, field)
        if placement is not Placement.DEVICE:
            raise InvalidInputError(
                f"state.{field} is {placement.value!r}; {_WHERE}: 'device', since a pass has none"
            )
    if state.zero_stage:
        raise InvalidInputError(
            f"state.zero_stage is {state.zero_stage}; {_WHERE}: 0, since a pass has no gradients"
        )
