"""What a greedy can change about a schedule, priced by the cost table alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from remora.agents.heuristics.space import Choice, Space
from remora.agents.heuristics.spans import Span
from remora.schedule.option_prices import PricedOption, price_option

__all__ = ["ALL_PRICINGS", "Change", "GroupsWhen", "Pricing", "TieBreak", "changes_of"]

_LONGEST_GROUP = 6


class TieBreak(StrEnum):
    """Which of two changes of equal price comes first."""

    FORWARD = "forward"
    BACKWARD = "backward"
    SIZE = "size"


class GroupsWhen(StrEnum):
    """When units are recomputed together: before any other change, or after all of them."""

    FIRST = "first"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Pricing:
    """One way to put changes in order.

    Attributes:
        copy_cost: whether a copy costs its time, or nothing since it may be hidden.
        tie_break: order of equal prices.
        groups: when groups are made.
    """

    copy_cost: bool = True
    tie_break: TieBreak = TieBreak.FORWARD
    groups: GroupsWhen = GroupsWhen.LAST


ALL_PRICINGS = tuple(
    Pricing(copy_cost, tie_break, groups)
    for copy_cost in (True, False)
    for tie_break in TieBreak
    for groups in reversed(GroupsWhen)
)
"""All twelve, the usual one first."""


@dataclass(frozen=True, slots=True)
class Change:
    """A choice for one unit, or a group; it takes the place of earlier changes of its units.

    Attributes:
        start, end: the units.
        choice: of the one unit; None for a group.
        price_s_per_byte: seconds per byte that it frees.
        freed_bytes: by it, beyond the earlier changes of its units.
    """

    start: int
    end: int
    choice: Choice | None
    price_s_per_byte: float
    freed_bytes: int

    @property
    def span(self) -> Span:
        """Its units as a group."""
        return Span(self.start, self.end)


def changes_of(space: Space, pricing: Pricing) -> tuple[Change, ...]:
    """All changes worth making, cheapest first.

    The options of a unit that lie on the lower convex hull of seconds over bytes come one after
    the other; a group comes with the seconds of its units and the bytes between them.
    """
    cost = space.problem.cost
    copy_s = (1 / cost.d2h_bytes_per_s + 1 / cost.h2d_bytes_per_s) * pricing.copy_cost
    units = [change for unit in space.free_units for change in _of_unit(space, unit, copy_s)]
    groups = list(_groups(space))
    key = _order(pricing.tie_break)
    units.sort(key=key)
    groups.sort(key=key)
    first = pricing.groups is GroupsWhen.FIRST
    return tuple([*groups, *units] if first else [*units, *groups])


def _order(tie_break: TieBreak) -> Callable[[Change], tuple[float, ...]]:
    if tie_break is TieBreak.FORWARD:
        return lambda change: (change.price_s_per_byte, change.start)
    if tie_break is TieBreak.BACKWARD:
        return lambda change: (change.price_s_per_byte, -change.start)
    return lambda change: (change.price_s_per_byte, -change.freed_bytes, change.start)


def _of_unit(space: Space, unit: int, copy_s: float) -> list[Change]:
    chain = space.problem.chain
    left = [price_option(chain, unit, option) for option in space.menus[unit]]
    changes: list[Change] = []
    current = left[0]

    def price(option: PricedOption) -> float:
        slower_s = option.time_s + copy_s * option.moved_bytes
        slower_s -= current.time_s + copy_s * current.moved_bytes
        return slower_s / (current.held_bytes - option.held_bytes)

    while left := [option for option in left if option.held_bytes < current.held_bytes]:
        taken = min(left, key=price)
        freed = current.held_bytes - taken.held_bytes
        changes.append(Change(unit, unit + 1, Choice(taken.option), max(0.0, price(taken)), freed))
        current = taken
    return changes


def _groups(space: Space) -> list[Change]:
    """Groups of two to six units of every free range, priced as if their units were kept."""
    chain = space.problem.chain
    found = []
    for area in space.free_ranges:
        for start in range(area.start, area.end - 1):
            for end in range(start + 2, min(area.end, start + _LONGEST_GROUP) + 1):
                units = chain.units[start:end]
                seconds = sum(unit.forward_s for unit in units[:-1]) + units[-1].rerun_s
                inside = sum(unit.own_saved_bytes for unit in units)
                freed = max(1, inside - max(unit.own_saved_bytes for unit in units))
                found.append(Change(start, end, None, seconds / freed, freed))
    return found
