"""Scheduler ``learned``: a trained policy decides unit by unit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_one_device
from remora.errors import InvalidInputError
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["Learned"]


@dataclass(frozen=True)
class Learned:
    """Plays the environment's episode with a policy: its greedy plan and some drawn ones.

    The plan that the episode starts from, its completion of no decisions, counts too. Every
    decision is masked, so that each plan fits. Below what the episode's ladder reaches, the
    cheapest memory of recomputation alone is tried. The first plan is there before the policy
    is asked, and a decode that the time limit cuts short still ends in a plan.

    Attributes:
        policy: a policy that ships with the package, or the folder of one.
        samples: plans drawn besides the greedy one.
        seed: of those draws.
    """

    policy: str = "default"
    samples: int = 8
    seed: int = 0
    one_device: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the number of samples."""
        if self.samples < 0:
            raise InvalidInputError(f"samples is {self.samples}; allowed: 0 or more")

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "learned"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Decode; see :class:`remora.agents.scheduler.Scheduler`.

        Raises:
            InfeasibleError, TimeLimitError, InvalidInputError: as every scheduler.
            UnknownNameError: no policy of that name ships with the package.
            FileFormatError: the policy cannot be read.
        """
        check_one_device(self.name, problem.world_size)
        evaluator = Evaluator(problem, time_limit_s)
        with suppress(SearchEnded):
            for schedule in self._plans(problem, evaluator):
                evaluator.score(schedule)
        return evaluator.answer(self.name)

    def _plans(self, problem: Problem, evaluator: Evaluator) -> Iterator[Schedule]:
        import numpy as np

        from remora.agents.learned.decoding import Decoder
        from remora.agents.learned.policy_files import load_policy, pretrained_path
        from remora.cost_models.simulated import SimulatedCostModel
        from remora.envs.actions import nest_every_unit
        from remora.envs.episode import Episode
        from remora.envs.tables import Case, CaseTables
        from remora.simulator.floor import floor_schedule

        folder = Path(self.policy)
        path = folder if folder.is_dir() else pretrained_path(self.policy)
        network, _ = load_policy(path)
        cost_model = SimulatedCostModel(problem.cost.source)
        tables = CaseTables(Case(self.name, problem), cost_model, nest_every_unit)
        if problem.budget_bytes < tables.least_peak_bytes:
            yield floor_schedule(problem)
            yield tables.evaluator.schedule(tables.least_memory)
            return
        start = Episode(tables, problem.budget_bytes)
        yield start.schedule()
        decoder = Decoder(network, start, stop=lambda: evaluator.remaining_s <= 0)
        yield decoder.greedy().schedule()
        for finished in decoder.samples(self.samples, np.random.default_rng(self.seed)):
            yield finished.schedule()
