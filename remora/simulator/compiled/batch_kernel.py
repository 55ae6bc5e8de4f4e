"""Simulate a batch of encoded plans."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import (
    HELD_CACHE,
    HOST_BYTES,
    LOADED_CACHE,
    RESIDENT,
    STORED_CACHE,
    StaticArrays,
)
from remora.simulator.compiled.layout_kernel import Fixed, fill_layout
from remora.simulator.compiled.layout_state import STATIC_BYTES
from remora.simulator.compiled.link_kernel import (
    D2H_RATE,
    H2D_RATE,
    HOST_LATENCY,
    OVERLAPS,
    REPLICAS,
    gather_s,
)
from remora.simulator.compiled.lower_stages import lower_stages
from remora.simulator.compiled.option_rows import RowArrays
from remora.simulator.compiled.regions import RegionArrays, fill_regions
from remora.simulator.compiled.run_clock import HOST_PEAK, PEAK_LEVEL, OrderArrays, Step
from remora.simulator.compiled.run_kernel import run_tasks
from remora.simulator.compiled.scratch import Scratch
from remora.simulator.compiled.work import Work

__all__ = ["Outcomes", "Plans", "simulate_batch"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Plans(NamedTuple):
    """Encoded plans, b of them, with equal orders of tasks.

    Attributes:
        chosen: row of every unit's option.  # [b][n]
        group_start: where the groups of each plan begin.  # [b + 1]
        groups: start, end, offload and parent of all groups, outer before inner.  # [groups][4]
        spans: first unit, end, window and distance of every stage.  # [b][stages][4]
        state: 1 if gradients live on the host, optimizer's place, ZeRO stage.  # [b][3]
        streamed: weights that wait on the host.  # [b][statics]
        stage_rank: rank of every stage of every copy.  # [all stages]
        passes: micro-batches that pass each of them.  # [all stages]
        parts: 1 if some backwards come in halves, 1 if there are none.  # [2]
        host_caches: units whose cache waits on the host.  # [b][n]
    """

    chosen: Ints
    group_start: Ints
    groups: Ints
    spans: Ints
    state: Ints
    streamed: NDArray[np.bool_]
    stage_rank: Ints
    passes: Ints
    parts: Ints
    host_caches: NDArray[np.bool_]


class Outcomes(NamedTuple):
    """Figures of every plan.

    Attributes:
        step_s: seconds of the step.  # [b]
        peak: largest device level of every rank.  # [b][ranks]
        host_peak: largest host level of every rank.  # [b][ranks]
        flags: scratch; see ``Step.flags``.  # [6]
    """

    step_s: Floats
    peak: Ints
    host_peak: Ints
    flags: Ints


@kernel
def simulate_batch(
    scratch: Scratch,
    fixed: Fixed,
    rows: RowArrays,
    plans: Plans,
    order: OrderArrays,
    gradient: Ints,
    outcomes: Outcomes,
) -> None:
    """Simulate plans.

    Args:
        scratch: large enough for all of them.
        fixed: the problem.
        rows: its options.
        plans: what to simulate.
        order: tasks.
        gradient: bytes of the gradient of every static.  # [statics]
        outcomes: to fill.
    """
    for plan in range(len(plans.chosen)):
        if plan == 0 or not _same_layout(plans, plan):
            fill_layout(
                scratch.layout,
                fixed,
                plans.spans[plan],
                plans.stage_rank,
                plans.passes,
                plans.state[plan],
                plans.streamed[plan],
            )
            _add_caches(scratch, fixed, plans, plan)
            _fill_fetches(scratch, fixed, plans, plan)
            _fill_flags(outcomes.flags, fixed, plans, plan)
        _lower(scratch, fixed, rows, plans, plan)
        step = Step(
            scratch.items,
            scratch.where,
            scratch.layout,
            gradient,
            fixed.hardware,
            order,
            outcomes.flags,
            scratch.once,
            plans.stage_rank,
        )
        run_tasks(scratch.run, step)
        outcomes.step_s[plan] = scratch.run.latest[0]
        for rank in range(outcomes.peak.shape[1]):
            outcomes.peak[plan, rank] = scratch.run.level[rank, PEAK_LEVEL]
            outcomes.host_peak[plan, rank] = scratch.run.level[rank, HOST_PEAK]


@kernel
def _lower(scratch: Scratch, fixed: Fixed, rows: RowArrays, plans: Plans, plan: int) -> None:
    groups = plans.groups[plans.group_start[plan] : plans.group_start[plan + 1]]
    chosen = plans.chosen[plan]
    count = fill_regions(scratch.region, scratch.unit_region, chosen, groups)
    regions = RegionArrays(scratch.region[:count], scratch.unit_region)
    work = Work(fixed.chain, rows, chosen, regions, scratch.fetches, scratch.task)
    lower_stages(
        scratch.items,
        scratch.live,
        scratch.apart,
        work,
        scratch.where,
        plans.spans[plan],
        plans.parts,
    )


@kernel
def _same_layout(plans: Plans, plan: int) -> bool:
    """Whether a plan has the stages and the state of the one before."""
    for stage in range(plans.spans.shape[1]):
        if plans.spans[plan, stage, 0] != plans.spans[plan - 1, stage, 0]:
            return False
    for field in range(plans.state.shape[1]):
        if plans.state[plan, field] != plans.state[plan - 1, field]:
            return False
    for static in range(plans.streamed.shape[1]):
        if plans.streamed[plan, static] != plans.streamed[plan - 1, static]:
            return False
    for unit in range(plans.host_caches.shape[1]):
        if plans.host_caches[plan, unit] != plans.host_caches[plan - 1, unit]:
            return False
    return True


@kernel
def _add_caches(scratch: Scratch, fixed: Fixed, plans: Plans, plan: int) -> None:
    """Caches of all micro-batches, on the device or on the host."""
    layout, caches = scratch.layout, fixed.caches
    for unit in range(len(caches.bytes)):
        place = HOST_BYTES if plans.host_caches[plan, unit] else RESIDENT
        stage = layout.stage_of[unit]
        size = caches.bytes[unit, HELD_CACHE] * plans.passes[stage]
        layout.rank_bytes[plans.stage_rank[stage], place] += size


@kernel
def _any_on_host(plans: Plans, plan: int) -> bool:
    found = False
    for static in range(plans.streamed.shape[1]):
        found = found or plans.streamed[plan, static]
    for unit in range(plans.host_caches.shape[1]):
        found = found or plans.host_caches[plan, unit]
    return found


@kernel
def _fill_flags(flags: Ints, fixed: Fixed, plans: Plans, plan: int) -> None:
    """See :class:`remora.simulator.compiled.run_kernel.Step`."""
    zero = plans.state[plan, 2]
    flags[0] = fixed.hardware.sizes[REPLICAS]
    flags[1] = 1 if zero >= 2 else 0
    flags[2] = plans.state[plan, 0]
    flags[3] = 1 if zero == 2 else 0
    flags[4] = 1 if _any_on_host(plans, plan) else 0
    flags[5] = fixed.hardware.sizes[OVERLAPS]


@kernel
def _fill_fetches(scratch: Scratch, fixed: Fixed, plans: Plans, plan: int) -> None:
    """Weights of every unit that are brought in for every use, or gathered once a step."""
    fetches, once, zero = scratch.fetches, scratch.once, plans.state[plan, 2]
    rates = fixed.hardware.rates
    for unit in range(plans.chosen.shape[1]):
        fetches.size[unit] = 0
        fetches.cache[unit] = 0
        once[unit] = -1.0
        size = _moved_bytes(fixed.statics, plans, plan, unit)
        if size == 0:
            continue
        rank = plans.stage_rank[scratch.layout.stage_of[unit]]
        gathering_s = gather_s(fixed.hardware, rank, size)
        if zero == 2:
            once[unit] = gathering_s
            continue
        fetches.size[unit] = size
        loading_s = 1 * rates[HOST_LATENCY] + size / rates[H2D_RATE]
        fetches.seconds[unit] = gathering_s if zero == 3 else loading_s
    _fetch_caches(scratch, fixed, plans, plan)


@kernel
def _fetch_caches(scratch: Scratch, fixed: Fixed, plans: Plans, plan: int) -> None:
    """Caches that wait on the host come in with the weights, if those do."""
    fetches, caches, rates = scratch.fetches, fixed.caches, fixed.hardware.rates
    for unit in range(plans.host_caches.shape[1]):
        if not plans.host_caches[plan, unit]:
            continue
        weights, loaded = fetches.size[unit], caches.bytes[unit, LOADED_CACHE]
        copies = (1 if weights > 0 else 0) + (1 if loaded > 0 else 0)
        fetches.seconds[unit] = copies * rates[HOST_LATENCY] + (weights + loaded) / rates[H2D_RATE]
        fetches.cache[unit] = caches.bytes[unit, HELD_CACHE]
        fetches.size[unit] = weights + fetches.cache[unit]
        stored = caches.bytes[unit, STORED_CACHE]
        fetches.store_s[unit] = 1 * rates[HOST_LATENCY] + stored / rates[D2H_RATE]


@kernel
def _moved_bytes(statics: StaticArrays, plans: Plans, plan: int, unit: int) -> int:
    size = 0
    for place in range(statics.weight_start[unit], statics.weight_start[unit + 1]):
        static = statics.weights[place]
        if plans.state[plan, 2] >= 2 or plans.streamed[plan, static]:
            size += statics.ints[static, STATIC_BYTES]
    return size
