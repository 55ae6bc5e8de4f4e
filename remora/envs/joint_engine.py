"""Episodes that plan steps of training: compiled rules, tables of all problems in arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from remora.envs.acting import act_all, begin
from remora.envs.actions import PACES, STATES, Setting
from remora.envs.arrays import KIND, PACE, PLACE, ROW, Episodes, Ints
from remora.envs.looking import look_at
from remora.envs.stacking import first_rows, stack

if TYPE_CHECKING:
    from remora.envs.problem_tables import ProblemTables

__all__ = ["JointEngine"]


class JointEngine:
    """Rules of training steps; see :class:`.Engine`.

    Args:
        problems: that episodes plan.
    """

    def __init__(self, problems: Sequence[ProblemTables]) -> None:
        self.tables = stack(problems)
        self._first_rows = first_rows(problems)
        self._counts = [count.micro_batches for one in problems for count in one.counts]
        self.num_storages = self.tables.storage.shape[1]
        self.num_stages = max((s.num_stages for one in problems for s in one.shapes), default=1)

    def begin(self, episodes: Episodes, place: int, index: int, budget_bytes: int) -> None:
        """Start an episode, and fill what it shows."""
        begin(self.tables, episodes, place, self._first_rows[index], budget_bytes)
        look_at(self.tables, episodes, place, place + 1)

    def step(self, episodes: Episodes, actions: Ints, replaced: Ints) -> None:
        """Act in every episode that is not over, and fill what all of them show."""
        act_all(self.tables, episodes, actions, replaced)
        look_at(self.tables, episodes, 0, len(actions))

    def setting(self, episodes: Episodes, place: int) -> Setting:
        """What was decided before the first unit; defaults before that."""
        ints = episodes.ints[place]
        window, distance = PACES[ints[PACE]]
        return Setting(
            self._counts[ints[ROW]], STATES[ints[PLACE]], window, distance, int(ints[KIND])
        )
