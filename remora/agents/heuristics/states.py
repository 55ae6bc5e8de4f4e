"""Where weights, gradients and optimizer state may live, as far as a search tries it."""

from __future__ import annotations

from dataclasses import replace

from remora.errors import InvalidInputError
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Placement, StatePlan
from remora.schedule.validate_state import check_state_plan

__all__ = ["states_of"]

_ZERO_STAGES = (0, 1, 2, 3)


def states_of(problem: Problem, pipeline: PipelinePlan) -> tuple[StatePlan, ...]:
    """States without streamed weights that a problem allows, that on the device first.

    Eight bits per value of optimizer state change the weights that come out, so they are lossy.

    Args:
        problem: what is planned.
        pipeline: its ranks say how many replicas shards are spread over.
    """
    if problem.state_on_device:
        return (StatePlan(),)
    optimizers = [Placement.DEVICE, Placement.HOST]
    if problem.allow_lossy:
        optimizers.append(Placement.EIGHT_BIT)
    plans = [
        StatePlan(gradients=gradients, optimizer=optimizer, zero_stage=stage)
        for stage in _ZERO_STAGES
        for optimizer in optimizers
        for gradients in (Placement.DEVICE, Placement.HOST)
    ]
    return tuple(plan for plan in plans if _allowed(problem, pipeline, plan))


def _allowed(problem: Problem, pipeline: PipelinePlan, state: StatePlan) -> bool:
    schedule = replace(keep_all_schedule(problem.graph, pipeline), state=state)
    try:
        check_state_plan(problem, schedule)
    except InvalidInputError:
        return False
    return True
