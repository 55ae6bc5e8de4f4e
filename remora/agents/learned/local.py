"""Plans of a policy, or random ones, as starts of local search within a limit of time.

The only difference between the two is where the search begins: both take their starts from the same
environment and spend the time that is left in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.programmed import programmed
from remora.agents.heuristics.race import race
from remora.agents.heuristics.shapes import Shape, shape_of
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.agents.learned.decoding import Decoder
from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.playing import exact_size
from remora.envs.batch import EpisodeBatch
from remora.envs.plan_tables import PlanTables
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["LocalConfig", "Starts", "climb", "local_plan", "policy_starts", "random_starts"]

Starts = Callable[[PlanTables, int, Callable[[], bool], np.random.Generator], list[Schedule]]
"""From tables, budget, whether to stop, and a generator to schedules that fit, one at least."""


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """Values of a search.

    Attributes:
        starts: the fastest plans, the search begins from so many; each shape of a pipeline
            counts with its best one first.
        plan_share: of the time, after which no more plans are drawn.
        program_share: of the time that is left then, for the partition program.
        race_share: of the time that is left then, in which the starts race for the rest.
        evaluations: schedules to simulate after the plans; None to use all the time.
        seed: of everything that is drawn.
    """

    starts: int = 4
    plan_share: float = 0.3
    program_share: float = 0.3
    race_share: float = 0.6
    evaluations: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.starts < 1:
            raise InvalidInputError(f"local.starts is {self.starts}; allowed: 1 or more")
        for name in ("plan_share", "program_share", "race_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InvalidInputError(
                    f"local.{name} is {getattr(self, name)}; allowed: more than 0, up to 1"
                )


def local_plan(
    problem: Problem, starts: Starts, time_limit_s: float, config: LocalConfig | None = None
) -> Schedule:
    """Search from plans that fit; see :class:`LocalConfig`.

    Args:
        problem: what is planned, with its budget.
        starts: where plans come from.
        time_limit_s: seconds for everything, tables of the problem included.
        config: values of the search.

    Raises:
        InvalidInputError: the environment cannot plan the problem, no episode is sure to fit its
            budget, or the limit is not above 0.
    """
    config = config or LocalConfig()
    evaluator = Evaluator(problem, time_limit_s)
    tables = ProblemTables("local", problem, focus_bytes=problem.budget_bytes)
    enough_s = (1 - config.plan_share) * time_limit_s
    plans = starts(
        tables,
        problem.budget_bytes,
        lambda: evaluator.remaining_s <= enough_s,
        np.random.default_rng(config.seed),
    )
    with suppress(SearchEnded):
        evaluator.score_all(plans)
        climb(Space(problem), evaluator, plans, config)
    return evaluator.answer("local")


def policy_starts(network: PlanNetwork, samples: int = 64, temperature: float = 1.0) -> Starts:
    """Plans of a policy: the greedy one, and as many drawn ones as there is time for.

    Args:
        network: the policy.
        samples: most plans to draw.
        temperature: of the draws.
    """

    def starts(
        tables: PlanTables,
        budget_bytes: int,
        stop: Callable[[], bool],
        generator: np.random.Generator,
    ) -> list[Schedule]:
        decoder = Decoder(network, tables, budget_bytes, stop)
        drawn = [decoder.greedy(), *decoder.samples(samples, generator, temperature)]
        return [plan.schedule for plan in drawn]

    return starts


def random_starts(samples: int = 64) -> Starts:
    """Plans of allowed actions drawn evenly, which is all that a policy does not know.

    Args:
        samples: how many plans.
    """

    def starts(
        tables: PlanTables,
        budget_bytes: int,
        stop: Callable[[], bool],
        generator: np.random.Generator,
    ) -> list[Schedule]:
        batch = EpisodeBatch(JointSampler([tables]), samples, exact_size([tables]))
        for place in range(samples):
            batch.begin(place, 0, budget_bytes)
        while batch.masks.any():
            batch.step(_fallbacks(batch) if stop() else _evenly(batch, generator))
        return [batch.schedule(place) for place in range(samples)]

    return starts


def climb(
    space: Space,
    evaluator: Evaluator,
    plans: Sequence[Schedule],
    config: LocalConfig,
    likely: Sequence[Shape] = (),
) -> None:
    """Let the best plans race, and climb from the winner.

    In pipelines, what the partition program makes of the shapes of these plans takes part, too.

    Args:
        space: of the problem.
        evaluator: simulates.
        plans: to begin with.
        config: values of the search.
        likely: other shapes that the partition program is asked about.

    Raises:
        SearchEnded: the time is over.
    """
    rng = Random(config.seed)
    whole = Stretch(evaluator, config.evaluations)
    leaders = _leaders(evaluator, plans, config.starts)
    if space.problem.world_size > 1:
        leaders = _with_programs(space, evaluator, leaders, config, likely)
    race(space, evaluator, leaders, whole.part(config.race_share), rng)
    while evaluator.best is not None and whole.progress < 1:
        before = evaluator.evaluations
        improve(space, evaluator, evaluator.best, whole, rng)
        if evaluator.evaluations == before:
            return


def _with_programs(
    space: Space,
    evaluator: Evaluator,
    leaders: Sequence[Schedule],
    config: LocalConfig,
    likely: Sequence[Shape],
) -> list[Schedule]:
    """The fastest of some plans and of those of the partition program for their and other shapes.

    Raises:
        SearchEnded: the time is over.
    """
    end_s = (1 - config.program_share) * evaluator.remaining_s
    found = list(leaders)
    own = [shape_of(plan.pipeline) for plan in leaders]
    for shape in dict.fromkeys([*own[:1], *likely, *own]):
        found += programmed(space, evaluator, [shape], evaluator.remaining_s - end_s)
    return _leaders(evaluator, found, config.starts)


def _leaders(evaluator: Evaluator, plans: Sequence[Schedule], count: int) -> list[Schedule]:
    """The best plan of every shape, then the other ones, the fastest first.

    Raises:
        SearchEnded: the time is over.
    """
    ranked = sorted(dict.fromkeys(plans), key=lambda plan: evaluator.score(plan).step_time_s)
    firsts = {shape_of(plan.pipeline): plan for plan in reversed(ranked)}
    leading = set(firsts.values())
    return [*(p for p in ranked if p in leading), *(p for p in ranked if p not in leading)][:count]


def _evenly(batch: EpisodeBatch, generator: np.random.Generator) -> NDArray[np.int64]:
    """An allowed action of every episode.  # [e]."""
    drawn = generator.random(batch.masks.shape) * batch.masks
    actions: NDArray[np.int64] = drawn.argmax(axis=1)
    return actions


def _fallbacks(batch: EpisodeBatch) -> NDArray[np.int64]:
    """What leaves most memory, in every episode.  # [e]."""
    places = range(len(batch.masks))
    return np.array([batch.fallback(place) for place in places], dtype=np.int64)
