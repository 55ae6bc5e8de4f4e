"""Judging policies on given problems, and keeping the best one of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from remora.agents.learned.network import PlanNetwork
from remora.agents.learned.playing import Player, exact_size
from remora.agents.learned.policy_files import Policy, load_policy, save_policy
from remora.envs.batch import EpisodeBatch
from remora.envs.plan_tables import PlanTables
from remora.envs.sampler import JointSampler
from remora.errors import InvalidInputError
from remora.schedule.inference import Mode

__all__ = ["BestPolicy", "Validation", "ValidationProblem"]


@dataclass(frozen=True)
class ValidationProblem:
    """A problem by which policies are judged.

    Attributes:
        tables: of the problem.
        budget_bytes: memory of the device.
        best_known_s: step time of the best plan that anything has found.
    """

    tables: PlanTables
    budget_bytes: int
    best_known_s: float


class Validation:
    """Judges networks by the fastest of their greedy plan and a few drawn ones, on given problems.

    One wrong action late in a greedy plan can make it twice as slow, so that plans drawn beside it
    say much more about a policy than it does alone.

    Args:
        problems: what they plan; a policy must not have been trained on them.
        samples: plans that are drawn beside the greedy one, always by the same random numbers.

    Raises:
        InvalidInputError: there is no problem, or a step time is not positive.
    """

    def __init__(self, problems: Sequence[ValidationProblem], samples: int = 0) -> None:
        if not problems:
            raise InvalidInputError("validation is empty; allowed: at least one problem")
        for problem in problems:
            if not problem.best_known_s > 0:
                raise InvalidInputError(
                    f"best_known_s of {problem.tables.name!r} is {problem.best_known_s}; "
                    "allowed: more than 0"
                )
        self.problems = tuple(problems)
        tables = list(dict.fromkeys(problem.tables for problem in problems))
        self._index = [tables.index(problem.tables) for problem in problems]
        self._each = 1 + samples
        count = len(problems) * self._each
        self._batch = EpisodeBatch(JointSampler(tables), count, exact_size(tables))

    @property
    def mode(self) -> Mode:
        """What the problems plan."""
        return self.problems[0].tables.problem.mode

    def regrets(self, network: PlanNetwork) -> list[float]:
        """Log of the step time over the best known one, for every problem."""
        greedy = np.zeros(len(self.problems) * self._each, dtype=np.bool_)
        greedy[:: self._each] = True
        for place in range(len(greedy)):
            number = place // self._each
            self._batch.begin(place, self._index[number], self.problems[number].budget_bytes)
        player, generator = Player(network, self._batch), np.random.default_rng(0)
        while player.running.any():
            told = player.log_probabilities().numpy()
            drawn = (told + generator.gumbel(size=told.shape)).argmax(axis=1)
            player.act(np.where(greedy, told.argmax(axis=1), drawn))
        seconds = np.array([self._batch.step_time_s(place) for place in range(len(greedy))])
        fastest = seconds.reshape(-1, self._each).min(axis=1)
        return [
            math.log(found / problem.best_known_s)
            for found, problem in zip(fastest.tolist(), self.problems, strict=True)
        ]

    def regret(self, network: PlanNetwork) -> float:
        """Mean of :meth:`regrets`."""
        return float(np.mean(self.regrets(network)))


class BestPolicy:
    """The network of least regret so far, kept in a folder.

    Args:
        folder: where the policy is written.
        validation: what networks are judged by.
        max_units: most units of a model that the policy is meant for.
        resume: the policy in the folder, if any, is the best so far.
    """

    def __init__(
        self, folder: Path, validation: Validation, max_units: int, resume: bool = False
    ) -> None:
        self._folder = folder
        self._validation = validation
        self._max_units = max_units
        self._least = math.inf
        if resume and folder.is_dir():
            self._least = float(load_policy(folder).card["validation_regret"])

    def consider(self, network: PlanNetwork, step: int) -> float:
        """Judge a network and keep it if it is better than all before.

        Args:
            network: the network now.
            step: decisions it has learned from.

        Returns:
            Its regret.
        """
        regret = self._validation.regret(network)
        if regret < self._least:
            self._least = regret
            card = {"validation_regret": regret, "step": step}
            mode = self._validation.mode
            save_policy(self._folder, Policy(network, self._max_units, card, mode))
        return regret

    def best(self) -> Policy:
        """Return the best policy so far."""
        return load_policy(self._folder)
