"""Scheduler ``balanced``: stages of equal seconds, each filled greedily."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.changes import Pricing
from remora.agents.heuristics.greedy_variants import fill_variants
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.shapes import shapes_of
from remora.agents.heuristics.space import Space
from remora.schedule.cuts import balanced_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Balanced"]

_CLEANED = 3
"""Plans of other kinds that are cleaned up, beside that of 1f1b."""


@dataclass(frozen=True)
class Balanced:
    """Cut once by seconds, then fit every rank by itself; the cuts stay.

    Attributes:
        every_kind: whether all kinds, ranks and micro-batches that the problem allows are tried,
            and the fastest is taken; otherwise it is 1f1b on all ranks.
    """

    every_kind: bool = False

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "balanced"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Fill and clean up; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem, shapes=())
        with suppress(SearchEnded):
            found = _filled(space, evaluator, [space.keep_all])
            if not found:
                least = find_fitting(space, evaluator)
                found = [] if least is None else [least]
            if self.every_kind:
                others = _filled(space, evaluator, _of_every_kind(space, evaluator))
                others.sort(key=lambda plan: evaluator.score(plan).step_time_s)
                found += others[:_CLEANED]
            for plan in dict.fromkeys(found):
                clean_up(space, evaluator, plan)
        return evaluator.answer(self.name)


def _filled(space: Space, evaluator: Evaluator, starts: Sequence[Schedule]) -> list[Schedule]:
    """The best way to fill each, where there is one that fits.

    Raises:
        SearchEnded: the time is over.
    """
    plans = (fill_variants(space, evaluator, start, (Pricing(),)) for start in starts)
    return [found[0] for found in plans if found]


def _of_every_kind(space: Space, evaluator: Evaluator) -> list[Schedule]:
    """Everything kept in every pipeline cut by seconds, the fastest first.

    Raises:
        SearchEnded: the time is over.
    """
    starts = []
    for shape in shapes_of(space.problem):
        units = space.problem.chains[shape.micro_batches].units
        cuts = balanced_cuts([u.forward_s + u.backward_s for u in units], shape.num_stages)
        starts.append(space.with_parts(space.keep_all, pipeline=shape.cut(cuts)))
    scores = evaluator.score_all(starts)
    order = sorted(range(len(starts)), key=lambda place: scores[place].step_time_s)
    return [starts[place] for place in order]
