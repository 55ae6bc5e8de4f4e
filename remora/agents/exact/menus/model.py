"""What every unit by itself can do, numbered for a solver: one column per unit and choice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from remora.agents.heuristics.space import Choice
from remora.schedule.chain import Chain
from remora.schedule.menu import is_recompute, keep_option, plain_menu, unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelinePlan,
    PrecisionPlan,
    Schedule,
    TensorPlan,
)
from remora.schedule.stage import UnitPlan, unit_plan

__all__ = ["MenuChoices", "menu_choices"]


@dataclass(frozen=True)
class MenuChoices:
    """All memory plans that give every unit one of its choices, without longer groups.

    Attributes:
        problem: what is planned.
        micro_batches: of one step.
        menus: choices of every unit.  # [num_units][num_choices]
    """

    problem: Problem
    micro_batches: int
    menus: Sequence[Sequence[Choice]]

    @property
    def chain(self) -> Chain:
        """Per-unit tables of one micro-batch."""
        return self.problem.chains[self.micro_batches]

    @property
    def num_columns(self) -> int:
        """Choices of all units together."""
        return self.first_columns[-1]

    @cached_property
    def first_columns(self) -> tuple[int, ...]:
        """Column of the first choice of every unit, then the number of columns."""
        return tuple(itertools.accumulate((len(menu) for menu in self.menus), initial=0))

    @cached_property
    def plans(self) -> tuple[tuple[UnitPlan, ...], ...]:
        """What the option of every choice does.  # [num_units][num_choices]."""
        return tuple(
            tuple(unit_plan(self.chain, unit, choice.option) for choice in menu)
            for unit, menu in enumerate(self.menus)
        )

    def reruns(self, unit: int, index: int) -> bool:
        """Whether a choice runs the whole unit again."""
        return is_recompute(self.menus[unit][index].option)

    def moved_inputs(self, unit: int, index: int) -> tuple[int, ...]:
        """What a choice to run the unit again moves to the host meanwhile: what it alone reads."""
        if not self.menus[unit][index].offload_checkpoint:
            return ()
        private = self.chain.private_inputs(unit, unit + 1)
        return tuple(s for s in self.chain.units[unit].inputs if s in private)

    def columns_of(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """Columns of a plan.

        Args:
            chosen: index of the choice of every unit.  # [num_units]
        """
        firsts = self.first_columns[:-1]
        return tuple(first + index for first, index in zip(firsts, chosen, strict=True))

    def schedule(
        self,
        chosen: Sequence[int],
        window: int,
        distance: int,
        pipeline: PipelinePlan | None = None,
    ) -> Schedule:
        """The schedule of a plan.

        Args:
            chosen: index of the choice of every unit.  # [num_units]
            window: offload window.
            distance: prefetch distance.
            pipeline: with these micro-batches; without it all units are on one device.
        """
        taken = [menu[index] for menu, index in zip(self.menus, chosen, strict=True)]
        options, groups = [], []
        for unit, choice in zip(self.problem.graph.units, taken, strict=True):
            options.append(keep_option(unit) if choice.offload_checkpoint else choice.option)
            if choice.offload_checkpoint:
                groups.append(Group(unit.index, unit.index + 1, Action.OFFLOAD))
        return Schedule(
            self.problem.graph.content_hash,
            MemoryPlan(tuple(options), tuple(groups), window, distance),
            pipeline or PipelinePlan(micro_batches=self.micro_batches),
            tensor=TensorPlan(self.problem.graph.tensor_degree),
            precision=PrecisionPlan(self.problem.graph.precisions),
        )


def menu_choices(problem: Problem, micro_batches: int, mixed: bool) -> MenuChoices:
    """Offer every unit the options of its menu, and recomputation from what waits on the host.

    Args:
        problem: what is planned.
        micro_batches: of one step.
        mixed: offer options that mix actions too.
    """
    menu_of = unit_menu if mixed else plain_menu
    menus = []
    for unit in problem.graph.units:
        choices = [Choice(option) for option in menu_of(problem, unit)]
        moves = problem.hardware.can_offload and problem.chain.private_inputs(
            unit.index, unit.index + 1
        )
        again = [choice for choice in choices if moves and is_recompute(choice.option)]
        choices += [Choice(choice.option, offload_checkpoint=True) for choice in again]
        menus.append(tuple(choices))
    return MenuChoices(problem, micro_batches, tuple(menus))
