"""Seconds of the messages between the stages of a pipeline."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from remora.agents.exact.partition.loads import StageLoads
from remora.agents.exact.partition.ranges import RangeTables
from remora.schedule.links import Links
from remora.schedule.problem import Problem

__all__ = ["message_seconds"]

_PROBE_BYTES = 2**40

Floats = NDArray[np.float64]


def message_seconds(
    problem: Problem, num_ranks: int, loads: StageLoads, tables: RangeTables
) -> Floats:
    """What every stage waits for the messages of one micro-batch that come to it.

    All of its activations count as coming from the stage before it, and all of its gradients from
    the stage after it; between stages of one rank nothing is sent.

    Args:
        problem: its links.
        num_ranks: ranks of one replica.
        loads: the stages and their ranks.
        tables: bytes that arrive and return.

    Returns:
        ``[stage, a, b]``.  # [num_stages, L + 1, L + 1]
    """
    links = Links(problem.hardware, problem.num_groups // num_ranks, problem.tensor_degree)
    rank_of = {stage: min(team.ranks) for team in loads.teams for stage in team.stages}
    size = tables.num_units + 1
    found = np.zeros((loads.num_stages, size, size))
    for stage in range(loads.num_stages):
        before = (stage - 1, tables.arriving_bytes)
        after = (stage + 1, tables.returning_bytes)
        for other, num_bytes in (before, after):
            if rank_of.get(other, rank_of[stage]) != rank_of[stage]:
                latency_s = links.message_s(rank_of[other], rank_of[stage], 0)
                probe_s = links.message_s(rank_of[other], rank_of[stage], _PROBE_BYTES)
                found[stage] += latency_s + (probe_s - latency_s) / _PROBE_BYTES * num_bytes
    return found
