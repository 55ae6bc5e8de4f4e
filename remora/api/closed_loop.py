"""Search, measure the best answers, learn from them, and search again."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from remora.api.cost_model_choice import GNN, learned_cost_model
from remora.api.measured_runs import append_steps, step_row
from remora.api.model_source import ModelSource
from remora.api.request import Progress, Request
from remora.api.search import Found, search
from remora.cost_models.calibration import calibrated, part_factors
from remora.cost_models.dataset.records import OK, StepRow
from remora.cost_models.gnn.cost_model import GnnCostModel
from remora.cost_models.gnn.step_examples import StepExample, example_of
from remora.cost_models.gnn.step_refit import refit
from remora.errors import InfeasibleError, InvalidInputError, ModelRunError
from remora.report.content import CandidateRow
from remora.report.wording import bytes_text
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Verification

__all__ = ["LoopRequest", "LoopResult", "Round", "check_loop", "run_loop"]

Verify = Callable[[Schedule, Estimate], Verification]
"""Runs a schedule beside the plain model; is given what was predicted."""


@dataclass(frozen=True)
class LoopRequest:
    """How often to search and how much to measure.

    Attributes:
        rounds: searches.
        top_k: schedules that are measured in every round.
        dataset: folder that the measured steps are added to.
    """

    rounds: int
    top_k: int
    dataset: Path

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("rounds", "top_k"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}, allowed: 1 or more")


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
class LoopResult:
    """The end of the loop.

    Attributes:
        schedule: the fastest one that was measured and passed.
        estimate: what the refitted model says of it.
        verification: what its run showed.
        rounds: in order.
        candidates: of the last search.
        search_s: seconds of all searches.
        shard: the file with the measured steps.
    """

    schedule: Schedule
    estimate: Estimate
    verification: Verification
    rounds: tuple[Round, ...]
    candidates: tuple[CandidateRow, ...]
    search_s: float
    shard: Path


def check_loop(request: Request, local: bool) -> None:
    """Refuse a loop that could not learn.

    Args:
        request: what is planned.
        local: whether the hardware is the machine at hand.

    Raises:
        InvalidInputError: another cost model than ``gnn``, another device than this one,
            several of them, or units in fewer bits.
    """
    if request.cost_model != GNN:
        raise InvalidInputError(
            f"cost_model is {request.cost_model!r}, allowed with several rounds: gnn, since the "
            "others learn nothing from a measured step"
        )
    if not local:
        raise InvalidInputError(
            f"hardware is {request.hardware!r}, allowed with several rounds: local, since "
            "schedules are measured"
        )
    if request.world_size != 1 or request.micro_batches not in (None, 1):
        raise InvalidInputError(
            f"world_size is {request.world_size} and micro_batches {request.micro_batches}, "
            "allowed with several rounds: 1 and 1"
        )
    if request.precisions:
        raise InvalidInputError(
            f"precision is {', '.join(request.precisions)}; allowed with several rounds: none, "
            "since all schedules that are measured have one graph"
        )


def run_loop(
    problem: Problem,
    request: Request,
    loop: LoopRequest,
    source: ModelSource,
    verify: Verify,
    progress: Progress | None = None,
) -> LoopResult:
    """Plan in rounds, each of which measures and learns.

    Every round searches with operator times that agree with the steps measured so far, puts all
    schedules found so far in the order of the learned step time, measures the first ``top_k``
    that were not measured yet and whose bound on the peak is within the budget, and refits what
    the learned model leaves over. A round that has nothing new to measure is the last.

    Args:
        problem: what to plan, with costs of ``gnn``.
        request: names scheduler, time limit and weights.
        loop: rounds and what is measured.
        source: how the model is built, for the dataset.
        verify: runs a schedule.
        progress: told when pieces of work begin.

    Raises:
        InfeasibleError: nothing fits.
        ModelRunError: not one schedule that ran passed.
    """
    state = _Loop(problem, request, learned_cost_model(request.cost_model_weights))
    progress = progress or Progress()
    rounds: list[Round] = []
    for number in range(1, loop.rounds + 1):
        progress.stage(f"round {number}: searching with {request.agent}")
        chosen = state.search(progress, loop.top_k)
        for place, schedule in enumerate(chosen, start=1):
            progress.stage(f"round {number}: measuring schedule {place} of {len(chosen)}")
            state.measure(schedule, verify, f"round {number} schedule {place}")
        rounds.append(state.closed_round(number, len(chosen)))
        if not chosen:
            break
    best = state.best()
    shard = append_steps(loop.dataset, problem, source, [one.row for one in state.measured])
    if best is None:
        raise ModelRunError(
            f"none of the {len(state.measured)} schedules that ran passed its verification; the "
            f"last: {', '.join(state.measured[-1].verification.failures)}"
        )
    return LoopResult(
        schedule=best.schedule,
        estimate=state.model.estimate(problem, best.schedule),
        verification=best.verification,
        rounds=tuple(rounds),
        candidates=state.candidates,
        search_s=state.search_s,
        shard=shard,
    )


@dataclass(frozen=True)
class _Measured:
    schedule: Schedule
    estimate: Estimate
    verification: Verification
    row: StepRow


@dataclass
class _Loop:
    """Where a loop stands: what was found, what was measured, what was learned."""

    problem: Problem
    request: Request
    model: GnnCostModel
    pool: dict[Schedule, None] = field(default_factory=dict)
    measured: list[_Measured] = field(default_factory=list)
    candidates: tuple[CandidateRow, ...] = ()
    search_s: float = 0.0

    def search(self, progress: Progress, top_k: int) -> list[Schedule]:
        """Search and return what to measure."""
        examples = self._examples()
        self.model = self.model.with_steps(refit(self.model.step_model, examples))
        costs = calibrated(self.problem.cost, part_factors(examples))
        problem = replace(self.problem, costs={1: costs})
        found = self._found(problem, progress)
        self.pool |= dict.fromkeys(found.schedules)
        left = [schedule for schedule in self.pool if schedule not in self._ran()]
        estimates = dict(zip(left, self.model.estimate_many(self.problem, left), strict=True))
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
        estimate = self.model.estimate(self.problem, schedule)
        verification = verify(schedule, estimate)
        row = step_row(self.problem, schedule, label, verification.measurement)
        self.measured.append(_Measured(schedule, estimate, verification, row))

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

    def best(self) -> _Measured | None:
        """The fastest that passed."""
        passed = [one for one in self.measured if one.verification.passed]
        return min(passed, key=lambda one: one.row.step_time_s, default=None)

    def _found(self, problem: Problem, progress: Progress) -> Found:
        request = self.request
        # Schedulers know peaks, not bounds: leave as much room as bounds stand above peaks.
        keep_all = self.model.estimate(self.problem, keep_all_schedule(self.problem.graph))
        room = keep_all.peak_memory_bytes / keep_all.peak_bound_bytes
        lowered = replace(problem, budget_bytes=math.floor(problem.budget_bytes * room))
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

    def _examples(self) -> list[StepExample]:
        return [
            example_of(self.problem, one.schedule, one.row)
            for one in self.measured
            if one.row.status == OK
        ]

    def _ran(self) -> set[Schedule]:
        return {one.schedule for one in self.measured}


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan
