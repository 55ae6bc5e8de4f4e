"""What every episode shows and allows; compiled."""

from __future__ import annotations

from remora.envs.actions import PACES, Phase, UnitDecision
from remora.envs.arrays import (
    BUDGET,
    FIRST_ROW,
    PHASE,
    PLACE,
    ROW,
    SHAPE,
    Episodes,
    Tables,
)
from remora.envs.columns import (
    NUM_SHAPES,
)
from remora.envs.device_choosing import look_at_counts, look_at_places, room_with
from remora.envs.jit import kernel
from remora.envs.least_budgets import least_budget
from remora.envs.offering import choose_fallback, forbid_all, offer
from remora.envs.outlook import compare_outlooks
from remora.envs.pipeline_choosing import look_at_settings, look_at_states
from remora.envs.stage_looking import look_at_stage_unit
from remora.envs.telling import tell
from remora.envs.unit_looking import look_at_unit

__all__ = ["look_at"]

_COUNTS, _PLACES, _PACES = int(Phase.MICRO_BATCHES), int(Phase.STATE), int(Phase.PACE)
_UNITS, _DONE = int(Phase.UNITS), int(Phase.DONE)
_OPENS, _CLOSES = int(UnitDecision.OPEN), int(UnitDecision.CLOSE)
_NESTED, _OFFLOADED = int(UnitDecision.CLOSE_NESTED), int(UnitDecision.CLOSE_OFFLOADED)
_WINDOWS = tuple(window for window, _ in PACES)


@kernel
def look_at(tables: Tables, episodes: Episodes, first: int, end: int) -> None:
    """Fill what episodes ``first`` to ``end - 1`` show and allow."""
    for e in range(first, end):
        _look(tables, episodes, e)
        tell(tables, episodes, e)


@kernel
def _look(tables: Tables, episodes: Episodes, e: int) -> None:
    """Fill mask, fallback and what is told about every choice of an episode."""
    forbid_all(episodes, e)
    phase = episodes.ints[e, PHASE]
    if phase == _DONE:
        return
    if tables.ints[episodes.ints[e, FIRST_ROW], NUM_SHAPES]:
        _look_at_pipeline(tables, episodes, e)
    elif phase == _COUNTS:
        look_at_counts(tables, episodes, e)
    elif phase == _PLACES:
        look_at_places(tables, episodes, e)
    elif phase == _PACES:
        ints = episodes.ints[e]
        _look_at_paces(tables, episodes, e, room_with(tables, episodes, e, ints[ROW], ints[PLACE]))
    else:
        look_at_unit(tables, episodes, e)
    choose_fallback(episodes, e)
    compare_outlooks(tables, episodes, e)


@kernel
def _look_at_pipeline(tables: Tables, episodes: Episodes, e: int) -> None:
    ints = episodes.ints[e]
    phase = ints[PHASE]
    if phase < _PLACES:
        look_at_settings(tables, episodes, e)
    elif phase == _PLACES:
        look_at_states(tables, episodes, e)
    elif phase == _PACES:
        least = least_budget(tables, ints[SHAPE], ints[PLACE], 0, 0)
        _look_at_paces(tables, episodes, e, ints[BUDGET] - least)
    else:
        look_at_stage_unit(tables, episodes, e)


@kernel
def _look_at_paces(tables: Tables, episodes: Episodes, e: int, headroom: int) -> None:
    for pace in range(len(_WINDOWS)):
        offer(tables, episodes, e, pace, headroom, 0.0, 0.0, _WINDOWS[pace] / 8, 0.0)
