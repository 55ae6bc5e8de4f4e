"""Scheduler ``best``: every cheap scheduler in one pool, then local search from the winners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from remora.agents.candidates import Candidate, candidate_of, run_member
from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.local_search import check_evaluations, improve
from remora.agents.heuristics.space import Space
from remora.agents.registry import SCHEDULERS, create, settings_of
from remora.errors import Interrupted, InvalidInputError, UnknownNameError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["DEFAULT_MEMBERS", "LEAST_MEMORY", "POLISHED", "Best"]

DEFAULT_MEMBERS = (
    "keep_all",
    "recompute_all",
    "offload_all",
    "chen_sqrt",
    "greedy",
    "rotor",
    "floor",
    "random",
)
"""Cheap ones first, so that a short time limit still has answers."""

POLISHED = "polished"
"""Name of the last row: local search from the best of the pool."""

LEAST_MEMORY = "least_memory"
"""Name of the last row where no member finds anything that fits."""

# Schedules that the final local search starts from.
_NUM_STARTS = 3

# A member may use this part of the time left, so that the ones after it get their turn.
_SHARE_OF_TIME = 0.5

Listener = Callable[[Candidate], None]


@dataclass(frozen=True)
class Best:
    """The cheapest schedule that fits out of a pool: never worse than any member.

    Attributes:
        members: schedulers of the pool, in the order in which they run.
        evaluations: schedules that the final local search simulates.
        seed: of every member that draws random numbers, and of the final local search.
    """

    members: tuple[str, ...] = DEFAULT_MEMBERS
    evaluations: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        """Check members and number of evaluations."""
        object.__setattr__(self, "members", tuple(self.members))
        check_evaluations(self.evaluations)
        allowed = [name for name in SCHEDULERS if name != self.name]
        for member in self.members:
            if member not in allowed:
                raise UnknownNameError("member of agent 'best'", member, allowed)
        if not self.members:
            raise InvalidInputError(f"members is empty; allowed: some of {', '.join(allowed)}")

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "best"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        return self.propose_with_candidates(problem, time_limit_s)[0]

    def propose_with_candidates(
        self, problem: Problem, time_limit_s: float, listener: Listener | None = None
    ) -> tuple[Schedule, tuple[Candidate, ...]]:
        """Search and also return what every member found.

        An interrupt (Ctrl-C) ends the search with the best schedule so far.

        Args:
            problem: what to plan.
            time_limit_s: seconds after which the search ends.
            listener: called with every candidate as soon as it is there.

        Returns:
            The best schedule, and one candidate per member that ran, then one named
            ``polished`` (or ``least_memory``).

        Raises:
            InfeasibleError, TimeLimitError, InvalidInputError: as every scheduler.
            Interrupted: interrupted before anything that fits was found.
        """
        evaluator = Evaluator(problem, time_limit_s)
        found: list[Candidate] = []
        with suppress(KeyboardInterrupt):
            for candidate in self._candidates(problem, evaluator):
                found.append(candidate)
                if listener is not None:
                    listener(candidate)
        best = winner(found)
        if best is None or best.schedule is None:
            raise Interrupted("interrupted before a schedule that fits was found")
        return best.schedule, tuple(found)

    def _candidates(self, problem: Problem, evaluator: Evaluator) -> Iterator[Candidate]:
        pool: list[Candidate] = []
        for member in self.members:
            if evaluator.remaining_s <= 0:
                break
            pool.append(self._run(member, problem, evaluator.remaining_s * _SHARE_OF_TIME))
            yield pool[-1]
        starts = best_schedules(pool, _NUM_STARTS)
        if not starts:
            yield self._last_resort(problem, evaluator, pool)
        elif evaluator.remaining_s > 0:
            yield self._polish(problem, starts, evaluator.remaining_s)

    def _run(self, member: str, problem: Problem, time_limit_s: float) -> Candidate:
        seeded = "seed" in settings_of(member)
        scheduler = create(member, seed=self.seed) if seeded else create(member)
        return run_member(scheduler, problem, time_limit_s)

    def _polish(
        self, problem: Problem, starts: tuple[Schedule, ...], time_limit_s: float
    ) -> Candidate:
        """Half of the evaluations on all starts, the other half on what came out best."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem)
        rng = Random(self.seed)
        share = self.evaluations // (2 * len(starts))
        # An interrupt here only ends the polishing: what it found so far still counts.
        with suppress(SearchEnded, KeyboardInterrupt):
            for start in starts:
                evaluator.score(start)
            for start in starts:
                improve(space, evaluator, start, share, rng)
            rest = self.evaluations - share * len(starts)
            improve(space, evaluator, evaluator.best or starts[0], rest, rng)
        schedule = evaluator.best or starts[0]
        return candidate_of(POLISHED, problem, schedule, time_limit_s - evaluator.remaining_s)

    def _last_resort(
        self, problem: Problem, evaluator: Evaluator, pool: Sequence[Candidate]
    ) -> Candidate:
        """Go down to the least memory known; it fits, or the error names it."""
        before_s = evaluator.remaining_s
        with suppress(SearchEnded):
            for candidate in pool:
                if candidate.schedule is not None:
                    evaluator.score(candidate.schedule)
            find_fitting(Space(problem), evaluator)
        schedule = evaluator.answer(self.name)
        return candidate_of(LEAST_MEMORY, problem, schedule, before_s - evaluator.remaining_s)


def best_schedules(candidates: Sequence[Candidate], count: int) -> tuple[Schedule, ...]:
    """The best ``count`` different schedules that fit, best first, the earlier one of equals."""
    rest = list(candidates)
    chosen: list[Schedule] = []
    while len(chosen) < count and (best := winner(rest)) is not None:
        rest.remove(best)
        if best.schedule is not None and best.schedule not in chosen:
            chosen.append(best.schedule)
    return tuple(chosen)


def winner(candidates: Sequence[Candidate]) -> Candidate | None:
    """The best candidate that fits; the earlier one of equals; None if none fits."""
    best: Candidate | None = None
    for candidate in candidates:
        if candidate.feasible and (best is None or candidate.better_than(best)):
            best = candidate
    return best
