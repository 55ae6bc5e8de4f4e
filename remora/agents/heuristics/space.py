"""The single-device schedules of one problem: menus, which units groups may hold, construction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from remora.agents.heuristics.spans import Span, covered_units, flatten, nest
from remora.schedule.menu import unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption
from remora.simulator.floor import floor_schedule

__all__ = ["Space"]


class Space:
    """What a search over memory plans may choose from; every schedule it makes is valid.

    Args:
        problem: the problem.

    Attributes:
        menus: options of every unit, keep first.  # [num_units][num_options]
        fixed: units that no group may hold.
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.menus = tuple(unit_menu(problem, unit) for unit in problem.graph.units)
        self.fixed = frozenset(u.index for u in problem.chain.units if u.fixed)

    @property
    def num_units(self) -> int:
        """Number of units in the chain."""
        return len(self.menus)

    @property
    def can_offload(self) -> bool:
        """Whether the hardware can move tensors to the host."""
        return self.problem.hardware.can_offload

    @cached_property
    def free_ranges(self) -> tuple[Span, ...]:
        """Maximal ranges of units that groups may hold."""
        ranges: list[Span] = []
        start = 0
        for unit in (*sorted(self.fixed), self.num_units):
            if unit > start:
                ranges.append(Span(start, unit))
            start = unit + 1
        return tuple(ranges)

    @cached_property
    def keep_all(self) -> Schedule:
        """The schedule that changes nothing."""
        return self.build([menu[0] for menu in self.menus])

    @cached_property
    def floor(self) -> Schedule:
        """The schedule of least peak by recomputation alone."""
        return floor_schedule(self.problem)

    def with_action(self, action: Action) -> list[UnitOption]:
        """For every unit its option that takes ``action``, else keep.  # [num_units]"""
        return [
            next((option for option in menu[1:] if action in option.distinct), menu[0])
            for menu in self.menus
        ]

    def build(
        self,
        options: Sequence[UnitOption],
        spans: Iterable[Span] = (),
        window: int | None = None,
        distance: int | None = None,
    ) -> Schedule:
        """A valid schedule of these options and groups.

        A unit inside a group cannot offload what it saves, so it keeps it there.

        Args:
            options: one option per unit.  # [num_units]
            spans: groups; no two cross and none holds a fixed unit.
            window: offload window, None for the default.
            distance: prefetch distance, None for the default.
        """
        spans = tuple(spans)
        grouped = covered_units(spans)
        legal = tuple(
            self.menus[unit][0] if unit in grouped and Action.OFFLOAD in option.distinct else option
            for unit, option in enumerate(options)
        )
        pace = {"offload_window": window, "prefetch_distance": distance}
        chosen = {field: value for field, value in pace.items() if value is not None}
        memory = MemoryPlan(legal, nest(spans), **chosen)
        return Schedule(self.problem.graph.content_hash, memory)

    def with_option(self, schedule: Schedule, unit: int, option: UnitOption) -> Schedule:
        """``schedule`` with another option for one unit."""
        options = list(schedule.memory.options)
        options[unit] = option
        return self.with_parts(schedule, options=options)

    def with_parts(
        self,
        schedule: Schedule,
        options: Sequence[UnitOption] | None = None,
        spans: Iterable[Span] | None = None,
        window: int | None = None,
        distance: int | None = None,
    ) -> Schedule:
        """``schedule`` with the parts that are given."""
        memory = schedule.memory
        return self.build(
            memory.options if options is None else options,
            flatten(memory.groups) if spans is None else spans,
            memory.offload_window if window is None else window,
            memory.prefetch_distance if distance is None else distance,
        )
