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
    - transfer: weights for which the ranks together have no room come over the host link for every
      micro-batch; caches are taken to wait on the host for nothing.
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
    room = ranks * problem.budget_bytes
    missing = max(0, problem.graph.parameter_bytes - room)
    rates = host_link_rates(problem, chain)
    rate = ranks * rates.h2d_bytes_per_s
    transfer_s = 0.0
    if missing:
        transfer_s = count * missing / rate if rate > 0 else math.inf
    return LowerBounds(
        work_s=count * total_s / ranks,
        path_s=path_s,
        transfer_s=transfer_s,
        memory_s=max(path_s, transfer_s),
    )
