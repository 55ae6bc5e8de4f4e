"""The fixed part of a problem as arrays: chain, weights, hardware."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from remora.graph.model_graph import BUFFER, INPUT, PARAMETER
from remora.hardware.hardware import Link
from remora.schedule.chain import Chain
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.links import groups_per_node
from remora.schedule.parameters import StaticStorage
from remora.schedule.problem import Problem
from remora.schedule.schedule import Placement, StatePlan
from remora.schedule.state_bytes import StateBytes
from remora.simulator.compiled.layout_arrays import CacheArrays, StaticArrays
from remora.simulator.compiled.link_kernel import HardwareArrays

__all__ = ["cache_arrays", "hardware_arrays", "ragged", "static_arrays"]

_ROLES = {PARAMETER: 0, BUFFER: 1, INPUT: 2}


def static_arrays(problem: Problem, chain: Chain) -> StaticArrays:
    """Turn weights, buffers and inputs into arrays, once per optimizer."""
    key = ("static arrays", problem.optimizer)
    if key not in chain.memo:
        chain.memo[key] = _static_arrays(problem, chain)
    found: StaticArrays = chain.memo[key]
    return found


def _static_arrays(problem: Problem, chain: Chain) -> StaticArrays:
    entries = chain.statics.all
    place = {entry.storage: number for number, entry in enumerate(entries)}
    of_unit = [
        [place[e.storage] for e in chain.statics.weights_of((unit.index,))] for unit in chain.units
    ]
    readers, weights = ragged([sorted(e.units) for e in entries]), ragged(of_unit)
    # Layers repeat, so most weights have the sizes of another one.
    known: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    rows = []
    for entry in entries:
        size = (entry.num_bytes, entry.num_elements, entry.gradient_bytes)
        if size not in known:
            known[size] = _state_bytes(problem, entry)
        on_device, eight_bit, copied = known[size]
        row = (_ROLES[entry.role], entry.num_bytes, entry.gradient_bytes, on_device, eight_bit)
        rows.append((*row, entry.gradient_unit, copied))
    return StaticArrays(np.array(rows, dtype=np.int64).reshape(-1, 7), *readers, *weights)


def cache_arrays(problem: Problem, micro_batches: int) -> CacheArrays:
    """Turn the caches of one micro-batch into an array; without rows in training."""
    spec, units = problem.inference, range(len(problem.graph.units))
    found = [] if spec is None else [spec.cache_of(unit, micro_batches) for unit in units]
    rows = [[cache.held, cache.loaded, cache.stored] for cache in found]
    return CacheArrays(np.array(rows, dtype=np.int64).reshape(-1, 3))


def hardware_arrays(
    problem: Problem, chain: Chain, rates: HostLinkRates, replicas: int
) -> HardwareArrays:
    """Turn links, host link and optimizer into arrays.

    Args:
        problem: its hardware and optimizer.
        chain: its costs.
        rates: of the host link.
        replicas: data-parallel replicas.
    """
    hardware, costs = problem.hardware, chain.costs
    share = 1.0 if hardware.state is None else hardware.state.link_share
    return HardwareArrays(
        sizes=_ints(
            [
                groups_per_node(hardware, problem.tensor_degree),
                replicas,
                int(hardware.copies_overlap),
                int(hardware.device_type == "cuda"),
                int(problem.optimizer.counted),
                problem.optimizer.step_temporaries,
            ]
        ),
        rates=np.array(
            [
                *_link(hardware.link, share),
                *_link(hardware.node_link, share),
                rates.latency_s,
                rates.d2h_bytes_per_s,
                rates.h2d_bytes_per_s,
                costs.optimizer_time_s,
                costs.host_optimizer_time_s,
            ],
            dtype=np.float64,
        ),
    )


def _state_bytes(problem: Problem, entry: StaticStorage) -> tuple[int, int, int]:
    """Bytes of a weight's optimizer state, of that in 8 bits, and of the weight's copy on the host.

    The copy is what an optimizer on the host steps, without its gradient and state.
    """

    def kept(where: Placement) -> StateBytes:
        return StateBytes((entry,), problem.optimizer, StatePlan(optimizer=where), 1, ())

    on_device = kept(Placement.DEVICE).optimizer_bytes
    copied = kept(Placement.HOST).host_bytes - entry.gradient_bytes - on_device
    return on_device, kept(Placement.EIGHT_BIT).optimizer_bytes, copied


def _link(link: Link, share: float) -> tuple[float, float]:
    return link.latency_s, link.bandwidth_bytes_per_s * share


def _ints(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


def ragged(rows: Sequence[Sequence[int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where every row begins in one flat array, and that array."""
    start = np.zeros(len(rows) + 1, dtype=np.int64)
    start[1:] = np.cumsum([len(row) for row in rows])
    return start, _ints([value for row in rows for value in row])
