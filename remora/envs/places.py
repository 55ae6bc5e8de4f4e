"""Where the state of one device may live, and what that takes for the whole step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from remora.envs.actions import STATES
from remora.errors import InvalidInputError
from remora.schedule.layout import Layout
from remora.schedule.lowering import resident_bytes
from remora.schedule.problem import Problem
from remora.schedule.schedule import Placement, Schedule
from remora.schedule.validate_state import check_state_plan

__all__ = ["Place", "allows_state", "places_of"]

_ON_ONE_DEVICE = (0, 1, 2)
"""Those of ``STATES`` that leave weights and gradients on the device."""


@dataclass(frozen=True, slots=True)
class Place:
    """One place of the state.

    Attributes:
        code: place in ``STATES``.
        device_bytes: there for the whole step: weights, batch, optimizer state.
        step_bytes: there during the optimizer's step, gradients and temporaries included.
        host_bytes: pinned for the whole step.
        step_s: seconds of the optimizer's step.
    """

    code: int
    device_bytes: int
    step_bytes: int
    host_bytes: int
    step_s: float


def places_of(problem: Problem, schedule: Schedule) -> tuple[Place, ...]:
    """Places that a problem allows, the device first.

    Gradients stay on the device until the step. Eight bits per value of optimizer state change
    the weights that come out, so they are there only if the problem allows losses.

    Args:
        problem: what is planned.
        schedule: any of one device and the micro-batches in question.
    """
    return tuple(
        _place(problem, replace(schedule, state=STATES[code]), code)
        for code in _ON_ONE_DEVICE
        if allows_state(problem, replace(schedule, state=STATES[code]))
    )


def allows_state(problem: Problem, schedule: Schedule) -> bool:
    """Whether the state of a schedule may be where it says."""
    if schedule.state.optimizer is Placement.EIGHT_BIT and not problem.allow_lossy:
        return False
    try:
        check_state_plan(problem, schedule)
    except InvalidInputError:
        return False
    return True


def _place(problem: Problem, schedule: Schedule, code: int) -> Place:
    layout = Layout(problem, schedule)
    on_host = schedule.state.optimizer is Placement.HOST
    counted = problem.optimizer.counted
    costs, state = layout.step_costs(0), layout.state_of(0)
    device_bytes = sum(resident_bytes(layout, 0).values())
    temporary_bytes = costs.temporary_bytes if counted and not on_host else 0
    return Place(
        code=code,
        device_bytes=device_bytes,
        step_bytes=device_bytes + state.gradient_bytes + temporary_bytes,
        host_bytes=state.host_bytes,
        step_s=costs.step_s if counted else 0.0,
    )
