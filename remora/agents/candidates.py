"""What each scheduler of a pool came up with, as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from remora.agents.evaluation import Score, check_mode, score_of
from remora.agents.fixed_plan import FixedPlan
from remora.agents.scheduler import Scheduler, proposed
from remora.errors import InfeasibleError, MissingExtraError, TimeLimitError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Candidate", "candidate_of", "run_member"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One scheduler's answer to one problem.

    Attributes:
        name: the scheduler.
        schedule: its schedule; None where it has none to show.
        step_time_s: simulated seconds of one step; None without a schedule.
        peak_memory_bytes: simulated peak of the fullest rank; None without a schedule.
        feasible: whether the schedule fits the budget.
        search_s: seconds it took; left out of comparisons, since it differs from run to run.
        note: why there is no schedule that fits; empty if there is.
        origin: whose schedule it began from where not from its own; empty for others.
    """

    name: str
    schedule: Schedule | None
    step_time_s: float | None
    peak_memory_bytes: int | None
    feasible: bool
    search_s: float = field(compare=False)
    note: str = ""
    origin: str = ""

    def better_than(self, other: Candidate) -> bool:
        """Whether this one fits and is faster, or as fast with less memory, or ``other`` is not."""
        if not self.feasible or not other.feasible:
            return self.feasible and not other.feasible
        mine, theirs = self.score, other.score
        return mine is not None and theirs is not None and mine.faster_than(theirs)

    def quicker_than(self, other: Candidate) -> bool:
        """Whether its step takes less time, by more than rounding."""
        mine, theirs = self.score, other.score
        return mine is not None and theirs is not None and mine.quicker_than(theirs)

    @property
    def score(self) -> Score | None:
        """The figures as a score; None without a schedule."""
        if self.step_time_s is None or self.peak_memory_bytes is None:
            return None
        peak = self.peak_memory_bytes
        return Score(self.step_time_s, (peak,), peak, 0, self.feasible)


def candidate_of(
    name: str, problem: Problem, schedule: Schedule, search_s: float, origin: str = ""
) -> Candidate:
    """Simulate ``schedule`` and say how it does."""
    score = score_of(problem, schedule)
    return Candidate(
        name=name,
        schedule=schedule,
        step_time_s=score.step_time_s,
        peak_memory_bytes=score.peak_bytes,
        feasible=score.feasible,
        search_s=search_s,
        note="" if score.feasible else "does not fit",
        origin=origin,
    )


def run_member(
    scheduler: Scheduler,
    problem: Problem,
    time_limit_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Candidate:
    """Let one scheduler propose; its failure to find a plan is a row, not an error.

    A fixed plan is shown with its figures even if it does not fit.
    """
    start = clock()
    if isinstance(scheduler, FixedPlan):
        check_mode(problem, scheduler.modes, scheduler.name)
        schedule = scheduler.plan(problem)
        return candidate_of(scheduler.name, problem, schedule, clock() - start)
    try:
        schedule, origin = proposed(scheduler, problem, time_limit_s)
    except (InfeasibleError, MissingExtraError, TimeLimitError) as error:
        return Candidate(
            scheduler.name, None, None, None, False, search_s=clock() - start, note=str(error)
        )
    return candidate_of(scheduler.name, problem, schedule, clock() - start, origin)
