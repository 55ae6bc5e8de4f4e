"""Where a plan puts everything: the compiled counterpart of :mod:`remora.schedule.layout`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.chain_arrays import ChainArrays
from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import (
    GROUPS,
    MESSAGES,
    RESIDENT,
    CacheArrays,
    LayoutArrays,
    StaticArrays,
)
from remora.simulator.compiled.layout_messages import find_messages
from remora.simulator.compiled.layout_state import (
    GRADIENT,
    GRADIENT_UNIT,
    ROLE,
    STATIC_BYTES,
    fill_state,
)
from remora.simulator.compiled.link_kernel import REPLICAS, HardwareArrays, exchange_s

__all__ = ["Fixed", "fill_layout"]

from typing import NamedTuple

Ints = NDArray[np.int64]

_INPUT = 2


class Fixed(NamedTuple):
    """What all plans of a problem at one number of ranks share."""

    chain: ChainArrays
    statics: StaticArrays
    hardware: HardwareArrays
    caches: CacheArrays


@kernel
def fill_layout(
    layout: LayoutArrays,
    fixed: Fixed,
    spans: Ints,
    stage_rank: Ints,
    passes: Ints,
    state: Ints,
    streamed: NDArray[np.bool_],
) -> None:
    """Work out what crosses between stages and what every rank keeps.

    Args:
        layout: to fill.
        fixed: the problem.
        spans: first unit and end of every stage, and its pace.  # [stages][4]
        stage_rank: rank of every stage of every copy.  # [all stages]
        passes: micro-batches that pass each of them.  # [all stages]
        state: see :func:`fill_state`.  # [3]
        streamed: weights that wait on the host.  # [statics]
    """
    stages, ranks = len(spans), len(layout.rank_bytes)
    for stage in range(stages):
        for unit in range(spans[stage, 0], spans[stage, 1]):
            layout.stage_of[unit] = stage
    find_messages(layout, fixed.chain, fixed.hardware, stage_rank, stages)
    _fill_holders(layout, fixed.statics, stage_rank, stages)
    for rank in range(ranks):
        fill_state(layout, fixed.statics, fixed.hardware, state, streamed, rank)
    _add_batches(layout, fixed.statics, stage_rank, passes, stages)
    for number in range(len(stage_rank)):
        resident = layout.rank_bytes[stage_rank[number]]
        for message in range(layout.counts[MESSAGES]):
            if layout.messages[message, 0] == number % stages:
                resident[RESIDENT] += layout.messages[message, 3] * passes[number]
    _fill_owners(layout, fixed.statics, spans)
    _fill_groups(layout, fixed.statics, fixed.hardware, state[2])


@kernel
def _fill_holders(
    layout: LayoutArrays, statics: StaticArrays, stage_rank: Ints, stages: int
) -> None:
    for static in range(len(statics.ints)):
        for rank in range(len(layout.rank_bytes)):
            layout.holders[static, rank] = False
        for place in range(statics.unit_start[static], statics.unit_start[static + 1]):
            stage = layout.stage_of[statics.units[place]]
            for number in range(stage, len(stage_rank), stages):
                layout.holders[static, stage_rank[number]] = True


@kernel
def _add_batches(
    layout: LayoutArrays, statics: StaticArrays, stage_rank: Ints, passes: Ints, stages: int
) -> None:
    """Inputs of all micro-batches that a rank sees, each once per copy of the model."""
    for static in range(len(statics.ints)):
        if statics.ints[static, ROLE] != _INPUT:
            continue
        first, end = statics.unit_start[static], statics.unit_start[static + 1]
        for offset in range(0, len(stage_rank), stages):
            for place in range(first, end):
                number = layout.stage_of[statics.units[place]] + offset
                fresh = True
                for other in range(first, place):
                    earlier = layout.stage_of[statics.units[other]] + offset
                    fresh = fresh and stage_rank[earlier] != stage_rank[number]
                if fresh:
                    size = statics.ints[static, STATIC_BYTES] * passes[number]
                    layout.rank_bytes[stage_rank[number], RESIDENT] += size


@kernel
def _fill_owners(layout: LayoutArrays, statics: StaticArrays, spans: Ints) -> None:
    """Per unit: weights whose gradient is complete, in its stage, with its backward."""
    count = 0
    for unit in range(len(layout.stage_of)):
        layout.owner_start[unit] = count
        stage = layout.stage_of[unit]
        for place in range(statics.weight_start[unit], statics.weight_start[unit + 1]):
            static = statics.weights[place]
            trained = statics.ints[static, GRADIENT] > 0
            if trained and unit == _owner(statics, static, spans[stage, 0], spans[stage, 1]):
                layout.owner[count] = static
                count += 1
    layout.owner_start[len(layout.stage_of)] = count


@kernel
def _owner(statics: StaticArrays, static: int, start: int, end: int) -> int:
    first = end
    for place in range(statics.unit_start[static], statics.unit_start[static + 1]):
        unit = statics.units[place]
        if start <= unit < end:
            if unit == statics.ints[static, GRADIENT_UNIT]:
                return int(unit)
            first = min(first, unit)
    return first


@kernel
def _fill_groups(
    layout: LayoutArrays, statics: StaticArrays, hardware: HardwareArrays, zero: int
) -> None:
    """Groups of ranks that sum gradients of the weights they share, by order of the weights."""
    ranks, count, place = len(layout.rank_bytes), 0, 0
    shards = hardware.sizes[REPLICAS] if zero >= 2 else 1
    for static in range(len(statics.ints)):
        members = 0
        if statics.ints[static, GRADIENT] > 0 and ranks > 1:
            for rank in range(ranks):
                members += layout.holders[static, rank]
        if members < 2:
            continue
        group = _same_group(layout, static, count)
        if group == count:
            layout.group[group, 0], layout.group[group, 1] = static, 0
            layout.group[group, 2], layout.group[group, 3] = members, place
            for rank in range(ranks):
                if layout.holders[static, rank]:
                    layout.members[place] = rank
                    place += 1
            count += 1
        layout.group[group, 1] += -(-statics.ints[static, GRADIENT] // shards)
    layout.counts[GROUPS] = count
    for group in range(count):
        members, first = layout.group[group, 2], layout.group[group, 3]
        layout.group_seconds[group] = exchange_s(
            hardware,
            layout.members[first],
            layout.members[first + members - 1],
            members,
            layout.group[group, 1],
        )


@kernel
def _same_group(layout: LayoutArrays, static: int, count: int) -> int:
    """The group with the ranks of a static; ``count`` if there is none."""
    for group in range(count):
        same = True
        for rank in range(len(layout.rank_bytes)):
            known = layout.holders[layout.group[group, 0], rank]
            same = same and known == layout.holders[static, rank]
        if same:
            return group
    return count
