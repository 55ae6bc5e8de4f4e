"""Scheduler ``rotor``: the exact recompute-only dynamic program, replayed in the simulator."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_one_device
from remora.agents.exact.chains.rotor import ChainTable, Group, Segment, build_table
from remora.agents.exact.chains.rotor_chain import keep_all_need
from remora.agents.exact.chains.rotor_of_problem import rotor_chain
from remora.agents.exact.slots import check_slots
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, without_units
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Rotor", "rotor_search"]

# Slots to try on both sides of the border that bisection finds: the simulated peak is not quite
# monotone in the budget of the program.
_NEIGHBOURS = 3


@dataclass(frozen=True)
class Rotor:
    """Nested recomputation by dynamic programming over the chain of units.

    The budget given to the program is not the problem's: resident memory, gradients and skip
    connections are outside of its model. It is the largest one whose plan, replayed in the
    simulator, fits the problem's budget, found by bisection over memory slots. Where none fits
    (skip connections can cause that), the schedule of scheduler ``floor`` is tried.

    Attributes:
        slots: memory slots that sizes are rounded up to.
    """

    slots: int = 500
    one_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the number of slots."""
        check_slots(self.slots)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "rotor"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Solve and replay; see :class:`remora.agents.scheduler.Scheduler`."""
        check_one_device(self.name, problem.world_size)
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            rotor_search(Space(problem), evaluator, self.slots)
        return evaluator.answer(self.name)


def rotor_search(space: Space, evaluator: Evaluator, slots: int) -> None:
    """Score the plans of the program around the largest budget that fits.

    Solved twice: once with slots over all the memory that keep-all needs, and once, finer, over
    what the first pass found to be at hand.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    chain = rotor_chain(space.problem)
    if evaluator.score(space.keep_all).feasible:
        return
    span_bytes = float(chain.boundary_size[0] + keep_all_need(chain))
    for _ in range(2):
        table = build_table(chain, span_bytes, slots)
        fitting = _largest_fitting(space, evaluator, table, slots)
        if fitting is None:
            break
        span_bytes *= min(1.0, (fitting + _NEIGHBOURS + 1) / slots)
    if evaluator.best is None:
        evaluator.score(space.floor)


def _largest_fitting(
    space: Space, evaluator: Evaluator, table: ChainTable, slots: int
) -> int | None:
    """Bisect for the number of slots whose plan just fits the problem's budget."""

    def fits(count: int) -> bool:
        solution = table.solve(table.budget * min(1.0, count / slots))
        if solution.makespan is None:
            return True
        return evaluator.score(plan_of(space, solution.groups)).feasible

    low, high = 0, slots + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    for count in range(max(1, low - _NEIGHBOURS), min(slots, low + _NEIGHBOURS) + 1):
        fits(count)
    return low or None


def plan_of(space: Space, groups: Iterable[Group]) -> Schedule:
    """The schedule that a plan of the chain stands for.

    Segments become groups, cut around units that cannot be recomputed.
    """
    spans = without_units(_segments(groups), space.fixed)
    return space.build(space.keep_all.memory.options, spans)


def _segments(groups: Iterable[Group]) -> Iterable[Span]:
    for group in groups:
        if isinstance(group, Segment):
            yield Span(group.start, group.end)
            yield from _segments(group.children)
