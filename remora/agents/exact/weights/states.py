"""Where the state of one device may live."""

from __future__ import annotations

from collections.abc import Iterable

from remora.agents.heuristics.states import states_of
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Placement, StatePlan

__all__ = ["host_gradients", "plain_states", "streaming"]

_ORDER = (Placement.DEVICE, Placement.EIGHT_BIT, Placement.HOST)


def plain_states(problem: Problem) -> tuple[StatePlan, ...]:
    """States without streamed weights that a problem allows, from most to least memory.

    Eight bits per value of optimizer state change the weights that come out, so they are lossy.
    """
    found = states_of(problem, PipelinePlan())
    return tuple(sorted(found, key=lambda state: _ORDER.index(state.optimizer)))


def host_gradients(problem: Problem) -> tuple[Placement, ...]:
    """Where gradients may live beside an optimizer on the host; none where that is refused."""
    return tuple(s.gradients for s in plain_states(problem) if s.optimizer is Placement.HOST)


def streaming(gradients: Placement, units: Iterable[int]) -> StatePlan:
    """Optimizer on the host, and the weights of ``units`` streamed."""
    chosen = tuple(sorted(units))
    weights = Placement.HOST if chosen else Placement.DEVICE
    return StatePlan(weights, gradients, Placement.HOST, streamed_units=chosen)
