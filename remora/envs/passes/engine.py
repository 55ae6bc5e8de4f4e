"""The rules of episodes that plan passes of inference.

Every plan that an action leads to is simulated with what is left on the host, so masks are exact
about it and an allowed action never leads to a dead end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from remora.envs.actions import NUM_ACTIONS, NUM_DECISIONS, PACES, Phase, Setting
from remora.envs.arrays import (
    BOUND,
    BUDGET,
    CURSOR,
    FALLBACK,
    FIRST_ROW,
    KIND,
    OPEN,
    PACE,
    PHASE,
    RANKS,
    ROW,
    SHAPE,
    STAGE,
    STAGE_START,
    Episodes,
    Ints,
)
from remora.envs.passes.estimates import bound_s, pipeline_bound_s, stage_s
from remora.envs.passes.looking import GPIPE, choices_left, look_at_passes
from remora.envs.passes.standing import standing_of
from remora.schedule.schedule import StatePlan

if TYPE_CHECKING:
    from remora.envs.passes.tables import PassTables

__all__ = ["PassEngine"]


class PassEngine:
    """Rules of passes; see :class:`.Engine`.

    Args:
        problems: that episodes plan.
    """

    num_storages = 1

    def __init__(self, problems: Sequence[PassTables]) -> None:
        self._problems = tuple(problems)
        self.num_stages = max(max(problem.rank_choices) for problem in problems)

    def begin(self, episodes: Episodes, place: int, index: int, budget_bytes: int) -> None:
        """Start an episode, and fill what it shows."""
        ints = episodes.ints[place]
        ints[:] = 0
        ints[FIRST_ROW], ints[BUDGET] = index, budget_bytes
        ints[OPEN] = ints[SHAPE] = -1
        ints[PACE] = PACES.index((1, 1))
        episodes.reals[place] = 0.0
        episodes.stage_s[place] = 0.0
        episodes.decisions[place] = -1
        episodes.chosen[place] = 0.0
        self._skip(episodes, place)
        self._bound(episodes, place)
        look_at_passes(self._problems, episodes, [place])

    def step(self, episodes: Episodes, actions: Ints, replaced: Ints) -> None:
        """Act in every episode that is not over, and fill what all of them show."""
        replaced[:] = 0
        going = np.flatnonzero(episodes.ints[:, PHASE] != Phase.DONE).tolist()
        for place in going:
            action = int(actions[place])
            if not 0 <= action < NUM_ACTIONS or not episodes.mask[place, action]:
                action = int(episodes.ints[place, FALLBACK])
                replaced[place] = 1
            self._act(episodes, place, action)
            self._bound(episodes, place)
        look_at_passes(self._problems, episodes, going)

    def setting(self, episodes: Episodes, place: int) -> Setting:
        """What was decided before the first unit; defaults before that."""
        ints = episodes.ints[place]
        window, distance = PACES[ints[PACE]]
        count = self._problem(episodes, place).micro_batches[ints[ROW]]
        return Setting(count, StatePlan(), window, distance, int(ints[KIND]))

    def _problem(self, episodes: Episodes, place: int) -> PassTables:
        return self._problems[int(episodes.ints[place, FIRST_ROW])]

    def _act(self, episodes: Episodes, place: int, action: int) -> None:
        if episodes.ints[place, PHASE] == Phase.UNITS:
            self._decide(episodes, place, action)
            return
        self._choose(episodes, place, action)
        self._skip(episodes, place)

    def _choose(self, episodes: Episodes, place: int, action: int) -> None:
        """Take a setting."""
        ints, phase = episodes.ints[place], Phase(int(episodes.ints[place, PHASE]))
        if phase is Phase.RANKS:
            ints[RANKS] = action
            ranks = self._problem(episodes, place).rank_choices[action]
            ints[KIND] = GPIPE if ranks > 1 else 0
        elif phase is Phase.MICRO_BATCHES:
            ints[ROW] = action
        elif phase is Phase.PACE:
            ints[PACE] = action
        ints[PHASE] = phase + 1

    def _skip(self, episodes: Episodes, place: int) -> None:
        """Go on to the first phase from here on with more than one choice."""
        problem = self._problem(episodes, place)
        while episodes.ints[place, PHASE] < Phase.UNITS:
            left = choices_left(problem, Phase(int(episodes.ints[place, PHASE])))
            if len(left) > 1:
                return
            self._choose(episodes, place, left[0] if left else 0)

    def _decide(self, episodes: Episodes, place: int, action: int) -> None:
        """Decide about the cursor's unit and move on."""
        ints, problem = episodes.ints[place], self._problem(episodes, place)
        unit, stage = int(ints[CURSOR]), int(ints[STAGE])
        episodes.decisions[place, unit] = action
        episodes.chosen[place, unit, action] = 1.0
        episodes.stage_s[place, stage] += stage_s(problem, int(ints[ROW]), unit, [action])
        ints[CURSOR] = unit + 1
        if action >= NUM_DECISIONS:
            ints[STAGE], ints[STAGE_START] = stage + 1, unit + 1
        if unit + 1 == problem.num_units:
            ints[PHASE] = Phase.DONE

    def _bound(self, episodes: Episodes, place: int) -> None:
        """Raise the bound to what is known now."""
        problem, ints = self._problem(episodes, place), episodes.ints[place]
        if ints[PHASE] > Phase.MICRO_BATCHES:
            at = standing_of(problem, episodes, place)
            known_s = bound_s(problem, at, episodes.stage_s[place, : at.stage + 1])
        else:
            chosen = ints[PHASE] > Phase.RANKS
            sizes = problem.rank_choices
            known_s = min(
                pipeline_bound_s(problem, ranks, count)
                for ranks in (sizes[ints[RANKS] : ints[RANKS] + 1] if chosen else sizes)
                for count in range(len(problem.micro_batches))
            )
        episodes.reals[place, BOUND] = max(episodes.reals[place, BOUND], known_s)
