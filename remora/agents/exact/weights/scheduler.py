"""Scheduler ``weight_streaming``: where the state lives, planned together with activations.

The problem. One device, a budget in bytes. Optimizer state may stay, shrink to 8 bits where the
problem allows lossy plans, or live and step on the host; then gradients may leave unit by unit, and
the weights of any units may wait on the host and be loaded ahead of every use. A streamed weight is
gone between its uses and needs not come back after the step, but crosses the link for every forward
and backward. Activations are kept, recomputed or moved beside that. Wanted: the fastest step whose
peak is within the budget. Given the memory plan, the choice of streamed units is solved exactly
(:mod:`remora.agents.exact.weights.program`).

Source: Beaumont, Eyraud-Dubois, Shilova, Zhao, "Weight offloading strategies for training large
DNN models", hal-03580767 (2022).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_one_device
from remora.agents.exact.weights.program import Limits, choose_streamed
from remora.agents.exact.weights.reading import stream_tables, streamable_units
from remora.agents.exact.weights.solver import solve_streaming
from remora.agents.exact.weights.states import (
    host_gradients,
    plain_states,
    streaming,
)
from remora.agents.heuristics.greedy import greedy_search
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Placement, Schedule, StatePlan

__all__ = ["WeightStreaming", "weight_search"]

# A search under one state may use this part of the time left.
_SHARE_OF_TIME = 0.5
_MAX_ROUNDS = 3


@dataclass(frozen=True)
class WeightStreaming:
    """State choices from the fastest to the leanest, each with a greedy plan for activations.

    Attributes:
        solve_s: most seconds of one run of the integer program.
    """

    solve_s: float = 1.0
    one_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the seconds."""
        if not self.solve_s > 0:
            raise InvalidInputError(f"solve_s is {self.solve_s!r}; allowed: a number above 0")

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "weight_streaming"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        check_one_device(self.name, problem.world_size)
        with suppress(SearchEnded):
            weight_search(Space(problem), evaluator, self.solve_s)
        return evaluator.answer(self.name)


def weight_search(space: Space, evaluator: Evaluator, solve_s: float) -> None:
    """Search with all effects in ``evaluator``.

    What is tried beside it has an evaluator of its own and hands over only what fits: so the
    leanest plan that ``evaluator`` knows comes from paths that do not depend on the budget, and
    its peak, given as the budget, is found again.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if evaluator.score(space.keep_all).feasible:
        return
    search = _Search(space, evaluator, solve_s)
    for state in search.states():
        search.try_state(state)
    for _ in range(_MAX_ROUNDS):
        if not search.improve():
            break
    if evaluator.best is not None:
        evaluator.score(replace(evaluator.best, state=StatePlan()))
        return
    for state in search.states():
        if find_fitting(space.in_state(state), evaluator) is not None:
            return


class _Search:
    """The steps of the search."""

    def __init__(self, space: Space, evaluator: Evaluator, solve_s: float) -> None:
        self._space = space
        self._evaluator = evaluator
        self._solve_s = solve_s
        self._problem = space.problem

    def states(self) -> Iterator[StatePlan]:
        """States to plan activations for, the leanest last."""
        yield from plain_states(self._problem)
        places = host_gradients(self._problem)
        for gradients in places:
            tables = stream_tables(self._problem, self._space.keep_all, gradients)
            # Without a limit on the device: the units that make the step fastest.
            limits = Limits(float("inf"), self._problem.hardware.host.memory_bytes)
            left_s = min(self._solve_s, self._evaluator.remaining_s)
            units = choose_streamed(tables, limits, left_s).units
            if units:
                yield streaming(gradients, units)
        for gradients in places:
            yield streaming(gradients, streamable_units(self._problem))

    def try_state(self, state: StatePlan) -> None:
        """Plan activations for a state, then the streamed units for that plan."""
        # With the state on the device this is the greedy scheduler, so it is never worse than that.
        space = self._space if state == StatePlan() else self._space.in_state(state)
        best = self._evaluator.best
        least_s = self._evaluator.score(space.keep_all).step_time_s
        if best is not None and least_s >= self._evaluator.score(best).step_time_s:
            return
        side = self._side()
        with suppress(SearchEnded):
            greedy_search(space, side)
        self._take(side)
        if side.best is not None and state.optimizer is Placement.HOST:
            self._solve(side.best)

    def improve(self) -> bool:
        """Free activations and streamed units of the best plan in turn; whether that helped."""
        before = self._evaluator.best
        if before is None or before.state.optimizer is not Placement.HOST:
            return False
        self._solve(before)
        best = self._evaluator.best or before
        side = self._side()
        with suppress(SearchEnded):
            clean_up(self._space.in_state(best.state), side, best)
        self._take(side)
        return self._evaluator.best != before

    def _solve(self, schedule: Schedule) -> None:
        side = self._side()
        with suppress(SearchEnded):
            solve_streaming(side, schedule, self._solve_s)
        self._take(side)

    def _side(self) -> Evaluator:
        if self._evaluator.remaining_s <= 0:
            raise SearchEnded
        left_s = self._evaluator.remaining_s * _SHARE_OF_TIME
        if left_s <= 0:
            raise SearchEnded
        return Evaluator(self._problem, left_s)

    def _take(self, side: Evaluator) -> None:
        if side.best is not None:
            self._evaluator.score(side.best)
