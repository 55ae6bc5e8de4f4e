"""Scheduler ``greedy``: seconds per byte, cheapest first, then a 1-flip clean-up."""

from __future__ import annotations

import heapq
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, Score, SearchEnded
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.space import Space
from remora.schedule.chain import ChainUnit
from remora.schedule.menu import is_recompute
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule, UnitOption

__all__ = ["Greedy", "greedy_search"]

Price = tuple[int, float]
"""(0, seconds per byte by which the peak falls), or, where the peak does not fall, (1, seconds per
byte of the cost table): any change that lowers the peak comes before those that do not."""


@dataclass(frozen=True)
class Greedy:
    """From keep-all, change one unit after another until the peak fits, then clean up.

    The price of a change is its simulated marginal cost: seconds by which the step grows per byte
    by which the peak falls. Prices are taken anew only while a change looks cheapest (lazy
    greedy), so a problem of n units costs a few n simulations. Where changes of single units do
    not suffice, it starts from the schedule of least memory instead.
    """

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "greedy"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            greedy_search(Space(problem), evaluator)
        return evaluator.answer(self.name)


def greedy_search(space: Space, evaluator: Evaluator) -> Schedule | None:
    """Search with all effects in ``evaluator``; returns the cleaned-up schedule, None if none fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    start = _flip_until_feasible(space, evaluator)
    if start is None:
        start = find_fitting(space, evaluator)
    return None if start is None else clean_up(space, evaluator, start)


def _flip_until_feasible(space: Space, evaluator: Evaluator) -> Schedule | None:
    """Lazy greedy over (unit, option) changes; None if all of them together do not suffice."""
    current, score = space.keep_all, evaluator.score(space.keep_all)
    queue: list[tuple[Price, int, int, int]] = []  # price, round it is from, unit, option
    for unit, menu in enumerate(space.menus):
        for choice, option in enumerate(menu[1:], start=1):
            after = evaluator.score(space.with_option(current, unit, option))
            price = _price(score, after, _table_price(space, unit, option))
            heapq.heappush(queue, (price, 0, unit, choice))
    changed: set[int] = set()
    while queue and not score.feasible:
        _, asked, unit, choice = heapq.heappop(queue)
        if unit in changed:
            continue
        option = space.menus[unit][choice]
        trial = space.with_option(current, unit, option)
        trial_score = evaluator.score(trial)
        price = _price(score, trial_score, _table_price(space, unit, option))
        if asked < len(changed) and queue and price > queue[0][0]:
            heapq.heappush(queue, (price, len(changed), unit, choice))
            continue
        current, score = trial, trial_score
        changed.add(unit)
    return current if score.feasible else None


def _price(before: Score, after: Score, table_price: float) -> Price:
    freed = before.peak_bytes - after.peak_bytes
    if freed <= 0:
        return 1, table_price
    return 0, max(0.0, after.step_time_s - before.step_time_s) / freed


def _table_price(space: Space, unit: int, option: UnitOption) -> float:
    """Seconds per byte as the cost table has them, nothing overlapped."""
    record = space.problem.chain.units[unit]
    if is_recompute(option):
        return record.rerun_s / max(1, record.own_saved_bytes)
    costs = space.problem.cost
    num_bytes = max(1, _offloaded_bytes(record, option))
    return 1 / costs.d2h_bytes_per_s + 1 / costs.h2d_bytes_per_s + 2 * costs.copy_latency_s / num_bytes


def _offloaded_bytes(record: ChainUnit, option: UnitOption) -> int:
    return sum(
        saved.num_bytes
        for saved in record.saved
        if all(option.action_of(name) is Action.OFFLOAD for name in saved.names)
    )
