"""A schedule as the episode that ends in it, or in the nearest one that an episode can end in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from remora.agents.learned.imitation.nearest import nearest_action
from remora.agents.learned.imitation.wanted import Reading, Wanted, pass_wanted, wanted_of
from remora.agents.learned.playing import exact_size
from remora.envs.actions import NUM_DECISIONS, Phase
from remora.envs.batch import EpisodeBatch
from remora.envs.plan_tables import PlanTables
from remora.envs.problem_tables import ProblemTables
from remora.envs.sampler import JointSampler
from remora.schedule.schedule import Schedule

__all__ = ["Replay", "Replayer"]


@dataclass(frozen=True)
class Replay:
    """An episode that follows a schedule as closely as the masks allow.

    Attributes:
        actions: what was done, settings first.
        schedule: what the episode ended in.
        step_time_s: of that.
        slower: log of its step time over that of the given schedule; below 0 if it is faster.
    """

    actions: tuple[int, ...]
    schedule: Schedule
    step_time_s: float
    slower: float


class Replayer:
    """Replays schedules of one problem under one budget.

    Args:
        tables: of the problem.
        budget_bytes: memory of every device.
    """

    def __init__(self, tables: PlanTables, budget_bytes: int) -> None:
        self.tables = tables
        self._budget_bytes = budget_bytes
        self._sampler = JointSampler([tables])
        self._size = exact_size([tables])

    @property
    def possible(self) -> bool:
        """Whether any episode is sure to fit the budget."""
        return self._budget_bytes >= self.tables.least_bytes

    def replay(self, schedule: Schedule) -> Replay | None:
        """Follow a schedule; what the masks do not allow is replaced by the nearest that they do.

        Where no reading of its groups ends in the very schedule, the fastest one counts.

        Args:
            schedule: a valid one for the problem.

        Returns:
            The episode; None if no episode is sure to fit the budget.
        """
        if not self.possible:
            return None
        found = self.follow(self._readings(schedule), self.tables.step_time_s(schedule))
        return min(found, key=lambda replay: (replay.schedule != schedule, replay.step_time_s))

    def _readings(self, schedule: Schedule) -> list[Wanted]:
        """What a schedule may be asking for."""
        if not isinstance(self.tables, ProblemTables):
            return [pass_wanted(schedule)]
        readings = (wanted_of(self.tables, schedule, reading) for reading in Reading)
        return list(dict.fromkeys(readings))

    def follow(self, wanted: Sequence[Wanted], given_s: float) -> list[Replay]:
        """Play one episode for each of some wishes.

        Args:
            wanted: what the episodes should become.
            given_s: step time that theirs are told against.
        """
        batch = self.batch(len(wanted))
        rows: list[list[int]] = [[] for _ in wanted]
        owed = [False] * len(wanted)
        while batch.masks.any():
            actions = np.zeros(len(wanted), dtype=np.int64)
            for place in np.flatnonzero(batch.masks.any(axis=1)).tolist():
                action = nearest_action(batch, place, wanted[place], owed[place])
                owed[place] = _still_owed(batch, place, wanted[place], action, owed[place])
                actions[place] = action
                rows[place].append(action)
            batch.step(actions)
        return [
            Replay(
                actions=tuple(row),
                schedule=batch.schedule(place),
                step_time_s=batch.step_time_s(place),
                slower=math.log(batch.step_time_s(place) / given_s),
            )
            for place, row in enumerate(rows)
        ]

    def batch(self, count: int) -> EpisodeBatch:
        """Begin so many episodes of the problem."""
        batch = EpisodeBatch(self._sampler, count, self._size)
        for place in range(count):
            batch.begin(place, 0, self._budget_bytes)
        return batch


def _still_owed(batch: EpisodeBatch, place: int, wanted: Wanted, action: int, owed: bool) -> bool:
    """Whether a cut that was wanted up to this unit is still to come."""
    if batch.phase(place) is not Phase.UNITS:
        return False
    unit = len(batch.decisions(place))
    return (owed or wanted.units[unit] >= NUM_DECISIONS) and action < NUM_DECISIONS
