"""What is known of one problem before an episode begins, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import NUM_ACTIONS, Setting, joint_schedule
from remora.envs.count_tables import CountTables, count_tables
from remora.envs.pipeline_filling import LeastBudgets, least_budgets
from remora.envs.pipeline_tables import PipelineShape, pipeline_shapes, static_spans
from remora.envs.stage_orders import NUM_CORNERS
from remora.envs.unit_options import plain_options
from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import is_recompute, keep_all_schedule, plain_menu, unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule, UnitOption
from remora.simulator.compiled import simulator_of
from remora.simulator.floor import floor_schedule
from remora.simulator.records import CostModel

__all__ = ["ProblemTables"]

Ints = NDArray[np.int64]


class ProblemTables:
    """Tables of a problem, for every number of micro-batches.

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
        self.name = name
        self.problem = problem
        self._focus_bytes = focus_bytes
        self._cost_model = cost_model
        find_menu = unit_menu if mixed else plain_menu
        self.offloads = _may_offload(problem)
        self.menus = tuple(
            _without_losses(find_menu(problem, unit), self.offloads) for unit in problem.graph.units
        )

    @property
    def num_units(self) -> int:
        """Units of the model."""
        return len(self.menus)

    @cached_property
    def micro_batches(self) -> tuple[int, ...]:
        """Numbers of micro-batches to choose from, ascending."""
        if self.problem.micro_batches is not None:
            return (self.problem.micro_batches,)
        return tuple(sorted(self.problem.graphs)[:NUM_ACTIONS])

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
    def keep_all_s(self) -> float:
        """Step time of the plan that changes nothing."""
        return self.step_time_s(self._keep_all)

    @cached_property
    def keep_all_bytes(self) -> int:
        """Peak of the plan that changes nothing."""
        return simulator_of(self.problem).figures(self._keep_all).max_peak_bytes

    @cached_property
    def floor_bytes(self) -> int:
        """The peak at ``range`` 0: what recomputation alone reaches."""
        floor = floor_schedule(self.problem, self._keep_all.pipeline)
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

    def budget_bytes(self, share: float) -> int:
        """Budget at ``range:share``, raised to what an episode can be sure to reach."""
        span = self.keep_all_bytes - self.floor_bytes
        return max(self.floor_bytes + round(share * span), self.least_bytes)

    def schedule(self, setting: Setting, decisions: Sequence[int]) -> Schedule:
        """The schedule of a complete row of decisions.  # [num_units]."""
        return joint_schedule(self.problem, self.menus, setting, decisions)

    def step_time_s(self, schedule: Schedule) -> float:
        """Seconds of one step under a valid schedule."""
        if self._cost_model is None:
            return simulator_of(self.problem).figures(schedule).step_time_s
        return self._cost_model.estimate(self.problem, schedule).step_time_s

    @cached_property
    def _keep_all(self) -> Schedule:
        return keep_all_schedule(self.problem.graph, default_pipeline(self.problem))


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
