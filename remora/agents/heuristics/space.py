"""The single-device schedules of one problem: menus, which units groups may hold, construction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from remora.agents.heuristics.spans import Span, covered_units, flatten, nest
from remora.schedule.menu import is_recompute, plain_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, MemoryPlan, Schedule, UnitOption
from remora.simulator.floor import floor_schedule

__all__ = ["Choice", "Space"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What one unit by itself can do: an option, or recomputing from a checkpoint on the host."""

    option: UnitOption
    offload_checkpoint: bool = False


class Space:
    """What a search over memory plans may choose from; every schedule it makes is valid.

    Args:
        problem: the problem.

    Attributes:
        menus: options of every unit, keep first.  # [num_units][num_options]
        fixed: units that no group may hold.
        choices: the menu of every unit, and recomputation from an offloaded checkpoint where that
            moves anything.  # [num_units][num_choices]
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.menus = tuple(plain_menu(problem, unit) for unit in problem.graph.units)
        self.fixed = frozenset(u.index for u in problem.chain.units if u.fixed)
        self.choices = tuple(self._choices(unit) for unit in range(len(self.menus)))

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
        """The option of every unit that takes ``action``, else keep; one per unit."""
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

        Equal plans come out equal: a group of one unit whose checkpoint stays is that unit's
        recompute option. A unit inside a group cannot offload what it saves, so it keeps it there.

        Args:
            options: one option per unit.  # [num_units]
            spans: groups; no two cross and none holds a fixed unit.
            window: offload window, None for the default.
            distance: prefetch distance, None for the default.
        """
        spans = tuple(spans)
        longer = [span for span in spans if span.end - span.start > 1]
        grouped = covered_units(longer)
        chosen = list(options)
        alone = []
        for span in spans:
            if span.end - span.start == 1:
                unit = span.start
                outermost = span.offload and unit not in grouped
                chosen[unit] = self.menus[unit][0] if outermost else self.recompute(unit)
                alone += [span] if outermost else []
        for unit in grouped:
            if Action.OFFLOAD in chosen[unit].distinct:
                chosen[unit] = self.menus[unit][0]
        default = MemoryPlan(())
        memory = MemoryPlan(
            tuple(chosen),
            nest([*longer, *alone]),
            default.offload_window if window is None else window,
            default.prefetch_distance if distance is None else distance,
        )
        return Schedule(self.problem.graph.content_hash, memory)

    def recompute(self, unit: int) -> UnitOption:
        """The unit's option that recomputes it; keep where the menu has none."""
        menu = self.menus[unit]
        return next((option for option in menu if is_recompute(option)), menu[0])

    def choice_of(self, schedule: Schedule, unit: int) -> Choice:
        """What ``unit`` does by itself in ``schedule``."""
        alone = any(g.start == unit and g.end == unit + 1 for g in schedule.memory.groups)
        option = self.recompute(unit) if alone else schedule.memory.options[unit]
        return Choice(option, offload_checkpoint=alone)

    def with_choices(self, schedule: Schedule, choices: Mapping[int, Choice]) -> Schedule:
        """``schedule`` with other choices for some units."""
        options = list(schedule.memory.options)
        spans = [
            span
            for span in flatten(schedule.memory.groups)
            if span.end - span.start > 1 or span.start not in choices
        ]
        for unit, choice in choices.items():
            options[unit] = choice.option
            if choice.offload_checkpoint:
                spans.append(Span(unit, unit + 1, offload=True))
        return self.with_parts(schedule, options=options, spans=spans)

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

    def _choices(self, unit: int) -> tuple[Choice, ...]:
        choices = [Choice(option) for option in self.menus[unit]]
        moves = self.can_offload and self.problem.chain.private_inputs(unit, unit + 1)
        if moves and self.recompute(unit) != self.menus[unit][0]:
            choices.append(Choice(self.recompute(unit), offload_checkpoint=True))
        return tuple(choices)
