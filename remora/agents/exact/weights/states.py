"""Where the state of one device may live, and the schedules that have it there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property

from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span
from remora.agents.heuristics.states import states_of
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Placement, Schedule, StatePlan, UnitOption

__all__ = ["StatedSpace", "host_gradients", "plain_states", "streaming"]

_ORDER = (Placement.DEVICE, Placement.EIGHT_BIT, Placement.HOST)


class StatedSpace(Space):
    """The schedules of a space with another place for the state.

    Args:
        plain: the space.
        state: where weights, gradients and optimizer state live in every schedule it makes.
    """

    def __init__(self, plain: Space, state: StatePlan) -> None:
        super().__init__(plain.problem, plain.pipeline, plain.allowed, plain.shapes)
        self._plain = plain
        self._state = state

    @property
    def states(self) -> tuple[StatePlan, ...]:
        """The one place."""
        return (self._state,)

    @cached_property
    def floor(self) -> Schedule:
        """The schedule of least peak by recomputation with the state on the device, moved."""
        return replace(self._plain.floor, state=self._state)

    def build(
        self,
        options: Sequence[UnitOption],
        spans: Iterable[Span] = (),
        window: int | None = None,
        distance: int | None = None,
        pipeline: PipelinePlan | None = None,
        paces: Sequence[tuple[int, int]] = (),
        state: StatePlan | None = None,
    ) -> Schedule:
        """As the space does it; ``state`` is its own by default."""
        state = state or self._state
        return super().build(options, spans, window, distance, pipeline, paces, state)


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
