"""Where a plan puts everything, in arrays that are filled anew for every layout."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GROUPS",
    "HOST_BYTES",
    "MESSAGES",
    "RESIDENT",
    "TEMPORARY",
    "CacheArrays",
    "LayoutArrays",
    "StaticArrays",
    "new_layout",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# Entries of ``LayoutArrays.counts`` and columns of ``LayoutArrays.rank_bytes``.
MESSAGES, GROUPS = 0, 1
RESIDENT, HOST_BYTES, TEMPORARY, GRADIENTS = 0, 1, 2, 3
# Columns of ``CacheArrays.bytes``.
HELD_CACHE, LOADED_CACHE, STORED_CACHE = 0, 1, 2


class StaticArrays(NamedTuple):
    """Weights, buffers and inputs.

    Attributes:
        ints: role (0 weight, 1 buffer, 2 input), bytes, bytes of the gradient (0 if there is
            none), bytes of optimizer state as it is and in 8 bits, unit whose backward makes the
            gradient (-1 for none), bytes that an optimizer on the host copies.  # [statics][7]
        unit_start, units: per static: units that read it.
        weight_start, weights: per unit: weights that it reads.
    """

    ints: Ints
    unit_start: Ints
    units: Ints
    weight_start: Ints
    weights: Ints


class CacheArrays(NamedTuple):
    """Keys and values of every unit, of one micro-batch.

    Attributes:
        bytes: with all tokens, before a pass, added by a pass; no row in training.  # [n][3]
    """

    bytes: Ints


class LayoutArrays(NamedTuple):
    """A plan by rank and stage.

    Attributes:
        counts: messages, groups.  # [2]
        stage_of: stage of every unit.  # [n]
        traffic: bytes by direction, target and source, while messages are found.
            # [2][stages][stages]
        seen: last storage that was counted for a stage.  # [stages]
        messages: target stage, source stage, direction (0 forward, 1 backward), bytes; sorted by
            direction, target, source; stages of one copy.  # [messages][4]
        seconds: of every message in every copy; negative between stages of one rank.
            # [messages][copies]
        first_message: where those of a target begin, forward then backward.  # [2 * stages + 1]
        outgoing_start, outgoing: messages of every source, forward then backward, by target.
        rank_bytes: device and host bytes that last the whole step, device bytes that the
            optimizer step takes, gradients.  # [ranks][4]
        step: seconds of the step, of storing gradients, of loading weights, of gathering.
            # [ranks][4]
        holders: which ranks hold a static.  # [statics][ranks]
        owner_start, owner: per unit, weights whose gradient its backward completes.
        group: static that stands for the group, bytes, members, first place in ``members``.
            # [groups][4]
        members: ranks of all groups.
        group_seconds: of summing.  # [groups]
    """

    counts: Ints
    stage_of: Ints
    traffic: Ints
    seen: Ints
    messages: Ints
    seconds: Floats
    first_message: Ints
    outgoing_start: Ints
    outgoing: Ints
    rank_bytes: Ints
    step: Floats
    holders: NDArray[np.bool_]
    owner_start: Ints
    owner: Ints
    group: Ints
    members: Ints
    group_seconds: Floats


def new_layout(
    units: int, stages: int, ranks: int, copies: int, statics: StaticArrays, readers: int
) -> LayoutArrays:
    """Make the arrays.

    Args:
        units: of the chain.
        stages: of one copy of the model.
        ranks: of the pipeline.
        copies: of the model.
        statics: weights, buffers and inputs.
        readers: entries in the lists of readers of crossing storages.
    """
    messages = 2 * min(readers, stages * stages)
    count = len(statics.ints)
    return LayoutArrays(
        counts=np.zeros(2, dtype=np.int64),
        stage_of=np.zeros(units, dtype=np.int64),
        traffic=np.zeros((2, stages, stages), dtype=np.int64),
        seen=np.zeros(stages, dtype=np.int64),
        messages=np.zeros((messages, 4), dtype=np.int64),
        seconds=np.zeros((messages, copies), dtype=np.float64),
        first_message=np.zeros(2 * stages + 1, dtype=np.int64),
        outgoing_start=np.zeros(2 * stages + 1, dtype=np.int64),
        outgoing=np.zeros(messages, dtype=np.int64),
        rank_bytes=np.zeros((ranks, 4), dtype=np.int64),
        step=np.zeros((ranks, 4), dtype=np.float64),
        holders=np.zeros((count, ranks), dtype=np.bool_),
        owner_start=np.zeros(units + 1, dtype=np.int64),
        owner=np.zeros(len(statics.weights) + 1, dtype=np.int64),
        group=np.zeros((count + 1, 4), dtype=np.int64),
        members=np.zeros(count * min(ranks, len(statics.units)) + 1, dtype=np.int64),
        group_seconds=np.zeros(count + 1, dtype=np.float64),
    )
