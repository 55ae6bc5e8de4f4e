"""Scheduler ``greedy``: simulated seconds per byte, cheapest first, then a 1-flip clean-up."""

from __future__ import annotations

import heapq
from contextlib import suppress
from dataclasses import dataclass

from remora.agents.evaluation import Evaluator, Score, SearchEnded
from remora.agents.heuristics.fill import owner_of_units
from remora.agents.heuristics.greedy_variants import PACES
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.neighbours import clean_up
from remora.agents.heuristics.space import Space
from remora.schedule.menu import is_recompute
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Greedy", "flip_until_feasible", "greedy_search"]

Price = tuple[int, float, float]
"""Three parts, compared one after the other.

Whether the change frees nothing that is over the budget; seconds by which the step grows per byte
that is freed; seconds per byte of the cost table, which tell apart changes that hide their time.
"""

Entry = tuple[Price, int, int, int]
"""Price, number of changes made when it was taken, unit, index of the choice.

Instead of a unit ``_STATE`` for another place of the state.
"""

_NEVER = -1
_STATE = -1


@dataclass(frozen=True)
class Greedy:
    """From keep-all, change one unit after another until every rank fits, then clean up.

    Where the state lives is one more thing to change. The price of a change is its simulated
    marginal cost: seconds by which the step grows per byte by which the ranks over the budget come
    down. Prices are taken anew only while a change looks cheapest (lazy greedy), so a problem of
    n units costs a few n simulations. It is done once per pace of host copies, and the faster
    outcome is cleaned up. Where changes of single units do not suffice, it starts from the
    schedule of least memory instead.
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
    """Search with all effects in ``evaluator``; returns the best schedule, None if none fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if evaluator.score(space.keep_all).feasible:
        return evaluator.best
    starts = []
    for window, distance in PACES if space.can_offload else PACES[:1]:
        pace = space.with_parts(space.keep_all, window=window, distance=distance)
        starts.append(flip_until_feasible(space, evaluator, pace))
    found = [start for start in starts if start is not None]
    if not found:
        least = find_fitting(space, evaluator)
        found = [] if least is None else [least]
    if found:
        fastest = min(found, key=lambda start: evaluator.score(start).step_time_s)
        clean_up(space, evaluator, fastest)
    return evaluator.best


def flip_until_feasible(space: Space, evaluator: Evaluator, start: Schedule) -> Schedule | None:
    """Lazy greedy over changes of units and the state; None if all together do not suffice.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    current, score = start, evaluator.score(start)
    queue = _first_prices(space, evaluator, start)
    heapq.heapify(queue)
    changes = 0
    while queue and not score.feasible:
        _, asked, unit, index = heapq.heappop(queue)
        trial = _changed(space, current, unit, index)
        if trial == current:
            continue
        trial_score = evaluator.score(trial)
        price = _price(score, trial_score, _table_price(space, unit, index))
        if price[0] and trial_score.excess_bytes > score.excess_bytes:
            continue  # undoes what another choice of this unit has freed
        if asked < changes and queue and price > queue[0][0]:
            heapq.heappush(queue, (price, changes, unit, index))
            continue
        current, score = trial, trial_score
        changes += 1
    return current if score.feasible else None


def _changed(space: Space, schedule: Schedule, unit: int, index: int) -> Schedule:
    """``schedule`` with one choice of a unit, or another place of the state."""
    if unit == _STATE:
        return space.with_parts(schedule, state=space.states[index])
    choice = space.choices[unit][index]
    if space.choice_of(schedule, unit) == choice:
        return schedule
    return space.with_choices(schedule, {unit: choice})


def _first_prices(space: Space, evaluator: Evaluator, start: Schedule) -> list[Entry]:
    """Prices of all changes of ``start``: simulated for the first unit of a kind on every rank.

    The first unit has the longest time to hide its copies, so the price is rather too low than too
    high for the others, and is taken anew before one of them is changed.
    """
    score = evaluator.score(start)
    owners = owner_of_units(start.pipeline, space.num_units)
    kinds = [unit.kind for unit in space.problem.graph.units]
    places = [(_STATE, index) for index in range(1, len(space.states))]
    places += [(u, i) for u, choices in enumerate(space.choices) for i in range(1, len(choices))]
    known: dict[tuple[str, int, int], Price] = {}
    queue: list[Entry] = []
    for unit, index in places:
        alike = ("", 0, index) if unit == _STATE else (kinds[unit], owners[unit], index)
        if alike not in known:
            after = evaluator.score(_changed(space, start, unit, index))
            known[alike] = _price(score, after, _table_price(space, unit, index))
        queue.append((known[alike], _NEVER, unit, index))
    return queue


def _price(before: Score, after: Score, table_price: float) -> Price:
    freed = before.excess_bytes - after.excess_bytes
    if freed <= 0:
        return 1, table_price, 0.0
    return 0, max(0.0, after.step_time_s - before.step_time_s) / freed, table_price


def _table_price(space: Space, unit: int, index: int) -> float:
    """Seconds per byte as the cost table has them, nothing overlapped."""
    costs = space.problem.cost
    if unit != _STATE and is_recompute(space.choices[unit][index].option):
        record = space.problem.chain.units[unit]
        return record.rerun_s / max(1, record.own_saved_bytes)
    return 1 / costs.d2h_bytes_per_s + 1 / costs.h2d_bytes_per_s
