"""What takes memory while backwards run, whatever the plan: gradients, and the units' own rises."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.envs.levels import UnitLevels
from remora.envs.storages import CrossingStorages
from remora.schedule.chain import Chain

__all__ = ["BackwardBase", "backward_base"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class BackwardBase:
    """Bytes by unit that do not depend on any decision.

    Attributes:
        forward: there during every forward: gradients of earlier micro-batches.
        before: when what the backward of a unit needs is made again.  # [n]
        during: at the highest point of a unit's backward.  # [n]
    """

    forward: int
    before: Ints
    during: Ints


def backward_base(
    chain: Chain,
    storages: CrossingStorages,
    gradients: Ints,
    levels: UnitLevels,
    micro_batches: int,
) -> BackwardBase:
    """Add gradients of weights and activations and the rise of every backward up.

    Of several micro-batches the first makes the gradients of weights and the others add to them.

    Args:
        chain: the units.
        storages: what crosses units.
        gradients: bytes of gradients of weights that the backward of each unit makes.  # [n]
        levels: rises.
        micro_batches: number of them.
    """
    everything = int(gradients.sum())
    later = everything - np.cumsum(gradients)  # [n]
    new = np.array([levels.backward(unit, gradients_stay=True) for unit in chain.units])
    passed = storages.passed_gradients + storages.late
    if micro_batches == 1:
        return BackwardBase(0, passed + later, passed + later + new)
    added = np.array([levels.backward(unit, gradients_stay=False) for unit in chain.units])
    during = passed + np.maximum(later + new, everything + added)
    return BackwardBase(everything, passed + everything, during)
