"""The allowed action that comes closest to what a schedule asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.agents.learned.imitation.wanted import Wanted
from remora.envs.actions import (
    FIRST_OPTION,
    KINDS,
    NUM_DECISIONS,
    PACES,
    STATES,
    Phase,
    UnitDecision,
)
from remora.envs.arrays import CHOICE_COLUMNS
from remora.envs.batch import EpisodeBatch
from remora.schedule.schedule import StatePlan

__all__ = ["nearest_action"]

_COMPUTE, _COPIES = CHOICE_COLUMNS.index("compute"), CHOICE_COLUMNS.index("copies")

_ALONE, _CLOSES, _OPENS = range(3)
_FAR = {
    _ALONE: (0, 0, 1),
    _CLOSES: (1, 0, 2),
    _OPENS: (2, 1, 0),
}
"""From what is wanted to what is allowed: keeping and options, ends of groups, going on."""


def nearest_action(batch: EpisodeBatch, place: int, wanted: Wanted, owed_cut: bool) -> int:
    """Choose the next action of an episode.

    Args:
        batch: the episodes.
        place: of one that is not over.
        wanted: what it should become.
        owed_cut: whether the last unit should have ended a stage and did not.

    Returns:
        An allowed action; the wanted one wherever that is allowed.
    """
    allowed = np.flatnonzero(batch.masks[place]).tolist()
    phase = batch.phase(place)
    if phase is Phase.UNITS:
        return _unit_action(batch, place, wanted, allowed, owed_cut)
    tables, pipeline = batch.problem(place), wanted.pipeline
    if phase is Phase.RANKS:
        sizes = [_ratio(count, pipeline.num_ranks) for count in tables.rank_choices]
        return _least(allowed, sizes)
    if phase is Phase.KIND:
        same = [float(kind is not pipeline.kind) for kind, _ in KINDS]
        chunks = [_ratio(count, pipeline.chunks) for _, count in KINDS]
        return _least(allowed, [10 * a + b for a, b in zip(same, chunks, strict=True)])
    if phase is Phase.MICRO_BATCHES:
        counts = tables.micro_batches
        return _least(allowed, [_ratio(count, pipeline.micro_batches) for count in counts])
    if phase is Phase.STATE:
        return _least(allowed, [_state_distance(state, wanted.state) for state in STATES])
    window, distance = wanted.pace
    return _least(allowed, [abs(w - window) + abs(d - distance) for w, d in PACES])


def _unit_action(
    batch: EpisodeBatch, place: int, wanted: Wanted, allowed: Sequence[int], owed_cut: bool
) -> int:
    unit = len(batch.decisions(place))
    decision = wanted.units[unit] % NUM_DECISIONS
    cut = owed_cut or wanted.units[unit] >= NUM_DECISIONS
    exact = decision + NUM_DECISIONS * cut
    if exact in allowed:
        return exact
    choices = batch.observations()["choices"][place].reshape(-1, len(CHOICE_COLUMNS))
    seconds = _seconds(choices)
    wanted_s = batch.problem(place).option_s(unit, decision, batch.setting(place).micro_batches)

    def far(action: int) -> tuple[int, int, float, int]:
        family = _FAR[_family(decision)][_family(action)]
        return (
            int((action >= NUM_DECISIONS) != cut),
            family,
            abs(seconds[action] - wanted_s),
            action,
        )

    return min(allowed, key=far)


def _seconds(choices: NDArray[np.float32]) -> NDArray[np.float32]:
    """What every action takes, on the scale of observations.  # [A]."""
    seconds: NDArray[np.float32] = choices[:, _COMPUTE] + choices[:, _COPIES]
    return seconds


def _family(action: int) -> int:
    decision = action % NUM_DECISIONS
    if decision == UnitDecision.OPEN:
        return _OPENS
    return _ALONE if decision == UnitDecision.KEEP or decision >= FIRST_OPTION else _CLOSES


def _state_distance(state: StatePlan, wanted: StatePlan) -> float:
    """How many kinds of state live elsewhere; sharding counts less."""
    pairs = (
        (state.weights, wanted.weights),
        (state.gradients, wanted.gradients),
        (state.optimizer, wanted.optimizer),
    )
    elsewhere = sum(a is not b for a, b in pairs)
    return elsewhere + 0.1 * abs(state.zero_stage - wanted.zero_stage)


def _ratio(value: int, other: int) -> float:
    return abs(math.log(value / other))


def _least(allowed: Sequence[int], distances: Sequence[float]) -> int:
    return min(allowed, key=lambda action: (distances[action], action))
