"""Scores of schedules for one search: cached, limited, and remembering the best."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass

from remora.errors import InfeasibleError, InvalidInputError, TimeLimitError
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule
from remora.schedule.validate import validate
from remora.simulator.compiled import Figures, simulator_of
from remora.simulator.simulate import simulate

__all__ = [
    "TRAINING",
    "Evaluator",
    "Score",
    "SearchEnded",
    "check_mode",
    "check_one_device",
    "check_time_limit",
    "infeasible",
    "score_of",
    "uses_host",
]

TRAINING = (Mode.TRAIN,)
"""Modes of most schedulers."""

# Sums of the same durations in another order differ in the last digits.
_SAME_TIME = 1e-9


@dataclass(frozen=True, slots=True)
class Score:
    """Simulated figures of one schedule.

    Attributes:
        step_time_s: seconds of one step.
        peaks_bytes: peak of every rank.  # [num_ranks]
        peak_bytes: peak of the fullest rank.
        excess_bytes: by how much all ranks together are over the budget.
        feasible: whether device and host memory suffice.
    """

    step_time_s: float
    peaks_bytes: tuple[int, ...]
    peak_bytes: int
    excess_bytes: int
    feasible: bool

    def faster_than(self, other: Score) -> bool:
        """Whether this one takes less time, or the same time and less memory."""
        if self.quicker_than(other) or other.quicker_than(self):
            return self.step_time_s < other.step_time_s
        return self.peak_bytes < other.peak_bytes

    def quicker_than(self, other: Score) -> bool:
        """Whether this one takes less time, by more than rounding."""
        margin = _SAME_TIME * max(self.step_time_s, other.step_time_s)
        return other.step_time_s - self.step_time_s > margin


class SearchEnded(Exception):  # noqa: N818 - the normal end of an anytime search, not an error
    """The time or the number of evaluations of a search is used up."""


class Evaluator:
    """Simulates schedules of one problem within limits and remembers the best one.

    The compiled engine runs them. What becomes the best one is checked against all rules.

    Args:
        problem: the problem.
        time_limit_s: seconds from now; scoring a new schedule later ends the search.
        max_evaluations: most schedules to simulate, None for no limit.
        clock: seconds from any start, growing.
        modes: what the search can plan.

    Attributes:
        best: fastest feasible schedule scored so far.
        leanest: the schedule of least peak scored so far.
        evaluations: schedules simulated so far.

    Raises:
        InvalidInputError: the time limit is not a positive number, or the problem is of another
            mode.
    """

    def __init__(
        self,
        problem: Problem,
        time_limit_s: float,
        max_evaluations: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
        modes: Collection[Mode] = TRAINING,
    ) -> None:
        check_time_limit(time_limit_s)
        check_mode(problem, modes)
        self.problem = problem
        self.best: Schedule | None = None
        self.leanest: Schedule | None = None
        self.evaluations = 0
        self.max_evaluations = max_evaluations
        self._time_limit_s = time_limit_s
        self._clock = clock
        self._deadline = clock() + time_limit_s
        self._simulator = simulator_of(problem)
        # The schedule is kept beside its score, so that no other one takes over its identity.
        self._scores: dict[Hashable, tuple[Score, Schedule]] = {}

    @property
    def remaining_s(self) -> float:
        """Seconds until the time limit; negative after it."""
        return self._deadline - self._clock()

    @property
    def best_s(self) -> float:
        """Seconds of the best schedule so far; infinite before there is one."""
        return math.inf if self.best is None else self._known(self.best).step_time_s

    def score(self, schedule: Schedule) -> Score:
        """Figures of a valid schedule; simulated once, then remembered.

        Raises:
            SearchEnded: a limit is reached; the first schedule is scored in any case.
            InvalidInputError: it would be the best one, and breaks a rule.
        """
        key = _identity(schedule)
        known = self._scores.get(key)
        if known is not None:
            return known[0]
        if self.evaluations and (self._used_up() or self.remaining_s <= 0):
            raise SearchEnded
        self.evaluations += 1
        return self._remember(key, schedule, self._simulator.figures(schedule))

    def score_all(self, schedules: Sequence[Schedule]) -> list[Score]:
        """Figures of many valid schedules, which is faster than one by one.

        Raises:
            SearchEnded: a limit is reached.
            InvalidInputError: one would be the best, and breaks a rule.
        """
        keys = [_identity(schedule) for schedule in schedules]
        new = {k: s for k, s in zip(keys, schedules, strict=True) if k not in self._scores}
        if new and self.evaluations and (self._used_up() or self.remaining_s <= 0):
            raise SearchEnded
        self.evaluations += len(new)
        figures = self._simulator.batch(list(new.values()))
        for (key, schedule), found in zip(new.items(), figures, strict=True):
            self._remember(key, schedule, found)
        return [self._scores[key][0] for key in keys]

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
        raise infeasible(name, self.problem, self.leanest)

    def _remember(self, key: Hashable, schedule: Schedule, figures: Figures) -> Score:
        score = _score(self.problem, figures)
        if score.feasible and (self.best is None or score.faster_than(self._known(self.best))):
            validate(self.problem, schedule)
            self.best = schedule
        if self.leanest is None or score.peak_bytes < self._known(self.leanest).peak_bytes:
            self.leanest = schedule
        self._scores[key] = (score, schedule)
        return score

    def _known(self, schedule: Schedule) -> Score:
        return self._scores[_identity(schedule)][0]

    def _used_up(self) -> bool:
        return self.max_evaluations is not None and self.evaluations >= self.max_evaluations


def check_time_limit(time_limit_s: float) -> None:
    """Refuse a time limit that is no positive number of seconds.

    Raises:
        InvalidInputError: it is zero, negative or not a number.
    """
    if not isinstance(time_limit_s, int | float) or not time_limit_s > 0:
        raise InvalidInputError(
            f"time_limit_s is {time_limit_s!r}; allowed: a number of seconds above 0"
        )


def check_mode(problem: Problem, modes: Collection[Mode], name: str = "") -> None:
    """Refuse a problem of a mode that a scheduler does not plan.

    Args:
        problem: what it was given.
        modes: what it plans.
        name: of the scheduler, where it is at hand.

    Raises:
        InvalidInputError: the problem is of another mode.
    """
    if problem.mode not in modes:
        who = f"scheduler {name!r}" if name else "this scheduler"
        raise InvalidInputError(
            f"mode is {problem.mode.value!r} and {who} does not plan it; allowed: "
            f"{' or '.join(repr(mode.value) for mode in sorted(modes))}"
        )


def check_one_device(name: str, world_size: int) -> None:
    """Refuse several ranks.

    Args:
        name: the scheduler that plans one device.
        world_size: of the problem that it was given.

    Raises:
        InvalidInputError: there is more than one rank.
    """
    if world_size != 1:
        raise InvalidInputError(
            f"world_size is {world_size} and scheduler {name!r} plans one device; allowed: 1"
        )


def score_of(problem: Problem, schedule: Schedule) -> Score:
    """Simulate one schedule of a problem or of its variant.

    Raises:
        InvalidInputError: the schedule breaks a rule.
    """
    validate(problem, schedule)
    variant = problem.variant_of(schedule)
    return _score(variant, simulator_of(variant).figures(schedule))


def uses_host(schedule: Schedule) -> bool:
    """Whether any saved tensor or checkpoint is copied to the host."""
    memory = schedule.memory
    return any(Action.OFFLOAD in option.distinct for option in memory.options) or any(
        group.checkpoint is Action.OFFLOAD for group in memory.groups
    )


def infeasible(name: str, problem: Problem, leanest: Schedule) -> InfeasibleError:
    """The error of a scheduler whose plan of least memory is ``leanest``.

    Raises:
        InvalidInputError: that schedule breaks a rule.
    """
    timeline = simulate(problem, leanest)
    peak = timeline.max_peak_bytes
    if peak <= problem.budget_bytes:
        return InfeasibleError(
            f"scheduler {name!r} found no schedule that fits {_mib(problem.budget_bytes)} on the "
            f"device and {_mib(problem.hardware.host.memory_bytes)} on the host"
        )
    return InfeasibleError(
        f"scheduler {name!r} found no schedule that fits {_mib(problem.budget_bytes)}; "
        f"it needs at least {_mib(peak)} ({peak} bytes)",
        peak,
        {kind.value: size for kind, size in timeline.peak_breakdown.items()},
    )


def _score(problem: Problem, figures: Figures) -> Score:
    budget = problem.budget_bytes
    excess = sum(max(0, peak - budget) for peak in figures.peak_bytes)
    host_fits = max(figures.host_peak_bytes, default=0) <= problem.hardware.host.memory_bytes
    return Score(
        step_time_s=figures.step_time_s,
        peaks_bytes=figures.peak_bytes,
        peak_bytes=figures.max_peak_bytes,
        excess_bytes=excess,
        feasible=excess == 0 and host_fits,
    )


def _identity(schedule: Schedule) -> Hashable:
    """A key that is quick to make: options are compared as objects, and most are a menu's own."""
    memory = schedule.memory
    return (
        tuple(map(id, memory.options)),
        memory.groups,
        memory.offload_window,
        memory.prefetch_distance,
        memory.paces,
        schedule.pipeline,
        schedule.state,
    )


def _mib(num_bytes: int) -> str:
    # Rounded up, so that the figure, typed in as a budget, is never too small.
    return f"{math.ceil(num_bytes / 2**20 * 10) / 10:.1f} MiB"
