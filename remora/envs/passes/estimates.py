"""Seconds of a pass that is not all decided: a bound, and what it is likely to take.

A pipeline of m micro-batches takes the sum of its stages for one of them, and its slowest stage for
the others; a stage takes the longer of its forwards and its copies, or both where they share a
stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from remora.envs.passes.standing import Standing
    from remora.envs.passes.tables import PassTables

__all__ = ["bound_s", "likely_s", "pipeline_bound_s", "stage_s"]

Floats = NDArray[np.float64]


def pipeline_bound_s(tables: PassTables, ranks: int, count: int) -> float:
    """Seconds that no pass of a pipeline goes below, wherever its stages begin."""
    seconds, times = tables.counts[count].forward_s, tables.micro_batches[count]
    total_s = float(seconds.sum())
    return total_s + (times - 1) * max(total_s / ranks, float(seconds.max()))


def bound_s(tables: PassTables, at: Standing, stages: Floats) -> float:
    """Seconds that no completion goes below.

    Args:
        tables: of the problem.
        at: where the episode stands.
        stages: forwards, stores and loads of one micro-batch in the stages up to the present one,
            as far as they are decided.  # [stages][3]
    """
    times = tables.micro_batches[at.count]
    compute_s, store_s, load_s = stages.max(axis=0)
    total_s = float(tables.counts[at.count].forward_s.sum())
    busy_s = max(load_s, store_s) if tables.overlap else stages.sum(axis=1).max()
    path_s = total_s + (times - 1) * compute_s
    pipeline_s = pipeline_bound_s(tables, at.ranks, at.count)
    return float(max(path_s, times * busy_s, pipeline_s))


def stage_s(tables: PassTables, count: int, start: int, decisions: Sequence[int]) -> Floats:
    """Forwards, and stores and loads that are sure, of one micro-batch in units from one on.

    # [3].
    """
    costs = tables.counts[count]
    end = start + len(decisions)
    seconds = np.zeros(3)
    seconds[0] = costs.forward_s[start:end].sum()
    for unit, decision in enumerate(decisions, start=start):
        seconds[1:] += costs.copies_s(unit, decision, sure=True)
    return seconds


def likely_s(
    tables: PassTables,
    at: Standing,
    closed: Floats,
    cuts: Sequence[int],
    decisions: Sequence[int],
    budget_bytes: int,
) -> float:
    """What a pass is likely to take if what memory forces to wait is what costs least per byte.

    Args:
        tables: of the problem.
        at: where the episode stands.
        closed: seconds of the stages before the present one, as in :func:`bound_s`.
        cuts: of all stages.  # [stages - 1]
        decisions: about units so far and the cursor's.
        budget_bytes: memory of the device.
    """
    borders = (0, *cuts, tables.num_units)
    lean = tables.leanest(at.ranks, at.count, at.pace).peak_bytes
    seconds = [_taken_s(tables, row) for row in closed]
    for stage in range(len(closed), len(borders) - 1):
        start, end = borders[stage], borders[stage + 1]
        decided = decisions[start:end]
        row = stage_s(tables, at.count, start, decided)
        costs = tables.counts[at.count]
        room = budget_bytes - lean[stage] - costs.kept_bytes(start, decided)
        first = start + len(decided)
        row[0] += costs.forward_s[first:end].sum()
        row[2] += _forced_s(tables, at.count, first, end, room)
        seconds.append(_taken_s(tables, row))
    times = tables.micro_batches[at.count]
    return math.fsum(seconds) + (times - 1) * max(seconds)


def _taken_s(tables: PassTables, row: Floats) -> float:
    return float(row.max() if tables.overlap else row.sum())


def _forced_s(tables: PassTables, count: int, first: int, end: int, room: float) -> float:
    """Copies of what units have no room for; weights or caches first, what costs less per byte."""
    costs = tables.counts[count]
    held = costs.movable_bytes[first:end].sum(axis=0)
    cache_s = costs.cache_load_s[first:end].sum() + costs.cache_store_s[first:end].sum()
    seconds = (costs.weights_s[first:end].sum(), cache_s)
    kinds = sorted((s / h, h) for s, h in zip(seconds, held, strict=True) if h > 0)
    missing, total_s = max(0.0, held.sum() - room), 0.0
    for price, size in kinds:
        moved = min(size, missing)
        total_s += moved * price
        missing -= moved
    return float(total_s)
