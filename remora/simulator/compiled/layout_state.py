"""What every rank of a plan keeps, and what its optimizer step takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.simulator.compiled.jit import kernel
from remora.simulator.compiled.layout_arrays import (
    GRADIENTS,
    HOST_BYTES,
    RESIDENT,
    TEMPORARY,
    LayoutArrays,
    StaticArrays,
)
from remora.simulator.compiled.link_kernel import (
    CUDA,
    D2H_RATE,
    H2D_RATE,
    HOST_LATENCY,
    HOST_STEP_S,
    REPLICAS,
    STEP_S,
    TEMPORARIES,
    HardwareArrays,
    gather_s,
)

__all__ = ["GRADIENT", "ROLE", "STATIC_BYTES", "fill_state"]

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

# Columns of ``StaticArrays.ints``.
ROLE, STATIC_BYTES, GRADIENT, OPTIMIZER, EIGHT_BIT, GRADIENT_UNIT = 0, 1, 2, 3, 4, 5
COPIED = 6
_WEIGHT, _BUFFER = 0, 1
_GRADIENTS_ON_HOST, _OPTIMIZER_PLACE, _ZERO = 0, 1, 2
_ON_HOST, _IN_EIGHT_BITS = 1, 2


@kernel
def fill_state(
    layout: LayoutArrays,
    statics: StaticArrays,
    hardware: HardwareArrays,
    state: Ints,
    streamed: Bools,
    rank: int,
) -> None:
    """Fill the bytes and the step of one rank.

    Args:
        layout: its holders are known.
        statics: weights, buffers and inputs.
        hardware: links and optimizer.
        state: 1 if gradients live on the host; optimizer: 0 device, 1 host, 2 8-bit; ZeRO stage.
            # [3]
        streamed: weights that wait on the host.  # [statics]
        rank: to fill.
    """
    zero, on_host = state[_ZERO], state[_OPTIMIZER_PLACE] == _ON_HOST
    replicas = hardware.sizes[REPLICAS]
    parts = replicas if zero >= 2 else 1
    buffers = _total(layout, statics, streamed, rank, _BUFFER, False, STATIC_BYTES)
    weights = _total(layout, statics, streamed, rank, _WEIGHT, False, STATIC_BYTES)
    away = _total(layout, statics, streamed, rank, _WEIGHT, True, STATIC_BYTES)
    gradients = _total(layout, statics, streamed, rank, _WEIGHT, False, GRADIENT)
    gradients += _total(layout, statics, streamed, rank, _WEIGHT, True, GRADIENT)
    column = EIGHT_BIT if state[_OPTIMIZER_PLACE] == _IN_EIGHT_BITS else OPTIMIZER
    optimizer = _total(layout, statics, streamed, rank, _WEIGHT, False, column)
    optimizer += _total(layout, statics, streamed, rank, _WEIGHT, True, column)
    shards = replicas if zero >= 1 else 1
    optimizer = _shard(optimizer, shards)
    resident, host = buffers + weights, away
    if zero == 2:
        resident += _shard(weights, parts)
    if zero == 3:
        resident = buffers + _shard(weights, parts)
    if on_host:
        arriving = parts if state[_GRADIENTS_ON_HOST] else shards
        copied = _total(layout, statics, streamed, rank, _WEIGHT, False, COPIED)
        host += _shard(copied, shards) + _shard(gradients, arriving) + optimizer
    else:
        resident += optimizer
    layout.rank_bytes[rank, RESIDENT] = resident
    layout.rank_bytes[rank, HOST_BYTES] = host
    layout.rank_bytes[rank, GRADIENTS] = gradients
    _fill_step(layout, statics, hardware, state, streamed, rank)


@kernel
def _total(
    layout: LayoutArrays,
    statics: StaticArrays,
    streamed: Bools,
    rank: int,
    role: int,
    away: bool,
    column: int,
) -> int:
    """Sum a column over what a rank holds, of one role, on the host or not."""
    total = 0
    for static in range(len(statics.ints)):
        here = layout.holders[static, rank] and statics.ints[static, ROLE] == role
        if here and streamed[static] == away:
            total += statics.ints[static, column]
    return total


@kernel
def _fill_step(
    layout: LayoutArrays,
    statics: StaticArrays,
    hardware: HardwareArrays,
    state: Ints,
    streamed: Bools,
    rank: int,
) -> None:
    zero, on_host = state[_ZERO], state[_OPTIMIZER_PLACE] == _ON_HOST
    shards = hardware.sizes[REPLICAS] if zero >= 1 else 1
    gradients, whole = layout.rank_bytes[rank, GRADIENTS], 0
    for static in range(len(statics.ints)):
        whole += statics.ints[static, GRADIENT]
    share = gradients / whole if whole > 0 else 1.0
    rates, step = hardware.rates, layout.step
    step[rank, 0] = rates[HOST_STEP_S if on_host else STEP_S] * share / shards
    step[rank, 1] = 0.0
    step[rank, 2] = 0.0
    step[rank, 3] = gather_s(hardware, rank, gradients) if zero == 1 else 0.0
    layout.rank_bytes[rank, TEMPORARY] = 0
    if on_host:
        kept, _ = _kept(layout, statics, streamed, rank)
        if state[_GRADIENTS_ON_HOST] == 0 and gradients > 0:
            step[rank, 1] = 1 * rates[HOST_LATENCY] + _shard(gradients, shards) / rates[D2H_RATE]
        if kept > 0:
            step[rank, 2] = 1 * rates[HOST_LATENCY] + _shard(kept, shards) / rates[H2D_RATE]
    elif hardware.sizes[TEMPORARIES] > 0:
        _, largest = _kept(layout, statics, streamed, rank)
        temporary = hardware.sizes[TEMPORARIES] * _shard(largest, shards)
        if hardware.sizes[CUDA]:
            temporary = _shard(gradients, shards)
        layout.rank_bytes[rank, TEMPORARY] = temporary


@kernel
def _kept(
    layout: LayoutArrays, statics: StaticArrays, streamed: Bools, rank: int
) -> tuple[int, int]:
    """Bytes of trained weights on the device, and of the largest weight."""
    kept, largest = 0, 0
    for static in range(len(statics.ints)):
        if not layout.holders[static, rank] or statics.ints[static, ROLE] != _WEIGHT:
            continue
        largest = max(largest, statics.ints[static, STATIC_BYTES])
        if not streamed[static] and statics.ints[static, GRADIENT] > 0:
            kept += statics.ints[static, STATIC_BYTES]
    return kept, largest


@kernel
def _shard(num_bytes: int, parts: int) -> int:
    return -(-num_bytes // parts)
