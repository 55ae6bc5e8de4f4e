"""Scheduler ``best``: every cheap scheduler in one pool, then local search from the winner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from remora.agents.candidates import Candidate, candidate_of, run_member
from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.local_search import check_evaluations, improve
from remora.agents.heuristics.space import Space
from remora.agents.registry import SCHEDULERS, create
from remora.errors import Interrupted, InvalidInputError, UnknownNameError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["DEFAULT_MEMBERS", "POLISHED", "Best"]

DEFAULT_MEMBERS = (
    "keep_all",
    "recompute_all",
    "offload_all",
    "chen_sqrt",
    "floor",
    "rotor",
    "greedy",
    "random",
    "local_search",
)
"""Cheap ones first, so that a short time limit still has answers."""

POLISHED = "polished"
"""Name of the last row: local search from the best of the pool."""

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
            The best schedule, and one candidate per member that ran, then the polished one.

        Raises:
            InfeasibleError, TimeLimitError, InvalidInputError: as every scheduler.
            Interrupted: interrupted before anything that fits was found.
        """
        evaluator = Evaluator(problem, time_limit_s)
        found: list[Candidate] = []
        try:
            for candidate in self._candidates(problem, evaluator):
                found.append(candidate)
                if listener is not None:
                    listener(candidate)
        except KeyboardInterrupt:
            if winner(found) is None:
                raise Interrupted("interrupted before a schedule that fits was found") from None
        best = winner(found)
        if best is None or best.schedule is None:
            return self._last_resort(problem, evaluator, found), tuple(found)
        return best.schedule, tuple(found)

    def _candidates(self, problem: Problem, evaluator: Evaluator) -> Iterator[Candidate]:
        best: Candidate | None = None
        for member in self.members:
            if evaluator.remaining_s <= 0:
                return
            candidate = self._run(member, problem, evaluator.remaining_s * _SHARE_OF_TIME)
            if best is None or candidate.better_than(best):
                best = candidate
            yield candidate
        if best is not None and best.feasible and evaluator.remaining_s > 0:
            yield self._polish(problem, best, evaluator.remaining_s)

    def _run(self, member: str, problem: Problem, time_limit_s: float) -> Candidate:
        seeded = {"seed": self.seed} if member in ("random", "local_search") else {}
        return run_member(create(member, **seeded), problem, time_limit_s)

    def _polish(self, problem: Problem, start: Candidate, time_limit_s: float) -> Candidate:
        evaluator = Evaluator(problem, time_limit_s)
        assert start.schedule is not None
        # An interrupt here only ends the polishing: what it found so far still counts.
        with suppress(SearchEnded, KeyboardInterrupt):
            rng = Random(self.seed + 1)
            improve(Space(problem), evaluator, start.schedule, self.evaluations, rng)
        schedule = evaluator.best or start.schedule
        return candidate_of(POLISHED, problem, schedule, time_limit_s - evaluator.remaining_s)

    def _last_resort(
        self, problem: Problem, evaluator: Evaluator, found: list[Candidate]
    ) -> Schedule:
        """Go down to the least memory known; it fits, or the error names it."""
        with suppress(SearchEnded):
            for candidate in found:
                if candidate.schedule is not None:
                    evaluator.score(candidate.schedule)
            find_fitting(Space(problem), evaluator)
        return evaluator.answer(self.name)


def winner(candidates: list[Candidate]) -> Candidate | None:
    """The best candidate that fits; the earlier one of equals; None if none fits."""
    best: Candidate | None = None
    for candidate in candidates:
        if candidate.feasible and (best is None or candidate.better_than(best)):
            best = candidate
    return best
