"""What is known of one problem before an episode begins, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import FIRST_OPTION, Setting, joint_schedule
from remora.envs.count_tables import CountTables, count_tables
from remora.envs.graphs import UnitGraph, unit_graph
from remora.envs.joint_engine import JointEngine
from remora.envs.pipeline_filling import LeastBudgets, least_budgets
from remora.envs.pipeline_tables import PipelineShape, pipeline_shapes, rank_choices, static_spans
from remora.envs.plan_tables import PlanTables
from remora.envs.stage_orders import NUM_CORNERS
from remora.envs.unit_options import plain_options
from remora.schedule.menu import is_recompute, plain_menu, unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule, UnitOption
from remora.simulator.compiled import simulator_of
from remora.simulator.floor import floor_schedule
from remora.simulator.records import CostModel

__all__ = ["ProblemTables"]

Ints = NDArray[np.int64]


class ProblemTables(PlanTables):
    """Tables of a training step, for every number of micro-batches.

    Args:
        name: shown in infos.
        problem: what is planned; its budget plays no part.
        cost_model: predicts the step time of finished plans; None for the simulator with the
            problem's own costs.
        mixed: whether menus hold options that mix actions.
        focus_bytes: if given, pipelines that are unlikely to be fast with so much memory are left
            out, which saves most of the time that tables of several ranks take.

    Attributes:
        menus: options of every unit, without those that compress.  # [n][options]
        offloads: whether anything may go to the host.
    """

    def __init__(
        self,
        name: str,
        problem: Problem,
        cost_model: CostModel | None = None,
        mixed: bool = True,
        focus_bytes: int | None = None,
    ) -> None:
        super().__init__(name, problem, cost_model)
        self._focus_bytes = focus_bytes
        find_menu = unit_menu if mixed else plain_menu
        self.offloads = _may_offload(problem)
        self.menus = tuple(
            _without_losses(find_menu(problem, unit), self.offloads) for unit in problem.graph.units
        )

    @classmethod
    def engine(cls, problems: Sequence[ProblemTables]) -> JointEngine:
        """The rules of training steps."""
        return JointEngine(problems)

    @cached_property
    def unit_graph(self) -> UnitGraph:
        """Units and edges as numbers."""
        return unit_graph(self)

    @property
    def rank_choices(self) -> tuple[int, ...]:
        """Ranks that one pipeline may have, most first."""
        return rank_choices(self.problem)

    @cached_property
    def shapes(self) -> tuple[PipelineShape, ...]:
        """Pipelines that are allowed; none on one device."""
        if self.problem.world_size == 1:
            return ()
        return pipeline_shapes(self.problem, self.micro_batches, self._focus_bytes)

    @cached_property
    def counts(self) -> tuple[CountTables, ...]:
        """Tables by number of micro-batches, ascending, without those that no pipeline has."""
        used = {shape.count for shape in self.shapes} or range(len(self.micro_batches))
        numbers = [self.micro_batches[place] for place in sorted(used)]
        return tuple(count_tables(self.problem, self.menus, number) for number in numbers)

    @cached_property
    def statics(self) -> Ints:
        """See :func:`.static_spans`."""
        return static_spans(self.problem)

    @cached_property
    def least_budgets(self) -> LeastBudgets:
        """Budgets with which pipelines can be completed; empty on one device."""
        if not self.shapes:
            return np.zeros((0, 2 * NUM_CORNERS + 1)), np.zeros(0, dtype=np.int64), 0
        return least_budgets(self)

    @cached_property
    def floor_bytes(self) -> int:
        """The peak at ``range`` 0: what recomputation alone reaches."""
        floor = floor_schedule(self.problem, self.keep_all.pipeline)
        return simulator_of(self.problem).figures(floor).max_peak_bytes

    @cached_property
    def least_bytes(self) -> int:
        """The smallest budget that an episode can have."""
        host = self.problem.hardware.host.memory_bytes
        if self.shapes:
            return self.least_budgets[2]
        return min(
            max(place.device_bytes + int(count.completions.rest[0]), place.step_bytes)
            for count in self.counts
            for place in count.places
            if place.host_bytes <= host
        )

    @cached_property
    def span_bytes(self) -> int:
        """What keeping everything takes beyond the least budget: features are relative to it."""
        least = self.floor_bytes if self.shapes else self.least_bytes
        return max(self.keep_all_bytes - least, 1)

    def schedule(self, setting: Setting, decisions: Sequence[int]) -> Schedule:
        """The schedule of a complete row of decisions.  # [num_units]."""
        return joint_schedule(self.problem, self.menus, setting, decisions)

    def option_s(self, unit: int, decision: int, micro_batches: int) -> float:
        """Seconds of a menu entry of a unit, on the scale of observations; 0 for what is none."""
        if decision < FIRST_OPTION:
            return 0.0
        count = next(one for one in self.counts if one.micro_batches == micro_batches)
        option = count.options[unit][decision - FIRST_OPTION + 1]
        seconds = option.compute_s + max(option.store_s, option.load_s)
        return 10 * micro_batches * seconds / self.keep_all_s


def _may_offload(problem: Problem) -> bool:
    """Whether the host is another memory and its link carries anything."""
    host, cost = problem.hardware.host, problem.cost
    rates = (host.d2h_bytes_per_s, host.h2d_bytes_per_s, cost.d2h_bytes_per_s, cost.h2d_bytes_per_s)
    return problem.hardware.can_offload and min(rates) > 0


def _without_losses(menu: Sequence[UnitOption], offloads: bool) -> tuple[UnitOption, ...]:
    """Keep, recompute if it is there, and the rest without compression."""
    again = [option for option in menu[1:] if is_recompute(option)]
    others = plain_options(menu)[1:]
    return (menu[0], *again, *(o for o in others if offloads or Action.OFFLOAD not in o.distinct))
