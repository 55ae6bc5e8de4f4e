"""Bounds on the time of a pass of inference."""

from __future__ import annotations

import math

from remora.schedule.layout import host_link_rates
from remora.schedule.problem import Problem
from remora.simulator.bounds.records import LowerBounds

__all__ = ["pass_bounds"]


def pass_bounds(problem: Problem) -> LowerBounds:
    """Bounds for all schedules of a problem of inference.

    Each is the least over all numbers of ranks and micro-batches:

    - work: the forwards of all micro-batches, shared evenly by the ranks;
    - path: one micro-batch runs through all units, and the slowest stage, which takes at least an
      even share and at least its largest unit, runs all others too;
    - transfer: what the ranks together have no room for waits on the host; weights come over the
      link for every micro-batch, and of a cache what is there before a pass. What costs least per
      byte waits first, parts of it where that is enough.
    """
    found = [
        _bounds(problem, ranks, count)
        for ranks in problem.pipeline_sizes
        if ranks <= len(problem.graph.units)
        for count in problem.graphs
        if problem.micro_batches in (None, count)
    ]
    return LowerBounds(
        work_s=min(bounds.work_s for bounds in found),
        path_s=min(bounds.path_s for bounds in found),
        transfer_s=min(bounds.transfer_s for bounds in found),
        memory_s=min(bounds.memory_s for bounds in found),
    )


def _bounds(problem: Problem, ranks: int, count: int) -> LowerBounds:
    chain = problem.chains[count]
    seconds = [unit.forward_s for unit in chain.units]
    total_s = math.fsum(seconds)
    stage_s = max(total_s / ranks, *seconds)
    path_s = total_s + (count - 1) * stage_s
    moved = _moved_bytes(problem, ranks, count)
    rate = ranks * host_link_rates(problem, chain).h2d_bytes_per_s
    transfer_s = 0.0
    if moved:
        transfer_s = moved / rate if rate > 0 else math.inf
    return LowerBounds(
        work_s=count * total_s / ranks,
        path_s=path_s,
        transfer_s=transfer_s,
        memory_s=max(path_s, transfer_s),
    )


def _moved_bytes(problem: Problem, ranks: int, count: int) -> float:
    """Fewest bytes that come over the host links of all ranks together."""
    spec = problem.inference
    assert spec is not None
    caches = [spec.cache_of(unit, count) for unit in range(len(problem.graph.units))]
    # Bytes on the device, and how many come over the link for each of them.
    pieces = [(count * one.held, one.loaded / one.held) for one in caches if one.held]
    pieces.append((problem.graph.parameter_bytes, float(count)))
    missing = sum(size for size, _ in pieces) - ranks * problem.budget_bytes
    moved = 0.0
    for size, price in sorted(pieces, key=lambda piece: piece[1]):
        waiting = min(size, max(0, missing))
        moved += waiting * price
        missing -= waiting
    return moved
