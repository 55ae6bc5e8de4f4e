"""Scheduler ``learned``: a trained policy plans pipeline, recomputation, offload and state."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.programmed import programmed
from remora.agents.heuristics.rank_greedy import contestants
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.agents.learned.pretrained_policies import pretrained_names, pretrained_path
from remora.errors import InvalidInputError, UnknownNameError
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.tracking.artifacts import CARD_NAME

if TYPE_CHECKING:
    from remora.agents.learned.policy_files import Policy
    from remora.envs.plan_tables import PlanTables

__all__ = ["DECODES", "Learned"]

DECODES = ("greedy", "samples", "beam", "random")
"""Where plans come from; ``random`` draws allowed actions evenly and asks no policy."""

_TOGETHER, _TOGETHER_IN_PIPELINES = 64, 16
"""Plans that are decoded side by side. Those that the time cuts short are lost, and pipelines take
longer."""

_LEAST_LEFT = 0.5
"""Of the time, once the likely pipelines are known: with less there is none left to decode in."""

_LIKELY = 1
"""Pipelines that the partition program is asked about, too: the likeliest by two simulations."""


@dataclass(frozen=True)
class Learned:
    """Plays the joint environment's episode, and climbs from the plans if there is time.

    Every action is masked, so that each plan fits the budget that masks judge by; plans made for a
    little more are kept where they fit, too, see :mod:`.slack`. In pipelines the search also asks
    the partition program, about the policy's pipelines and the likeliest one. Where nothing fits,
    or the time limit leaves none to decode, it begins with what the heuristics know: in pipelines
    with the rank-aware greedy's plans, else with least memory.

    Attributes:
        policy: a policy that ships with the package, or the folder of one; plans steps.
        pass_policy: the same for passes of inference.
        decode: one of ``DECODES``.
        samples: plans that are drawn, besides the greedy one.
        temperature: of the draws.
        beam: width of the beam.
        search: whether local search goes on from the best plans until the time is over.
        evaluations: schedules that it simulates, None to use all the time.
        seed: of all draws.
    """

    modes: ClassVar = (Mode.TRAIN, Mode.INFERENCE)

    policy: str = "default"
    pass_policy: str = "passes"
    decode: str = "samples"
    samples: int = 64
    temperature: float = 1.0
    beam: int = 16
    search: bool = True
    evaluations: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.decode not in DECODES:
            raise UnknownNameError("decode of agent 'learned'", self.decode, DECODES)
        for name, least in (("samples", 0), ("beam", 1)):
            if getattr(self, name) < least:
                raise InvalidInputError(
                    f"{name} is {getattr(self, name)}; allowed: {least} or more"
                )
        if not self.temperature > 0:
            raise InvalidInputError(f"temperature is {self.temperature}; allowed: more than 0")
        _folder("policy", self.policy)
        _folder("pass_policy", self.pass_policy)

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "learned"

    @staticmethod
    def not_ready() -> str:
        """Why a pool should do without it for now; empty if it need not."""
        from remora.envs.jit import is_compiled

        if is_compiled():
            return ""
        return "left out until its kernels are compiled: python -m remora.envs, once"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Decode and climb; see :class:`remora.agents.scheduler.Scheduler`.

        Raises:
            InfeasibleError, TimeLimitError, InvalidInputError: as every scheduler.
            FileFormatError: the policy cannot be read.
        """
        return self.propose_with_origin(problem, time_limit_s)[0]

    def propose_with_origin(self, problem: Problem, time_limit_s: float) -> tuple[Schedule, str]:
        """Decode and climb; see :class:`remora.agents.scheduler.TellsOrigin`.

        Raises:
            InfeasibleError, TimeLimitError, InvalidInputError: as every scheduler.
            FileFormatError: the policy cannot be read.
        """
        if problem.mode is Mode.INFERENCE:
            return self._propose_pass(problem, time_limit_s)
        from remora.agents.learned.likely_shapes import likely_shapes
        from remora.agents.learned.local import LocalConfig, climb
        from remora.envs.problem_tables import ProblemTables

        evaluator = Evaluator(problem, time_limit_s)
        tables = ProblemTables(self.name, problem, focus_bytes=problem.budget_bytes)
        space, origin = Space(problem), ""
        with suppress(SearchEnded):
            likely = likely_shapes(tables, _LIKELY)
            config = LocalConfig(evaluations=self.evaluations, seed=self.seed)
            little = evaluator.remaining_s < _LEAST_LEFT * time_limit_s
            late = self.search and bool(likely) and little
            share = config.plan_share if self.search else 1.0
            plans = [] if late else self._plans(tables, evaluator, share)
            if plans:
                evaluator.score_all(plans)
            else:
                origin = "rank_greedy" if problem.world_size > 1 else "least_memory"
                plans = _without_policy(space, evaluator, likely)
            if self.search and plans:
                climb(space, evaluator, plans, config, likely)
        return evaluator.answer(self.name), origin

    def _propose_pass(self, problem: Problem, time_limit_s: float) -> tuple[Schedule, str]:
        """The same for a pass, whose masks are exact, and whose tables take hardly any time."""
        from remora.agents.heuristics.passes.search import climb
        from remora.agents.heuristics.passes.stream_fewest import fewest_plans
        from remora.agents.learned.local import LocalConfig
        from remora.envs.passes.tables import PassTables

        evaluator = Evaluator(problem, time_limit_s, modes=self.modes)
        tables, origin = PassTables(self.name, problem), ""
        with suppress(SearchEnded):
            share = LocalConfig().plan_share if self.search else 1.0
            plans = self._plans(tables, evaluator, share)
            evaluator.score_all(plans)
            if not plans:
                origin, plans = "stream_fewest", fewest_plans(tables.space, evaluator)
            if self.search:
                stretch = Stretch(evaluator, self.evaluations)
                climb(tables.space, evaluator, plans, stretch, Random(self.seed))
        return evaluator.answer(self.name), origin

    def _plans(self, tables: PlanTables, evaluator: Evaluator, share: float) -> Sequence[Schedule]:
        """Plans that fit, if there are any, in a share of the time that the tables leave."""
        import numpy as np

        from remora.agents.learned.decoding import Decoder
        from remora.agents.learned.local import random_starts
        from remora.agents.learned.slack import fitting_plans

        generator = np.random.default_rng(self.seed)
        budget, least = tables.problem.budget_bytes, tables.least_bytes
        enough_s = (1 - share) * evaluator.remaining_s

        def stop() -> bool:
            return evaluator.remaining_s <= enough_s

        if self.decode == "random":
            if budget < least:
                return []
            return random_starts(max(self.samples, 1))(tables, budget, stop, generator)
        mode = tables.problem.mode
        field = "policy" if mode is Mode.TRAIN else "pass_policy"
        name = str(getattr(self, field))
        policy = _policy(name)
        policy.check_mode(mode, f"agent.{field} is {name!r}")
        policy.check_units(tables.num_units)
        in_steps = mode is Mode.TRAIN and tables.problem.world_size == 1
        together = _TOGETHER if in_steps else _TOGETHER_IN_PIPELINES
        decoder = Decoder(policy.network, tables, max(budget, least), stop, together)
        samples = self.samples if self.decode == "samples" else 0
        found = fitting_plans(decoder, tables, budget, samples, generator, self.temperature)
        if budget >= least and self.decode == "beam":
            found += decoder.beam(self.beam)
        if budget >= least and not found and tables.problem.world_size == 1:
            found = [decoder.greedy()]
        return [decoded.schedule for decoded in found]


def _without_policy(
    space: Space, evaluator: Evaluator, likely: Sequence[Shape]
) -> Sequence[Schedule]:
    """What the heuristics begin with, where no episode fits or the time was over before.

    Raises:
        SearchEnded: the time is over.
    """
    if space.problem.world_size == 1:
        find_fitting(space, evaluator)
        return [] if evaluator.best is None else [evaluator.best]
    # The program alone is the part of the rank-aware greedy that is quickest to be good.
    found = programmed(space, evaluator, likely, evaluator.remaining_s)
    return found or contestants(space, evaluator)


@lru_cache(maxsize=4)
def _policy(name: str) -> Policy:
    from remora.agents.learned.policy_files import load_policy

    return load_policy(_folder("policy", name))


def _folder(field: str, policy: str) -> Path:
    """Where a policy lies, found without reading it."""
    folder = Path(policy)
    if (folder / CARD_NAME).is_file():
        return folder
    if policy not in pretrained_names():
        raise InvalidInputError(
            f"agent.{field} is {policy!r}; allowed: a folder with {CARD_NAME}, or a policy that "
            f"ships with the package: {', '.join(pretrained_names())}"
        )
    return pretrained_path(policy)
