"""Bounds for pipelines of several ranks, from what every cut and every order has in common.

Letters: p ranks, m micro-batches, F and B the forward and backward of one of them.

- All ranks together do m(F+B) and the optimizer, what is recomputed comes on top, and rank r waits
  at the start for the forwards of the units before its first stage, s of which there are at least
  if s stages come before that one; where backwards are not split, the same holds at the end. The
  slowest rank takes no less than the average.
- A unit's own rank runs it m times after the first micro-batch has reached it.
- If a rank has one stage, the best cut is found exactly, messages taking no time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.chain import Chain
from remora.schedule.orders import (
    allowed_chunks,
    check_pipeline,
    model_copies,
    pipeline_order,
    registered_kinds,
    splits_backward,
)
from remora.schedule.schedule import PipelineKind
from remora.simulator.bounds.dependencies import Paths, paths_of

__all__ = ["PipelineTime", "fastest_pipeline"]


@dataclass(frozen=True, slots=True)
class PipelineTime:
    """Seconds that no pipeline of some ranks and micro-batches goes below.

    Attributes:
        path_s: the slowest rank, or the longest chain of work.
        lead_s: what all ranks together wait before their first task.
        trail_s: and between their last task and the last one of all.
    """

    path_s: float
    lead_s: float
    trail_s: float


def fastest_pipeline(
    chain: Chain, num_ranks: int, micro_batches: int, kind: PipelineKind | None = None
) -> PipelineTime | None:
    """The least of all kinds that are allowed; None if none is.

    Args:
        chain: per-unit tables of one micro-batch.
        num_ranks: ranks of one replica, 2 or more.
        micro_batches: of one step.
        kind: the only one that counts; all if not given.
    """
    kinds = registered_kinds() if kind is None else (kind,)
    times = [
        _time_of(chain, one, num_ranks, micro_batches)
        for one in kinds
        if _allowed(one, num_ranks, micro_batches, len(chain.units))
    ]
    if not times:
        return None
    return PipelineTime(
        path_s=min(time.path_s for time in times),
        lead_s=min(time.lead_s for time in times),
        trail_s=min(time.trail_s for time in times),
    )


def _allowed(kind: PipelineKind, num_ranks: int, micro_batches: int, num_units: int) -> bool:
    chunks = allowed_chunks(kind).start
    try:
        check_pipeline(kind, num_ranks, micro_batches, chunks)
    except InvalidInputError:
        return False
    return num_ranks * chunks <= num_units


def _time_of(chain: Chain, kind: PipelineKind, num_ranks: int, micro_batches: int) -> PipelineTime:
    split = splits_backward(kind)
    copies = model_copies(kind)
    paths = paths_of(chain, split)
    each = micro_batches // copies
    first = _first_stages(kind, num_ranks, micro_batches)
    lead_s = sum(min(paths.head_s[stage:]) for stage in first)
    trail_s = 0.0 if split else sum(min(paths.tail_s[stage:]) for stage in first)
    path_s = max(
        paths.whole_s,
        _slowest_unit_s(paths, each, split),
        (micro_batches * sum(paths.work_s) + lead_s + trail_s) / num_ranks,
    )
    if copies == 1 and len(allowed_chunks(kind)) == 1 and allowed_chunks(kind).start == 1:
        path_s = max(path_s, _best_cut_s(paths, num_ranks, micro_batches))
    return PipelineTime(path_s, lead_s, trail_s)


def _slowest_unit_s(paths: Paths, count: int, split: bool) -> float:
    """The rank of one unit, from its first forward to its last backward, and what follows."""
    units = zip(paths.head_s, paths.tail_s, paths.work_s, paths.early_s, strict=True)
    return max(
        max(head + count * early + tail, head + count * work if split else 0.0)
        for head, tail, work, early in units
    )


def _first_stages(kind: PipelineKind, num_ranks: int, micro_batches: int) -> list[int]:
    """How many stages come before the first one of each rank.  # [num_ranks]."""
    order = pipeline_order(kind, num_ranks, micro_batches, allowed_chunks(kind).start)
    num_stages = order.num_stages // model_copies(kind)
    first = [num_stages] * num_ranks
    for number, rank in enumerate(order.stage_rank.tolist()):
        first[rank] = min(first[rank], number % num_stages)
    return first


def _best_cut_s(paths: Paths, num_ranks: int, micro_batches: int) -> float:
    """The slowest rank under the best cut into one stage per rank."""
    done_s = np.concatenate([[0.0], np.cumsum(paths.work_s)])
    ends_s = np.asarray(paths.head_s) + np.asarray(paths.tail_s)
    # stage_s[a, b]: a stage of the units a to b - 1.  # [num_units, num_units + 1]
    stage_s = ends_s[:, None] + micro_batches * (done_s[None, :] - done_s[:-1, None])
    stage_s[np.arange(len(done_s))[None, :] <= np.arange(len(ends_s))[:, None]] = np.inf
    slowest_s = np.where(np.arange(len(done_s)) == 0, 0.0, np.inf)
    for _ in range(num_ranks):
        slowest_s = np.maximum(slowest_s[:-1, None], stage_s).min(axis=0)
    return float(slowest_s[-1])
