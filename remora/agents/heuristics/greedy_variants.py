"""Scheduler ``greedy_variants``: changes in twelve orders by seconds per byte, the best wins."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.changes import ALL_PRICINGS, Pricing, changes_of
from remora.agents.heuristics.fill import fill
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.space import Space
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["PACES", "GreedyVariants", "beginnings", "fill_variants"]

# Offload window and prefetch distance to start from: from close to the device's own pace to ones
# that give slow copies time.
PACES = ((2, 1), (6, 3), (16, 8))

_CLEANED = 3


@dataclass(frozen=True)
class GreedyVariants:
    """Changes in a fixed order of prices, as many as it takes; then repair and clean-up.

    The prices come from the cost table, so a variant costs a dozen simulations. Where no variant
    fits, it starts from the schedule of least memory. The few best are cleaned up.

    Attributes:
        variants: numbers of the variants to run, of those in
            :data:`remora.agents.heuristics.changes.ALL_PRICINGS`; all if empty.
        clean: whether to clean up.
    """

    variants: tuple[int, ...] = ()
    clean: bool = True

    def __post_init__(self) -> None:
        """Check the numbers."""
        object.__setattr__(self, "variants", tuple(self.variants))
        for number in self.variants:
            if number not in range(len(ALL_PRICINGS)):
                raise InvalidInputError(
                    f"variants holds {number!r}; allowed: numbers from 0 to {len(ALL_PRICINGS) - 1}"
                )

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "greedy_variants"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        chosen = [ALL_PRICINGS[number] for number in self.variants] or ALL_PRICINGS
        with suppress(SearchEnded):
            self._search(Space(problem), evaluator, chosen)
        return evaluator.answer(self.name)

    def _search(self, space: Space, evaluator: Evaluator, chosen: Sequence[Pricing]) -> None:
        if evaluator.score(space.keep_all).feasible:
            return
        found = fill_variants(space, evaluator, space.keep_all, chosen)
        if not found:
            least = find_fitting(space, evaluator)
            found = [] if least is None else [least]
        if self.clean:
            for schedule in found[:_CLEANED]:
                clean_up(space, evaluator, schedule)


def fill_variants(
    space: Space, evaluator: Evaluator, start: Schedule, pricings: Sequence[Pricing]
) -> list[Schedule]:
    """Fill ``start`` in every order and at every pace.

    Returns:
        The different schedules that fit, fastest first.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    found: dict[Schedule, float] = {}
    for pricing in pricings:
        changes = changes_of(space, pricing)
        for begin in beginnings(space, start):
            schedule = fill(space, evaluator, begin, changes)
            if schedule is not None and (score := evaluator.score(schedule)).feasible:
                found[schedule] = score.step_time_s
    return sorted(found, key=found.__getitem__)


def beginnings(space: Space, start: Schedule) -> list[Schedule]:
    """``start`` at every pace of copies, and with its state in every other place."""
    paces = PACES if space.can_offload else PACES[:1]
    paced = [space.with_parts(start, window=w, distance=d) for w, d in paces]
    moved = [space.with_parts(paced[-1], state=state) for state in space.states]
    return list(dict.fromkeys([*paced, *moved]))
