"""Rounds of self-imitation: what the policy plans is polished, and the better plans are learned.

The plans begin where the policy itself goes, so that it sees what should have been done there
(Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to no-regret
online learning", AISTATS 2011), and only what is better than everything known is imitated (Oh et
al., "Self-imitation learning", ICML 2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random

import numpy as np

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.passes.search import climb
from remora.agents.heuristics.shapes import shape_of
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.agents.learned.decoding import Decoded, Decoder
from remora.agents.learned.imitation.lesson import Demonstration, Lesson, Teaching
from remora.agents.learned.imitation.teachers import Translation, problem_of, translated
from remora.agents.learned.network import PlanNetwork
from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.pass_space import PassSpace
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["RoundConfig", "improve_demonstrations"]

_LIMIT_S = 60.0
"""No lesson takes longer; evaluations end the search long before, so that it is reproducible."""


@dataclass(frozen=True, slots=True)
class RoundConfig:
    """Values of one round.

    Attributes:
        samples: plans that the policy draws for every lesson, besides the greedy one.
        temperature: of the draws.
        polished: how many of them, the fastest first, are polished.
        evaluations: schedules simulated to polish one plan.
        least_gain: log of the step time by which a plan must beat the best one known of its
            shape; below 0 for plans that come close to it on the policy's own ways.
        most_regret: log of the step time over the best known one from which on a plan is not
            worth an episode.
        translation: how polished schedules become episodes.
    """

    samples: int = 16
    temperature: float = 1.0
    polished: int = 2
    evaluations: int = 400
    least_gain: float = 1e-4
    most_regret: float = 0.1
    translation: Translation = field(default_factory=Translation)

    def __post_init__(self) -> None:
        for name in ("samples", "polished", "evaluations"):
            value = getattr(self, name)
            if value < 1:
                raise InvalidInputError(f"round.{name} is {value}; allowed: 1 or more")
        for name in ("temperature", "most_regret"):
            value = getattr(self, name)
            if not value > 0:
                raise InvalidInputError(f"round.{name} is {value}; allowed: more than 0")
        if not math.isfinite(self.least_gain):
            raise InvalidInputError(f"round.least_gain is {self.least_gain}; allowed: a number")


def improve_demonstrations(
    network: PlanNetwork,
    teaching: Teaching,
    config: RoundConfig,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Teaching:
    """Let the policy plan all lessons, polish its best plans and keep those that beat the known.

    Args:
        network: the policy.
        teaching: what is known.
        config: values of the round.
        seed: of the policy's draws and of the polishing; the same one finds the same plans.
        stop: asked again and again, for example whether a time is over. What was found until then
            is kept.

    Returns:
        What is known now; without what is better nothing changes.
    """
    found: list[Demonstration] = []
    for number, lesson in enumerate(teaching.lessons):
        found += _better(network, lesson, config, [seed, number], stop)
        if stop():
            break
    return teaching.with_more(found)


def _better(
    network: PlanNetwork,
    lesson: Lesson,
    config: RoundConfig,
    seed: Sequence[int],
    stop: Callable[[], bool],
) -> list[Demonstration]:
    """Plans of one lesson that beat the best known one of their shape."""
    if lesson.budget_bytes < lesson.tables.least_bytes:
        return []
    generator = np.random.default_rng(seed)
    decoder = Decoder(network, lesson.tables, lesson.budget_bytes, stop)
    plans = [decoder.greedy(), *decoder.samples(config.samples, generator, config.temperature)]
    plans.sort(key=lambda plan: plan.step_time_s)
    drawn = [_as_it_is(lesson, plan) for plan in plans[:1]]
    starts = list(dict.fromkeys(plan.schedule for plan in plans))[: config.polished]
    rng = Random(int(generator.integers(2**31)))
    polished = [] if stop() else list(_polished(lesson, starts, config.evaluations, rng))
    drawn += translated(lesson, polished, "polished", config.translation, stop)
    return _kept(lesson, drawn, config)


def _as_it_is(lesson: Lesson, plan: Decoded) -> Demonstration:
    shape = shape_of(plan.schedule.pipeline)
    return Demonstration(lesson.name, shape, plan.actions, plan.step_time_s, "policy")


def _polished(
    lesson: Lesson, starts: Sequence[Schedule], evaluations: int, rng: Random
) -> Iterator[Schedule]:
    """Climb from every start; in training without leaving the shape of its pipeline."""
    problem = problem_of(lesson)
    if problem.mode is Mode.INFERENCE:
        yield from _polished_passes(problem, starts, evaluations, rng)
        return
    space, evaluator = Space(problem), Evaluator(problem, _LIMIT_S)
    for start in starts:
        own = space.within(shape_of(start.pipeline))
        with suppress(SearchEnded):
            yield improve(own, evaluator, start, Stretch(evaluator, evaluations), rng)


def _polished_passes(
    problem: Problem, starts: Sequence[Schedule], evaluations: int, rng: Random
) -> Iterator[Schedule]:
    for start in starts:
        evaluator = Evaluator(problem, _LIMIT_S, modes=(Mode.INFERENCE,))
        with suppress(SearchEnded):
            evaluator.score(start)
            climb(PassSpace(problem), evaluator, [start], Stretch(evaluator, evaluations), rng)
        yield evaluator.best or start


def _kept(
    lesson: Lesson, drawn: Sequence[Demonstration], config: RoundConfig
) -> list[Demonstration]:
    """Those that beat the best known one of their shape, and come close to the best of all."""
    known = dict(lesson.shape_times)
    kept: list[Demonstration] = []
    best_s = min(lesson.best_s, *(one.step_time_s for one in drawn))
    for one in drawn:
        gain = math.log(known.get(one.shape, math.inf) / one.step_time_s)
        if gain >= config.least_gain and math.log(one.step_time_s / best_s) <= config.most_regret:
            known[one.shape] = min(known.get(one.shape, math.inf), one.step_time_s)
            kept.append(one)
    return kept
