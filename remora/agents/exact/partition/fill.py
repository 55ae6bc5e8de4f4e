"""Options for a pipeline whose cuts are given: each rank's best ones in the memory that it has.

For one rank the least seconds within some bytes are a knapsack over the units of all its stages.
How many bytes there are is what the simulator says: the ranks of a pipeline hardly touch each
other's memory, so all of them are bisected at once, in some ten simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.agents.evaluation import Evaluator, Score
from remora.agents.exact.partition.loads import StageLoads, Team
from remora.agents.exact.partition.program import to_slots
from remora.agents.exact.partition.stage_menu import StageMenu
from remora.agents.heuristics.space import Space
from remora.schedule.schedule import PipelinePlan, Schedule

__all__ = ["Filled", "Knapsack", "Knapsacks", "fill_ranks"]

_SLOTS = 1000

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Knapsack:
    """The units of one team of stages with all choices worth making, leanest first.

    Attributes:
        team: the stages and their ranks.
        units: in order.  # [num_units]
        choices: option of every unit, by level of memory.  # [num_levels, num_units]
    """

    team: Team
    units: tuple[int, ...]
    choices: Ints

    @property
    def most(self) -> int:
        """The level that keeps everything."""
        return len(self.choices) - 1


@dataclass(frozen=True)
class Filled:
    """A pipeline with its options, and how it did.

    Attributes:
        schedule: what was scored.
        score: its figures.
        chosen: index into the menu of every unit.  # [num_units]
    """

    schedule: Schedule
    score: Score
    chosen: Ints


class Knapsacks:
    """The knapsacks of all ranks of one pipeline.

    Args:
        space: where schedules are built.
        menu: options of the units.
        loads: of the stages.
        pipeline: with its cuts.
    """

    def __init__(
        self, space: Space, menu: StageMenu, loads: StageLoads, pipeline: PipelinePlan
    ) -> None:
        self._space = space
        self._menu = menu
        self._pipeline = pipeline
        spans = pipeline.spans(space.num_units)
        self.parts = tuple(_knapsack(menu, loads, team, spans) for team in loads.teams)

    @property
    def leanest(self) -> Schedule:
        """The schedule that holds as little as the options allow."""
        return self.schedule([0] * len(self.parts))

    def schedule(self, levels: Sequence[int]) -> Schedule:
        """The schedule with every team at its level.  # [num_teams]."""
        chosen = self.chosen(levels).tolist()
        options = [row[index] for row, index in zip(self._menu.options, chosen, strict=True)]
        return self._space.build(options, pipeline=self._pipeline)

    def chosen(self, levels: Sequence[int]) -> Ints:
        """Index of the option of every unit.  # [num_units]."""
        chosen = np.zeros(self._space.num_units, dtype=np.int64)
        for part, level in zip(self.parts, levels, strict=True):
            chosen[list(part.units)] = part.choices[level]
        return chosen


def fill_ranks(knapsacks: Knapsacks, evaluator: Evaluator) -> Filled:
    """Give every rank the largest level that fits the problem's budget in the simulator.

    A rank that does not even fit at its leanest level stays there.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    parts, budget = knapsacks.parts, evaluator.problem.budget_bytes

    def fits(levels: Sequence[int]) -> list[bool]:
        peaks = evaluator.score(knapsacks.schedule(levels)).peaks_bytes
        return [max(peaks[rank] for rank in part.team.ranks) <= budget for part in parts]

    high = [part.most + 1 for part in parts]
    low = [part.most for part in parts]
    for part, good in enumerate(fits(low)):
        if not good:
            low[part], high[part] = 0, parts[part].most
    while any(h - w > 1 for w, h in zip(low, high, strict=True)):
        middle = [(w + h) // 2 for w, h in zip(low, high, strict=True)]
        for part, good in enumerate(fits(middle)):
            if high[part] - low[part] <= 1:
                continue
            if good:
                low[part] = middle[part]
            else:
                high[part] = middle[part]
    schedule = knapsacks.schedule(low)
    return Filled(schedule, evaluator.score(schedule), knapsacks.chosen(low))


def _knapsack(
    menu: StageMenu, loads: StageLoads, team: Team, spans: Sequence[tuple[int, int]]
) -> Knapsack:
    """All plans of the units of a team that differ, one for each number of slots that helps."""
    # Imported here because numba is slow to load and not every search comes to this point.
    from remora.agents.exact.partition.kernel import fill_knapsack, trace_knapsack

    stage_of = {u: stage for stage in team.stages for u in range(*spans[stage])}
    units = tuple(sorted(stage_of))
    rows = list(units)
    counts = np.array([loads.in_flight[stage_of[unit]] for unit in units])
    slot = max(float(counts @ menu.kept_bytes[rows]) / _SLOTS, 1.0)
    # The simulator has the last word, so sizes are rounded to the nearest slot.
    weights = to_slots(counts[:, None] * menu.held_bytes[rows] - slot / 2, slot, 2 * _SLOTS)
    extra = np.ascontiguousarray(menu.extra_s[rows])
    table = np.empty((len(units) + 1, int(weights[:, 0].sum()) + 1))
    fill_knapsack(weights, extra, table)
    seconds = table[-1]
    helps = np.flatnonzero(seconds < np.concatenate([[np.inf], seconds[:-1]]))
    choices = np.zeros((len(helps), len(units)), dtype=np.int64)
    for level, slots in enumerate(helps.tolist()):
        trace_knapsack(weights, extra, table, slots, choices[level])
    return Knapsack(team, units, choices)
