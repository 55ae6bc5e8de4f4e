"""Many episodes at once: what both environments are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import Phase, Setting
from remora.envs.arrays import (
    BOUND,
    BUDGET,
    CURSOR,
    FALLBACK,
    PHASE,
    SHAPE,
    STAGE_START,
    new_episodes,
)
from remora.envs.graphs import UnitGraph
from remora.envs.observation import JointSize, Observation, static_arrays
from remora.envs.plan_tables import PlanTables
from remora.envs.sampler import JointSampler
from remora.envs.segments import NEAR_UNITS
from remora.errors import InvalidInputError
from remora.schedule.schedule import Schedule

__all__ = ["EpisodeBatch", "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What one step of every episode brought.

    Attributes:
        rewards: see the environment.  # [e]
        ended: whether the plan is finished.  # [e]
        replaced: whether the action was not allowed.  # [e]
    """

    rewards: NDArray[np.float64]
    ended: NDArray[np.bool_]
    replaced: NDArray[np.bool_]


class EpisodeBatch:
    """Episodes that are stepped together; each plans a problem of its own.

    Args:
        sampler: whose problems are planned.
        count: number of episodes.
        size: how far observations are padded.

    Raises:
        InvalidInputError: a problem has more units or edges than ``size`` allows.
    """

    def __init__(self, sampler: JointSampler, count: int, size: JointSize) -> None:
        self._problems = sampler.problems
        self._engine = sampler.engine
        graphs = [problem.unit_graph for problem in sampler.problems]
        for problem, graph in zip(sampler.problems, graphs, strict=True):
            _check_size(problem, graph, size)
        self._static = [static_arrays(graph, size) for graph in graphs]
        storages, stages = self._engine.num_storages, self._engine.num_stages
        self._episodes = new_episodes(count, size.max_units, storages, 2 * NEAR_UNITS, stages)
        self._episodes.ints[:, PHASE] = Phase.DONE
        self._index = np.zeros(count, dtype=np.int64)
        self._potential = np.zeros(count)
        self._step_time_s = np.zeros(count)
        self._replaced = np.zeros(count, dtype=np.int64)
        self._shown = {
            name: np.zeros((count, len(values)), dtype=np.float32)
            for name, values in self._static[0].items()
        }

    def begin(self, place: int, index: int, budget_bytes: int) -> None:
        """Start an episode.

        Args:
            place: of the episode.
            index: of the problem.
            budget_bytes: memory of the device.

        Raises:
            InvalidInputError: no episode is sure to fit that budget.
        """
        problem = self._problems[index]
        if budget_bytes < problem.least_bytes:
            raise InvalidInputError(
                f"budget_bytes is {budget_bytes}; allowed for {problem.name!r}: at least "
                f"{problem.least_bytes}"
            )
        self._index[place] = index
        self._potential[place] = math.log(problem.keep_all_s)
        for name, values in self._static[index].items():
            self._shown[name][place] = values
        self._engine.begin(self._episodes, place, index, budget_bytes)

    def step(self, actions: NDArray[np.int64]) -> Outcome:
        """Act once in every episode; one that is over stays as it is.

        Args:
            actions: what is not allowed becomes the fallback.  # [e]
        """
        running = self._episodes.ints[:, PHASE] != Phase.DONE
        self._engine.step(self._episodes, actions, self._replaced)
        ended = running & (self._episodes.ints[:, PHASE] == Phase.DONE)
        potential = np.where(running, np.log(self._episodes.reals[:, BOUND]), self._potential)
        for place in np.flatnonzero(ended).tolist():
            self._step_time_s[place] = self.problem(place).step_time_s(self.schedule(place))
            potential[place] = math.log(self._step_time_s[place])
        rewards = self._potential - potential
        self._potential = potential
        return Outcome(rewards, ended, self._replaced.astype(np.bool_))

    def observations(self) -> Observation:
        """What all episodes show; the arrays change with the next step.  # [e][...]."""
        episodes = self._episodes
        count = len(episodes.ints)
        return {
            **self._shown,
            "decisions": episodes.chosen.reshape(count, -1),
            "cursor": episodes.ints[:, [CURSOR, STAGE_START]].astype(np.float32),
            "state": episodes.state,
            "choices": episodes.choices.reshape(count, -1),
            "action_mask": episodes.mask.astype(np.float32),
        }

    def copy(self, place_from: int, place_to: int) -> None:
        """Let one episode stand where another one does; both go on by themselves."""
        for values in self._by_place():
            values[place_to] = values[place_from]

    def snapshot(self) -> list[NDArray[Any]]:
        """Where all episodes stand, as arrays of one's own for :meth:`restore`.  # [e][...]."""
        return [values.copy() for values in self._by_place()]

    def restore(self, snapshot: Sequence[NDArray[Any]]) -> None:
        """Go back to where all episodes stood; of the same problems, count and size."""
        for values, earlier in zip(self._by_place(), snapshot, strict=True):
            values[:] = earlier

    def adopt(self, place: int, snapshot: Sequence[NDArray[Any]]) -> None:
        """Let an episode stand where the only one of another batch stood.

        Args:
            place: of the episode.
            snapshot: of a batch of one episode, of the same problems and size.
        """
        for values, alone in zip(self._by_place(), snapshot, strict=True):
            values[place] = alone[0]

    def _by_place(self) -> list[NDArray[Any]]:
        """All arrays with a row per episode."""
        shared = {"touched", "spare", "ends", "taken", "promised", "uses", "trial"}
        episodes = self._episodes._asdict()
        return [
            *(values for name, values in episodes.items() if name not in shared),
            *(self._index, self._potential, self._step_time_s, self._replaced),
            *self._shown.values(),
        ]

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Actions that are allowed; it changes with the next step.  # [e][actions]."""
        return self._episodes.mask

    @property
    def bounds_s(self) -> NDArray[np.float64]:
        """Step times that no completion goes below.  # [e]."""
        return self._episodes.reals[:, BOUND].copy()

    def problem(self, place: int) -> PlanTables:
        """The problem of an episode."""
        return self._problems[int(self._index[place])]

    def budget_bytes(self, place: int) -> int:
        """The budget of an episode."""
        return int(self._episodes.ints[place, BUDGET])

    def phase(self, place: int) -> Phase:
        """What the next action of an episode decides about."""
        return Phase(int(self._episodes.ints[place, PHASE]))

    def fallback(self, place: int) -> int:
        """The action that leaves most memory."""
        return int(self._episodes.ints[place, FALLBACK])

    def decisions(self, place: int) -> tuple[int, ...]:
        """Decisions about units so far."""
        return tuple(self._episodes.decisions[place, : self._episodes.ints[place, CURSOR]].tolist())

    def pipeline(self, place: int) -> int:
        """Which of all shapes of pipelines was chosen; negative on one device and before that."""
        return int(self._episodes.ints[place, SHAPE])

    def setting(self, place: int) -> Setting:
        """What was decided before the first unit; defaults before that."""
        return self._engine.setting(self._episodes, place)

    def schedule(self, place: int) -> Schedule:
        """The plan of an episode that is over."""
        return self.problem(place).schedule(self.setting(place), self.decisions(place))

    def step_time_s(self, place: int) -> float:
        """Step time of the last plan that an episode finished."""
        return float(self._step_time_s[place])


def _check_size(problem: PlanTables, graph: UnitGraph, size: JointSize) -> None:
    for field, value, limit in (
        ("max_units", len(graph.nodes), size.max_units),
        ("max_edges", len(graph.edges), size.max_edges),
    ):
        if value > limit:
            raise InvalidInputError(
                f"{field} is {limit}; allowed for problem {problem.name!r}: {value} or more"
            )
