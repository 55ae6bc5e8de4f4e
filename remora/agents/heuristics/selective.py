"""Scheduler ``selective``: recompute only what is cheap to make again, in every unit alike.

Source: Korthikanti, Casper, Lym, McAfee, Andersch, Shoeybi, Catanzaro, "Reducing activation
recomputation in large transformer models", MLSys 2023. There the attention scores are named by
hand; here it is the mixed option of a unit with the fewest seconds per byte that moves nothing.
"""

from __future__ import annotations

from remora.agents.fixed_plan import FixedPlan
from remora.agents.heuristics.space import Space
from remora.schedule.option_prices import price_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule, UnitOption

__all__ = ["Selective", "selective_options"]

_PARTIAL = frozenset({Action.KEEP, Action.RECOMPUTE})


class Selective(FixedPlan):
    """Recompute part of every unit that has a part worth it."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "selective"

    def plan(self, problem: Problem) -> Schedule:
        """The cheapest part of every unit."""
        space = Space(problem)
        return space.build(selective_options(space))


def selective_options(space: Space) -> list[UnitOption]:
    """For every unit the partial recomputation with the fewest seconds per byte, else keep."""
    return [_cheapest_part(space, unit) for unit in range(space.num_units)]


def _cheapest_part(space: Space, unit: int) -> UnitOption:
    chain, (keep, *others) = space.problem.chain, space.menus[unit]
    kept = price_option(chain, unit, keep)
    parts = [price_option(chain, unit, o) for o in others if o.distinct == _PARTIAL]
    parts = [part for part in parts if part.held_bytes < kept.held_bytes]
    if not parts:
        return keep
    best = min(parts, key=lambda part: part.time_s / (kept.held_bytes - part.held_bytes))
    return best.option
