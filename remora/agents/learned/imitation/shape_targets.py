"""How likely a policy should choose ranks, kind and micro-batches, from what is known of each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from remora.agents.heuristics.shapes import Shape
from remora.envs.actions import KINDS, NUM_ACTIONS, Phase
from remora.envs.plan_tables import PlanTables

__all__ = ["SHAPE_PHASES", "shape_target"]

SHAPE_PHASES = (Phase.RANKS, Phase.KIND, Phase.MICRO_BATCHES)
"""Phases that decide about the shape of the pipeline, in their order."""


def shape_target(
    tables: PlanTables,
    times: Mapping[Shape, float],
    shape: Shape,
    phase: Phase,
    mask: NDArray[np.bool_],
    temperature: float,
) -> NDArray[np.float32] | None:
    """Share probability by regret: the best plan known with an action against the best of all.

    Args:
        tables: of the problem.
        times: least step time known of every shape in seconds.
        shape: of the episode; what was decided before the phase is taken from it.
        phase: one of ``SHAPE_PHASES``.
        mask: what is allowed.  # [A]
        temperature: of the softmax over logarithms of step times.

    Returns:
        Probabilities, 0 for actions with which no plan is known; None if that holds for all.
        # [A]
    """
    least = np.full(NUM_ACTIONS, np.inf)
    for other, seconds in times.items():
        action = _action(tables, other, shape, phase)
        if action is not None and mask[action]:
            least[action] = min(least[action], seconds)
    if not np.isfinite(least).any():
        return None
    with np.errstate(over="ignore"):
        odds = np.exp(-(np.log(least) - math.log(least.min())) / temperature)
    return np.asarray(odds / odds.sum(), dtype=np.float32)


def _action(tables: PlanTables, other: Shape, shape: Shape, phase: Phase) -> int | None:
    """The action that leads on to another shape; None if it was excluded before the phase."""
    if phase is Phase.RANKS:
        return _place(tables.rank_choices, other.num_ranks)
    if other.num_ranks != shape.num_ranks:
        return None
    if phase is Phase.KIND:
        return _place(KINDS, (other.kind, other.chunks))
    if (other.kind, other.chunks) != (shape.kind, shape.chunks):
        return None
    return _place(tables.micro_batches, other.micro_batches)


def _place(values: tuple[object, ...], value: object) -> int | None:
    return values.index(value) if value in values else None
