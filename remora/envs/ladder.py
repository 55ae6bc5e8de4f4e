"""Plans from keeping everything down to the least memory, cheapest changes first.

An episode completes its decisions with the first rung that still fits, so that what a decision
costs is seen at once, not only after the last unit.
"""

from __future__ import annotations

import heapq

from remora.envs.actions import Pace, UnitAction
from remora.envs.evaluation import PlanEvaluator
from remora.envs.structure import Structure

__all__ = ["memory_ladder"]

_CHANGES = (UnitAction.OFFLOAD, UnitAction.CLOSE, UnitAction.CLOSE_OFFLOADED)

Price = tuple[int, float]
"""(0, seconds per byte by which the peak falls); (1, seconds per saved byte) where it does not."""


def memory_ladder(
    evaluator: PlanEvaluator, structure: Structure, least: tuple[int, ...], pace: Pace
) -> tuple[tuple[int, ...], ...]:
    """Change one unit after another, the one with the lowest price first.

    Prices are simulated, and taken anew only while a change looks cheapest (lazy greedy), so a
    chain of n units costs a few n simulations. Deterministic.

    Args:
        evaluator: predicts rows of decisions.
        structure: which decisions are possible.
        least: the decisions of least memory; the last rung.
        pace: of host copies, for which prices are taken.

    Returns:
        Rows of decisions, from keeping everything to ``least``.  # [num_rungs][num_units]
    """
    current = (int(UnitAction.KEEP),) * structure.num_units
    rungs = [current]
    possible = structure.possible_alone()
    queue: list[tuple[Price, int, int, int]] = [
        (_price(evaluator, current, unit, action, pace), 0, unit, int(action))
        for unit in range(structure.num_units)
        for action in _CHANGES
        if possible[unit][action]
    ]
    heapq.heapify(queue)
    changed: set[int] = set()
    while queue:
        _, asked, unit, action = heapq.heappop(queue)
        if unit in changed:
            continue
        if asked < len(changed):
            price = _price(evaluator, current, unit, action, pace)
            if queue and price > queue[0][0]:
                heapq.heappush(queue, (price, len(changed), unit, action))
                continue
        current = (*current[:unit], action, *current[unit + 1 :])
        changed.add(unit)
        rungs.append(current)
    return (*rungs, least)


def _price(
    evaluator: PlanEvaluator, current: tuple[int, ...], unit: int, action: int, pace: Pace
) -> Price:
    before = evaluator.figures(current, pace)
    after = evaluator.figures((*current[:unit], int(action), *current[unit + 1 :]), pace)
    slower_s = max(0.0, after.step_time_s - before.step_time_s)
    freed = before.peak_bytes - after.peak_bytes
    if freed > 0:
        return 0, slower_s / freed
    saved = evaluator.problem.chain.units[unit].own_saved_bytes
    return 1, slower_s / max(saved, 1)
