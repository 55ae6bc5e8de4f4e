"""Scheduler ``best``: every cheap scheduler in one pool, then local search from the winners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from remora.agents.candidates import Candidate, candidate_of, run_member
from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.annealing import RACE_SHARE, anneal, first_plans
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.passes.search import climb
from remora.agents.heuristics.passes.stream_fewest import least_plans
from remora.agents.heuristics.race import race
from remora.agents.heuristics.seeded_search import check_evaluations
from remora.agents.heuristics.shapes import Shape, shape_of
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.agents.registry import (
    SCHEDULERS,
    create,
    not_ready,
    plans_mode,
    plans_one_device,
    settings_of,
)
from remora.errors import Interrupted, InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode
from remora.schedule.pass_space import PassSpace
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["DEFAULT_MEMBERS", "LEAST_MEMORY", "POLISHED", "Best"]

DEFAULT_MEMBERS = (
    "keep_all",
    "recompute_all",
    "offload_all",
    "chen_sqrt",
    "floor",
    "greedy",
    "partition",
    "learned",
    "selective",
    "greedy_variants",
    "milp",
    "recompute_offload",
    "weight_streaming",
    "balanced",
    "megatron",
    "random",
    "dtr",
    "rotor",
    "stream_all",
    "stream_fewest",
    "pass_milp",
    "pass_search",
)
"""Cheap ones first, so that a short time limit still has answers."""

_FOR_PIPELINES = frozenset({"learned"})
"""Of the default members, these are worth their time on several ranks only."""

PLAIN = "keep_all"
"""Name of the member that changes nothing."""

POLISHED = "polished"
"""Name of the last row: local search from the best of the pool."""

FIRST_PLANS = "rank_greedy"
"""Whose schedules join the final race on several ranks."""

LEAST_MEMORY = "least_memory"
"""Name of the last row where no member finds anything that fits."""

# Schedules that the final local search starts from, besides the best of every pipeline.
_NUM_STARTS = 3

# A member may use this part of the time left, so that the ones after it get their turn.
_SHARE_OF_TIME = 0.25

# The pool ends where this part of the time is left, if it has found anything by then.
_LEFT_TO_POLISH = 0.6

# Of polishing: a race of all starts, then annealing from the winner, then climbing.
_ANNEAL = 0.9

# Of problems with variants: these choose one, one after the other, then all members plan that.
_PLAN_VARIANTS = ("megatron", "rank_greedy")
_SHARE_OF_VARIANTS = 0.3
_LEAST_S = 1.0

Listener = Callable[[Candidate], None]


@dataclass(frozen=True)
class Best:
    """The cheapest schedule that fits out of a pool: never worse than any member.

    Attributes:
        members: schedulers of the pool, in the order in which they run; those that plan one
            device are left out where there are more, and those of another mode always. The default
            pool asks the policy for pipelines only.
        evaluations: schedules that the final local search simulates, and that of a member that
            has one, None to use all the time there is.
        seed: of every member that draws random numbers, and of the final local search.
    """

    members: tuple[str, ...] = DEFAULT_MEMBERS
    evaluations: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check members and number of evaluations."""
        object.__setattr__(self, "members", _names(self.members))
        check_evaluations(self.evaluations)
        allowed = [name for name in SCHEDULERS if name != self.name]
        for member in self.members:
            if member not in allowed:
                raise UnknownNameError("member of agent 'best'", member, allowed)
        if not self.members:
            raise InvalidInputError(f"members is empty; allowed: some of {', '.join(allowed)}")

    modes: ClassVar = tuple(Mode)
    plans_variants: ClassVar = True

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "best"

    def members_for(self, problem: Problem) -> tuple[str, ...]:
        """Members that can plan for the mode and the ranks of a problem."""
        single = problem.world_size == 1
        left_out = _FOR_PIPELINES if single and self.members == DEFAULT_MEMBERS else frozenset()
        return tuple(
            name
            for name in self.members
            if name not in left_out
            and plans_mode(name, problem.mode)
            and (single or not plans_one_device(name))
        )

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
        evaluator = Evaluator(problem, time_limit_s, modes=self.modes)
        found: list[Candidate] = []
        with suppress(KeyboardInterrupt):
            for candidate in self._candidates(problem, evaluator, time_limit_s):
                found.append(candidate)
                if listener is not None:
                    listener(candidate)
        best = winner(found)
        if best is None or best.schedule is None:
            raise Interrupted("interrupted before a schedule that fits was found")
        return best.schedule, tuple(found)

    def _candidates(
        self, problem: Problem, evaluator: Evaluator, time_limit_s: float
    ) -> Iterator[Candidate]:
        if problem.variants:
            yield from self._of_variants(problem, evaluator, time_limit_s)
            return
        pool: list[Candidate] = []
        for member in self.members_for(problem):
            enough = _LEFT_TO_POLISH * time_limit_s if winner(pool) is not None else 0.0
            if evaluator.remaining_s <= enough:
                break
            pool.append(self._run(member, problem, evaluator.remaining_s * _SHARE_OF_TIME))
            yield pool[-1]
        starts = best_schedules(pool)
        if not starts:
            yield self._last_resort(problem, evaluator, pool)
        elif evaluator.remaining_s > 0:
            yield self._polish(problem, starts, evaluator.remaining_s)

    def _of_variants(
        self, problem: Problem, evaluator: Evaluator, time_limit_s: float
    ) -> Iterator[Candidate]:
        """Find the best variant, then let the whole pool plan it."""
        pool = []
        for member in _PLAN_VARIANTS:
            if evaluator.remaining_s <= 0:
                break
            share_s = _SHARE_OF_VARIANTS * time_limit_s
            pool.append(self._run(member, problem, min(share_s, evaluator.remaining_s)))
            yield pool[-1]
        best = winner(pool)
        if best is None or best.schedule is None:
            # Nothing fits, or too little time: what the one says that looks at all of them.
            last, before_s = _PLAN_VARIANTS[-1], evaluator.remaining_s
            schedule = create(last).propose(problem, max(before_s, _LEAST_S))
            yield candidate_of(last, problem, schedule, before_s - evaluator.remaining_s)
            return
        variant = problem.variant_of(best.schedule)
        alone = replace(variant, variants=()) if variant.variants else variant
        if evaluator.remaining_s > 0:
            rest = Evaluator(alone, evaluator.remaining_s)
            yield from self._candidates(alone, rest, evaluator.remaining_s)

    def _run(self, member: str, problem: Problem, time_limit_s: float) -> Candidate:
        if reason := not_ready(member):
            return Candidate(member, None, None, None, False, search_s=0.0, note=reason)
        own = {"seed": self.seed, "evaluations": self.evaluations}
        settings = {key: own[key] for key in own.keys() & set(settings_of(member))}
        return run_member(create(member, **settings), problem, time_limit_s)

    def _polish(
        self, problem: Problem, starts: Mapping[Schedule, str], time_limit_s: float
    ) -> Candidate:
        """Race from all starts, anneal from what came out best, and climb; a pass only climbs."""
        evaluator = Evaluator(problem, time_limit_s, modes=self.modes)
        rng = Random(self.seed)
        fastest = next(iter(starts))
        winning: Schedule | None = fastest
        # An interrupt here only ends the polishing: what it found so far still counts.
        with suppress(SearchEnded, KeyboardInterrupt):
            evaluator.score_all(list(starts))
            if problem.mode is Mode.INFERENCE:
                whole = Stretch(evaluator, self.evaluations)
                climb(PassSpace(problem), evaluator, list(starts), whole, rng)
            else:
                winning = self._polish_step(problem, evaluator, list(starts), rng)
        schedule = evaluator.best or fastest
        origin = starts.get(winning or fastest, FIRST_PLANS)
        search_s = time_limit_s - evaluator.remaining_s
        return candidate_of(POLISHED, problem, schedule, search_s, origin)

    def _polish_step(
        self, problem: Problem, evaluator: Evaluator, starts: Sequence[Schedule], rng: Random
    ) -> Schedule | None:
        """Search from the starts; returns the one that won the race.

        Raises:
            SearchEnded: the time is over.
        """
        space = Space(problem)
        # On one device these are the greedy plan, which the pool has.
        more = first_plans(space, evaluator) if problem.world_size > 1 else []
        whole = Stretch(evaluator, self.evaluations)
        racing = leaders(evaluator, [*starts, *more])
        winning = race(space, evaluator, racing, whole.part(RACE_SHARE), rng)
        best = evaluator.best or starts[0]
        with suppress(SearchEnded, KeyboardInterrupt):
            anneal(space, evaluator, best, whole.part(_ANNEAL), rng)
            improve(space, evaluator, evaluator.best or best, whole, rng)
        return winning

    def _last_resort(
        self, problem: Problem, evaluator: Evaluator, pool: Sequence[Candidate]
    ) -> Candidate:
        """Go down to the least memory known; it fits, or the error names it."""
        before_s = evaluator.remaining_s
        with suppress(SearchEnded):
            for candidate in pool:
                if candidate.schedule is not None:
                    evaluator.score(candidate.schedule)
            if problem.mode is Mode.INFERENCE:
                evaluator.score_all(list(least_plans(PassSpace(problem))))
            else:
                find_fitting(Space(problem), evaluator)
        schedule = evaluator.answer(self.name)
        return candidate_of(LEAST_MEMORY, problem, schedule, before_s - evaluator.remaining_s)


def _names(members: object) -> tuple[str, ...]:
    """The members as they came, from a file or a command line, say.

    Raises:
        InvalidInputError: no list of texts.
    """
    listed = members if isinstance(members, Sequence) and not isinstance(members, str) else None
    if listed is None or not all(isinstance(member, str) for member in listed):
        raise InvalidInputError(
            f"agent.members is {members!r}; allowed: a list of schedulers such as [greedy,rotor]"
        )
    return tuple(listed)


def best_schedules(candidates: Sequence[Candidate]) -> dict[Schedule, str]:
    """The different schedules that fit, best first, with who found each first."""
    ordered: dict[Schedule, str] = {}
    rest = list(candidates)
    while (best := winner(rest)) is not None:
        rest.remove(best)
        if best.schedule is not None:
            ordered.setdefault(best.schedule, best.name)
    return ordered


def leaders(evaluator: Evaluator, schedules: Sequence[Schedule]) -> list[Schedule]:
    """The best schedules of every pipeline, and a few others, best first.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    ordered = sorted(set(schedules), key=lambda s: evaluator.score(s).step_time_s)
    firsts: dict[Shape, Schedule] = {}
    for schedule in ordered:
        firsts.setdefault(shape_of(schedule.pipeline), schedule)
    chosen = {*firsts.values(), *ordered[:_NUM_STARTS]}
    return [schedule for schedule in ordered if schedule in chosen]


def winner(candidates: Sequence[Candidate]) -> Candidate | None:
    """The best candidate that fits; the earlier one of equals; None if none fits.

    What changes nothing wins over whatever is no faster, even if that takes less memory.
    """
    best: Candidate | None = None
    for candidate in candidates:
        if candidate.feasible and (best is None or candidate.better_than(best)):
            best = candidate
    plain = next((c for c in candidates if c.name == PLAIN and c.feasible), None)
    if best is None or plain is None or best.quicker_than(plain):
        return best
    return plain
