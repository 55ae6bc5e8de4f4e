"""Cost model ``gnn``: learned operator times, the simulator on top, a learned remainder."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from remora.cost_models.gnn.step_model import Corrected, StepModel
from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.schedule.costs import CostTable
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.schedule.validate import validate
from remora.simulator.compiled import Figures, simulator_of
from remora.simulator.records import Estimate
from remora.simulator.simulate import simulate

if TYPE_CHECKING:
    from remora.cost_models.gnn.op_model import OpTimeModel

__all__ = ["GnnCostModel"]

_LOG = logging.getLogger(__name__)


class GnnCostModel:
    """Predicts what nobody measured; its bound on the peak is calibrated on held-out families.

    Args:
        op_model: predicts operators.
        step_model: corrects the simulator.
    """

    name = "gnn"

    def __init__(self, op_model: OpTimeModel, step_model: StepModel) -> None:
        self.op_model = op_model
        self.step_model = step_model
        self._said: set[str] = set()

    @property
    def device_types(self) -> tuple[str, ...]:
        """Types of devices whose steps it learned from."""
        return self.step_model.device_types

    def with_steps(self, step_model: StepModel) -> GnnCostModel:
        """The same operators with another correction of the simulator, as after a refit."""
        return GnnCostModel(self.op_model, step_model)

    def notes(self, graph: ModelGraph, hardware: Hardware) -> tuple[str, ...]:
        """What is left to roofline and simulator for a graph, one sentence each."""
        operators = self.op_model.op_times_s(graph, hardware).notes
        return (*operators, *self.step_model.notes(hardware.device_type))

    def costs(self, graph: ModelGraph, hardware: Hardware, optimizer: str) -> CostTable:
        """Cost table of a graph, for the problem whose schedules are estimated.

        Args:
            graph: the traced step.
            hardware: what it runs on.
            optimizer: name of the optimizer.
        """
        return self.op_model.costs(graph, hardware, optimizer)

    def estimate(self, problem: Problem, schedule: Schedule) -> Estimate:
        """Predict figures for ``schedule``.

        Raises:
            InvalidInputError: the schedule is not valid for the problem.
        """
        return self.estimate_many(problem, [schedule])[0]

    def estimate_many(self, problem: Problem, schedules: Sequence[Schedule]) -> list[Estimate]:
        """Predict figures for many schedules at once; each as :meth:`estimate` does.

        The breakdown of a peak is worked out when it is first read.

        Raises:
            InvalidInputError: a schedule is not valid for the problem.
        """
        for schedule in schedules:
            validate(problem, schedule)
        figures = simulator_of(problem).batch(schedules)
        corrected = self.step_model.correct(problem, schedules, figures)
        self._say(corrected.notes)
        return [
            _estimate(problem, schedule, figures[place], corrected, place)
            for place, schedule in enumerate(schedules)
        ]

    def _say(self, notes: Sequence[str]) -> None:
        """Say once why figures are the simulator's own."""
        for note in notes:
            if note not in self._said:
                self._said.add(note)
                _LOG.warning(note)


class _Breakdown(Mapping[str, int]):
    """Bytes by kind of memory at the simulated peak; simulated in full when first read."""

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        self._problem = problem
        self._schedule = schedule

    @cached_property
    def _bytes(self) -> dict[str, int]:
        found = simulate(self._problem, self._schedule).peak_breakdown
        return {kind.value: size for kind, size in found.items()}

    def __getitem__(self, kind: str) -> int:
        return self._bytes[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bytes)

    def __len__(self) -> int:
        return len(self._bytes)

    def __repr__(self) -> str:
        return repr(self._bytes)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy or a pickle is the plain mapping, without the problem."""
        return dict, (dict(self._bytes),)


def _estimate(
    problem: Problem, schedule: Schedule, figures: Figures, corrected: Corrected, place: int
) -> Estimate:
    peak_bytes = int(corrected.peak_bytes[place])
    one_rank = len(figures.peak_bytes) == 1
    return Estimate(
        step_time_s=float(corrected.step_time_s[place]),
        peak_memory_bytes=peak_bytes,
        peak_by_rank_bytes=(peak_bytes,) if one_rank else figures.peak_bytes,
        peak_bound_bytes=int(corrected.bound_bytes[place]),
        bound_confidence=float(corrected.confidence[place]),
        breakdown_bytes=_Breakdown(problem, schedule),
        host_bytes=max(figures.host_peak_bytes),
        cost_model=GnnCostModel.name,
    )
