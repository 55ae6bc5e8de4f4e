"""Judging policies on given problems, and keeping the best one of a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from remora.agents.joint.network import PlanNetwork
from remora.agents.joint.playing import Player, exact_size
from remora.agents.joint.policy_files import Policy, load_policy, save_policy
from remora.envs.joint.batch import EpisodeBatch
from remora.envs.joint.problem_tables import ProblemTables
from remora.envs.joint.sampler import JointSampler
from remora.errors import InvalidInputError

__all__ = ["BestPolicy", "Validation", "ValidationProblem"]


@dataclass(frozen=True)
class ValidationProblem:
    """A problem by which policies are judged.

    Attributes:
        tables: of the problem.
        budget_bytes: memory of the device.
        best_known_s: step time of the best plan that anything has found.
    """

    tables: ProblemTables
    budget_bytes: int
    best_known_s: float


class Validation:
    """Judges networks by their greedy plans on given problems.

    Args:
        problems: what they plan; a policy must not have been trained on them.

    Raises:
        InvalidInputError: there is no problem, or a step time is not positive.
    """

    def __init__(self, problems: Sequence[ValidationProblem]) -> None:
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
        self._batch = EpisodeBatch(JointSampler(tables), len(problems), exact_size(tables))

    def regrets(self, network: PlanNetwork) -> list[float]:
        """Log of the step time over the best known one, for every problem."""
        for place, problem in enumerate(self.problems):
            self._batch.begin(place, self._index[place], problem.budget_bytes)
        player = Player(network, self._batch)
        while player.running.any():
            player.act(player.log_probabilities().argmax(dim=1).numpy())
        return [
            math.log(self._batch.step_time_s(place) / problem.best_known_s)
            for place, problem in enumerate(self.problems)
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
            save_policy(self._folder, Policy(network, self._max_units, card))
        return regret

    def best(self) -> Policy:
        """Return the best policy so far."""
        return load_policy(self._folder)
