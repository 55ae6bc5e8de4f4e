"""Which problems are worth an episode: those on which greedy leaves something to be found."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.rank_greedy import rank_greedy_search
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.envs.problem_tables import ProblemTables
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem

__all__ = ["GreedyGapTest", "greedy_gap"]

_BINS = 20


@dataclass
class GreedyGapTest:
    """Keeps a problem if a local search makes greedy's plan faster by more than a share.

    The answer is remembered for all budgets of a twentieth of the range, so that a sampler that
    asks again and again soon searches no more.

    Attributes:
        least_gap: share of greedy's step time; problems with a smaller gain are left out.
        evaluations: of the local search.
        time_limit_s: of greedy and local search together; what was found by then counts.
    """

    least_gap: float = 0.01
    evaluations: int = 10_000
    time_limit_s: float = 20.0
    _known: dict[tuple[str, int], bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0.0 <= self.least_gap < 1.0:
            raise InvalidInputError(f"least_gap is {self.least_gap}; allowed: 0 to below 1")
        if self.evaluations < 1:
            raise InvalidInputError(f"evaluations is {self.evaluations}; allowed: 1 or more")

    def __call__(self, tables: ProblemTables, budget_bytes: int) -> bool:
        """Whether the problem is worth an episode under a budget."""
        span = max(tables.keep_all_bytes - tables.least_bytes, 1)
        place = int(_BINS * (budget_bytes - tables.least_bytes) / span)
        key = (tables.name, place)
        if key not in self._known:
            problem = replace(tables.problem, budget_bytes=budget_bytes)
            gap = greedy_gap(problem, self.evaluations, self.time_limit_s)
            self._known[key] = gap > self.least_gap
        return self._known[key]


def greedy_gap(problem: Problem, evaluations: int, time_limit_s: float, seed: int = 0) -> float:
    """Share by which a local search makes greedy's plan faster.

    Args:
        problem: what is planned, of one or several ranks.
        evaluations: of the local search.
        time_limit_s: of greedy and local search together.
        seed: of the random changes.

    Returns:
        0 where greedy finds nothing that fits.
    """
    evaluator = Evaluator(problem, time_limit_s)
    space = Space(problem)
    greedy_s = best_s = 0.0
    with suppress(SearchEnded):
        start = rank_greedy_search(space, evaluator)
        if start is not None:
            greedy_s = best_s = evaluator.score(start).step_time_s
            improve(space, evaluator, start, Stretch(evaluator, evaluations), Random(seed))
    if greedy_s > 0.0 and evaluator.best is not None:
        best_s = evaluator.score(evaluator.best).step_time_s
    return 1.0 - best_s / greedy_s if greedy_s > 0.0 else 0.0
