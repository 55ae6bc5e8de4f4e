"""Scores of schedules for one search: cached, limited, and remembering the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from remora.errors import InfeasibleError, InvalidInputError, TimeLimitError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, MemoryPlan, Schedule
from remora.simulator.simulate import simulate

__all__ = [
    "Evaluator",
    "Score",
    "SearchEnded",
    "check_time_limit",
    "infeasible",
    "score_of",
    "uses_host",
]

# Sums of the same durations in another order differ in the last digits.
_SAME_TIME = 1e-9


@dataclass(frozen=True, slots=True)
class Score:
    """Simulated figures of one schedule.

    Attributes:
        step_time_s: seconds of one step.
        peak_bytes: peak of the fullest rank.
        feasible: whether device and host memory suffice.
        breakdown: bytes by kind of memory at that peak.
    """

    step_time_s: float
    peak_bytes: int
    feasible: bool
    breakdown: Mapping[str, int]

    def faster_than(self, other: Score) -> bool:
        """Whether this one takes less time, or the same time and less memory."""
        margin = _SAME_TIME * max(self.step_time_s, other.step_time_s)
        if abs(self.step_time_s - other.step_time_s) > margin:
            return self.step_time_s < other.step_time_s
        return self.peak_bytes < other.peak_bytes


class SearchEnded(Exception):  # noqa: N818 - the normal end of an anytime search, not an error
    """The time or the number of evaluations of a search is used up."""


class Evaluator:
    """Simulates schedules of one problem within limits and remembers the best one.

    Args:
        problem: the problem.
        time_limit_s: seconds from now; scoring a new schedule later ends the search.
        max_evaluations: most schedules to simulate, None for no limit.
        clock: seconds from any start, growing.

    Attributes:
        best: fastest feasible schedule scored so far.
        leanest: the schedule of least peak scored so far.
        evaluations: schedules simulated so far.

    Raises:
        InvalidInputError: the time limit is not a positive number.
    """

    def __init__(
        self,
        problem: Problem,
        time_limit_s: float,
        max_evaluations: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        check_time_limit(time_limit_s)
        self.problem = problem
        self.best: Schedule | None = None
        self.leanest: Schedule | None = None
        self.evaluations = 0
        self.max_evaluations = max_evaluations
        self._time_limit_s = time_limit_s
        self._clock = clock
        self._deadline = clock() + time_limit_s
        self._scores: dict[Schedule, Score] = {}

    @property
    def remaining_s(self) -> float:
        """Seconds until the time limit; negative after it."""
        return self._deadline - self._clock()

    def score(self, schedule: Schedule) -> Score:
        """Figures of a valid schedule; simulated once, then remembered.

        Raises:
            SearchEnded: a limit is reached; the first schedule is scored in any case.
        """
        key = _same_run(schedule)
        known = self._scores.get(key)
        if known is not None:
            return known
        if self.evaluations and (self._used_up() or self.remaining_s <= 0):
            raise SearchEnded
        self.evaluations += 1
        score = score_of(self.problem, schedule)
        self._scores[key] = score
        if score.feasible and (self.best is None or score.faster_than(self._known(self.best))):
            self.best = schedule
        if self.leanest is None or score.peak_bytes < self._known(self.leanest).peak_bytes:
            self.leanest = schedule
        return score

    def answer(self, name: str) -> Schedule:
        """Return the best schedule found.

        Args:
            name: the scheduler that searched, for the message.

        Raises:
            TimeLimitError: nothing fits so far and the time is over.
            InfeasibleError: the search came to its end and nothing fits.
        """
        if self.best is not None:
            return self.best
        if self.remaining_s <= 0:
            raise TimeLimitError(
                f"scheduler {name!r} found no schedule that fits "
                f"{self.problem.budget_bytes} bytes within {self._time_limit_s:g} s"
            )
        if self.leanest is None:
            raise InfeasibleError(f"scheduler {name!r} has no schedule for this problem")
        raise infeasible(name, self.problem, self._known(self.leanest))

    def _known(self, schedule: Schedule) -> Score:
        return self._scores[_same_run(schedule)]

    def _used_up(self) -> bool:
        return self.max_evaluations is not None and self.evaluations >= self.max_evaluations


def check_time_limit(time_limit_s: float) -> None:
    """Refuse a time limit that is no positive number of seconds.

    Raises:
        InvalidInputError: it is zero, negative or not a number.
    """
    if not time_limit_s > 0:
        raise InvalidInputError(
            f"time_limit_s is {time_limit_s!r}; allowed: a number of seconds above 0"
        )


def score_of(problem: Problem, schedule: Schedule) -> Score:
    """Simulate one schedule.

    Raises:
        InvalidInputError: the schedule breaks a rule.
    """
    timeline = simulate(problem, schedule)
    peak = timeline.max_peak_bytes
    host = max(timeline.host_peak_bytes, default=0)
    return Score(
        step_time_s=timeline.step_time_s,
        peak_bytes=peak,
        feasible=peak <= problem.budget_bytes and host <= problem.hardware.host.memory_bytes,
        breakdown={kind.value: size for kind, size in timeline.peak_breakdown.items()},
    )


def uses_host(schedule: Schedule) -> bool:
    """Whether anything is copied to the host."""
    memory = schedule.memory
    return any(Action.OFFLOAD in option.distinct for option in memory.options) or any(
        group.checkpoint is Action.OFFLOAD for group in memory.groups
    )


def _same_run(schedule: Schedule) -> Schedule:
    """A schedule that runs the same: without copies their pace says nothing."""
    if uses_host(schedule):
        return schedule
    memory = MemoryPlan(schedule.memory.options, schedule.memory.groups)
    return replace(schedule, memory=memory)


def infeasible(name: str, problem: Problem, least: Score) -> InfeasibleError:
    """The error of a scheduler whose plan of least memory scores ``least``."""
    if least.peak_bytes <= problem.budget_bytes:
        return InfeasibleError(
            f"scheduler {name!r} found no schedule that fits {_mib(problem.budget_bytes)} on the "
            f"device and {_mib(problem.hardware.host.memory_bytes)} on the host"
        )
    return InfeasibleError(
        f"scheduler {name!r} found no schedule that fits {_mib(problem.budget_bytes)}; "
        f"it needs at least {_mib(least.peak_bytes)} ({least.peak_bytes} bytes)",
        least.peak_bytes,
        least.breakdown,
    )


def _mib(num_bytes: int) -> str:
    # Rounded up, so that the figure, typed in as a budget, is never too small.
    return f"{math.ceil(num_bytes / 2**20 * 10) / 10:.1f} MiB"
