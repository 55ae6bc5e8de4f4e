"""Where a closed loop stands: what was found, what was measured, what was learned."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from remora.api.measured_runs import append_steps, step_row
from remora.api.model_source import ModelSource
from remora.api.request import Progress, Request
from remora.api.search import Found, search
from remora.cost_models.calibration import calibrated, part_factors
from remora.cost_models.dataset.records import OK, StepRow
from remora.cost_models.gnn.cost_model import GnnCostModel
from remora.cost_models.gnn.step_examples import StepExample, example_of
from remora.cost_models.gnn.step_refit import refit
from remora.errors import InfeasibleError
from remora.report.content import CandidateRow
from remora.report.wording import bytes_text
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Verification

__all__ = ["LoopState", "Measured", "Round", "Verify"]

Verify = Callable[[Schedule, Estimate], Verification]
"""Runs a schedule beside the plain model; is given what was predicted."""


@dataclass(frozen=True)
class Round:
    """What one round showed.

    Attributes:
        number: from 1.
        measured: schedules that ran in it.
        failed: those of them whose verification did not pass.
        step_error, peak_error: median of |predicted / measured - 1|, predicted before measuring;
            NaN where nothing ran.
        best_s: least measured step time so far of a schedule that passed; infinite if none did.
    """

    number: int
    measured: int
    failed: int
    step_error: float
    peak_error: float
    best_s: float


@dataclass(frozen=True)
class Measured:
    """A schedule that ran.

    Attributes:
        schedule: what ran.
        estimate: what was predicted of it.
        verification: what its run showed.
        row: the same for the dataset.
    """

    schedule: Schedule
    estimate: Estimate
    verification: Verification
    row: StepRow


@dataclass
class LoopState:
    """Where a loop stands: what was found, what was measured, what was learned.

    Attributes:
        problem: what to plan; its variants are those of precision.
        request: names scheduler and time limit.
        model: as it was before anything was measured.
        learned: the model by graph, after the steps measured of it.
    """

    problem: Problem
    request: Request
    model: GnnCostModel
    learned: dict[str, GnnCostModel] = field(default_factory=dict)
    pool: dict[Schedule, None] = field(default_factory=dict)
    measured: list[Measured] = field(default_factory=list)
    candidates: tuple[CandidateRow, ...] = ()
    search_s: float = 0.0

    def search(self, progress: Progress, top_k: int) -> list[Schedule]:
        """Search and return what to measure."""
        self.learned = {one.graph.content_hash: self._refitted(one) for one in self._problems}
        found = self._found(self._calibrated(), progress)
        self.pool |= dict.fromkeys(found.schedules)
        ran = {one.schedule for one in self.measured}
        left = [schedule for schedule in self.pool if schedule not in ran]
        estimates = self._estimates(left)
        fitting = [
            schedule
            for schedule in left
            if estimates[schedule].peak_bound_bytes <= self.problem.budget_bytes
        ]
        if not fitting and not self.measured:
            raise InfeasibleError(
                "no schedule was found whose upper bound on the peak is within the budget of "
                f"{bytes_text(self.problem.budget_bytes)}"
            )
        return sorted(fitting, key=lambda schedule: estimates[schedule].step_time_s)[:top_k]

    def measure(self, schedule: Schedule, verify: Verify, label: str) -> None:
        """Run a schedule and keep what it showed."""
        estimate = self.estimate(schedule)
        verification = verify(schedule, estimate)
        row = step_row(self.problem, schedule, label, verification.measurement)
        self.measured.append(Measured(schedule, estimate, verification, row))

    def estimate(self, schedule: Schedule) -> Estimate:
        """What is predicted of a schedule after what was learned."""
        return self._estimates([schedule])[schedule]

    def append_steps(self, folder: Path, source: ModelSource) -> tuple[Path, ...]:
        """Add what was measured to a dataset, graph by graph."""
        return tuple(
            append_steps(folder, problem, source, [one.row for one in measured])
            for problem in self._problems
            if (measured := self._measured_of(problem))
        )

    def closed_round(self, number: int, count: int) -> Round:
        """Sum up a round that measured the last ``count`` schedules."""
        last = self.measured[len(self.measured) - count :]
        ran = [one for one in last if one.row.status == OK]
        best = self.best()
        return Round(
            number=number,
            measured=len(ran),
            failed=sum(not one.verification.passed for one in last),
            step_error=_median(
                [abs(one.estimate.step_time_s / one.row.step_time_s - 1) for one in ran]
            ),
            peak_error=_median(
                [abs(one.estimate.peak_memory_bytes / one.row.peak_memory_bytes - 1) for one in ran]
            ),
            best_s=math.inf if best is None else best.row.step_time_s,
        )

    def best(self) -> Measured | None:
        """The fastest that passed."""
        passed = [one for one in self.measured if one.verification.passed]
        return min(passed, key=lambda one: one.row.step_time_s, default=None)

    def _found(self, problem: Problem, progress: Progress) -> Found:
        request = self.request
        # Schedulers know peaks, not bounds: leave as much room as bounds stand above peaks.
        keep_all = self.estimate(keep_all_schedule(self.problem.graph))
        room = keep_all.peak_memory_bytes / keep_all.peak_bound_bytes
        lowered = problem.with_budget(math.floor(problem.budget_bytes * room))
        found = search(
            lowered,
            request.agent,
            request.time_limit_s,
            request.agent_settings,
            progress.candidate,
        )
        self.candidates = found.candidates
        self.search_s += found.search_s
        return found

    @property
    def _problems(self) -> tuple[Problem, ...]:
        """The problem of every graph."""
        return (self.problem, *self.problem.variants)

    def _refitted(self, problem: Problem) -> GnnCostModel:
        examples = self._examples(problem)
        return self.model.with_steps(refit(self.model.step_model, examples))

    def _calibrated(self) -> Problem:
        """The problem with operator times that agree with what was measured."""

        def agreeing(problem: Problem) -> Problem:
            costs = calibrated(problem.cost, part_factors(self._examples(problem)))
            return replace(problem, costs={1: costs})

        first, *others = map(agreeing, self._problems)
        return replace(first, variants=tuple(others))

    def _estimates(self, schedules: Sequence[Schedule]) -> dict[Schedule, Estimate]:
        found: dict[Schedule, Estimate] = {}
        for problem in self._problems:
            graph = problem.graph.content_hash
            mine = [schedule for schedule in schedules if schedule.graph_hash == graph]
            if mine:
                estimates = self.learned.get(graph, self.model).estimate_many(problem, mine)
                found |= zip(mine, estimates, strict=True)
        return found

    def _measured_of(self, problem: Problem) -> list[Measured]:
        graph = problem.graph.content_hash
        return [one for one in self.measured if one.schedule.graph_hash == graph]

    def _examples(self, problem: Problem) -> list[StepExample]:
        return [
            example_of(problem, one.schedule, one.row)
            for one in self._measured_of(problem)
            if one.row.status == OK
        ]


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan
