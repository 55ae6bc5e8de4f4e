"""Where an episode of a pass stands, and which actions lead on to a whole plan.

What is not decided yet counts as on the host, in stages of about the same seconds. An action that
agrees with this leads to the very plan that was known to fit, so there always is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.envs.actions import NUM_DECISIONS, PACES
from remora.envs.arrays import CURSOR, PACE, RANKS, ROW, STAGE, STAGE_START, Episodes
from remora.schedule.schedule import Schedule

if TYPE_CHECKING:
    from remora.envs.passes.tables import PassTables

__all__ = ["Standing", "candidates", "planned_cuts", "standing_of"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What was decided so far.

    Attributes:
        ranks: of one pipeline.
        count: place of the number of micro-batches.
        pace: place in ``PACES``.
        stage: the present one.
        start: its first unit.
        decisions: about units.
    """

    ranks: int
    count: int
    pace: int
    stage: int
    start: int
    decisions: tuple[int, ...]

    @property
    def cursor(self) -> int:
        """The unit to decide about."""
        return len(self.decisions)

    @property
    def cuts(self) -> tuple[int, ...]:
        """First units of the stages that have begun, but the first."""
        return tuple(u + 1 for u, action in enumerate(self.decisions) if action >= NUM_DECISIONS)


def standing_of(tables: PassTables, episodes: Episodes, place: int) -> Standing:
    """Read where an episode stands."""
    ints = episodes.ints[place]
    return Standing(
        tables.rank_choices[ints[RANKS]],
        int(ints[ROW]),
        int(ints[PACE]),
        int(ints[STAGE]),
        int(ints[STAGE_START]),
        tuple(episodes.decisions[place, : ints[CURSOR]].tolist()),
    )


def planned_cuts(tables: PassTables, at: Standing, cut: bool) -> tuple[int, ...] | None:
    """All cuts if the cursor's unit ends a stage or does not, the later ones balanced.

    Returns:
        None where the units that are left do not allow it.
    """
    left, after = at.ranks - 1 - at.stage, tables.num_units - at.cursor - 1
    if cut:
        if not left or after < left:
            return None
        end = at.cursor + 1
    elif not left:
        return at.cuts
    elif after <= left:
        return None
    else:
        first = tables.ends(at.count, at.start, left + 1)[0]
        end = min(max(first, at.cursor + 2), tables.num_units - left)
    return (*at.cuts, end, *tables.ends(at.count, end, left))


def candidates(tables: PassTables, at: Standing) -> Iterator[tuple[int, Schedule]]:
    """Actions about the cursor's unit, each with the plan that it leads to."""
    window, distance = PACES[at.pace]
    for cut in (False, True):
        cuts = planned_cuts(tables, at, cut)
        if cuts is None:
            continue
        pipeline = tables.pipeline(at.count, cuts)
        for decision in tables.menus[at.cursor]:
            action = decision + NUM_DECISIONS * cut
            plan = tables.planned(pipeline, (*at.decisions, action), window, distance)
            yield action, plan
