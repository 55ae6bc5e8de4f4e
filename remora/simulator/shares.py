"""Shares of a step: how long ranks wait, and how much copying and communication compute hides.

Instructions of one stream may be given in any order and may even overlap, as measured ones do:
what counts is the time covered by at least one of them.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from remora.schedule.program import InstructionKind, Stream
from remora.simulator.timeline import TimedInstruction, Timeline

__all__ = [
    "COMMUNICATION_KINDS",
    "COPY_KINDS",
    "bubble_share",
    "bubble_shares",
    "busy_s_by_kind",
    "communication_overlap_share",
    "overlap_share",
]

COPY_KINDS = frozenset(
    {
        InstructionKind.OFFLOAD,
        InstructionKind.PREFETCH,
        InstructionKind.LOAD_WEIGHTS,
        InstructionKind.STORE_CACHE,
        InstructionKind.STORE_GRADIENTS,
    }
)
"""Copies between device and host."""

COMMUNICATION_KINDS = frozenset(
    {
        InstructionKind.SEND,
        InstructionKind.RECEIVE,
        InstructionKind.GATHER_WEIGHTS,
        InstructionKind.REDUCE_GRADIENTS,
        InstructionKind.SHARE_LAYERS,
    }
)
"""Messages between ranks, and collectives."""

_Interval = tuple[float, float]


def bubble_shares(timeline: Timeline) -> tuple[float, ...]:
    """Return, for every rank, the share of the step in which its compute stream does nothing.

    Host copies that run in line on the compute stream count as work here.

    Returns:
        Shares from 0 to 1; 0 for a step that takes no time.  # [num_ranks]
    """
    busy: dict[int, list[_Interval]] = defaultdict(list)
    for event in timeline.events:
        if event.instruction.stream is Stream.COMPUTE:
            busy[event.instruction.rank].append((event.start_s, event.end_s))
    ranks = range(len(timeline.peak_bytes))
    return tuple(_idle_share(busy[rank], timeline.step_time_s) for rank in ranks)


def bubble_share(timeline: Timeline) -> float:
    """Return the share of all ranks' compute time that goes unused, from 0 to 1."""
    shares = bubble_shares(timeline)
    return math.fsum(shares) / len(shares) if shares else 0.0


def overlap_share(timeline: Timeline) -> float | None:
    """Return the share of host-copy time during which the same rank computed.

    Copies that run in line on the compute stream hide behind nothing.

    Returns:
        A share from 0 to 1 of the copies' seconds, of both directions and all ranks; None if no
        copy takes time.
    """
    return _hidden_share(timeline, COPY_KINDS)


def communication_overlap_share(timeline: Timeline) -> float | None:
    """Return the same as :func:`overlap_share` for messages between ranks and collectives."""
    return _hidden_share(timeline, COMMUNICATION_KINDS)


def busy_s_by_kind(timeline: Timeline, rank: int | None = None) -> dict[InstructionKind, float]:
    """Return the seconds that instructions take, by kind.

    Args:
        timeline: simulated or measured run.
        rank: whose instructions; None for those of all ranks together.

    Returns:
        The kinds that occur, in the order of :class:`InstructionKind`.
    """
    durations: dict[InstructionKind, list[float]] = defaultdict(list)
    for event in timeline.events:
        if rank is None or event.instruction.rank == rank:
            durations[event.instruction.kind].append(event.end_s - event.start_s)
    return {kind: math.fsum(durations[kind]) for kind in InstructionKind if kind in durations}


def _idle_share(busy: Iterable[_Interval], step_time_s: float) -> float:
    if step_time_s <= 0:
        return 0.0
    busy_s = math.fsum(end - start for start, end in _union(busy))
    return _clamped(1 - busy_s / step_time_s)


def _hidden_share(timeline: Timeline, kinds: Collection[InstructionKind]) -> float | None:
    moves = [event for event in timeline.events if event.instruction.kind in kinds]
    total_s = math.fsum(event.end_s - event.start_s for event in moves)
    if total_s <= 0:
        return None
    computing = _computing(timeline.events)
    hidden_s = math.fsum(
        _covered_s((event.start_s, event.end_s), computing.get(event.instruction.rank, ()))
        for event in moves
    )
    return _clamped(hidden_s / total_s)


def _computing(events: Iterable[TimedInstruction]) -> dict[int, list[_Interval]]:
    """When each rank computes, copies and messages on its compute stream left out."""
    intervals: dict[int, list[_Interval]] = defaultdict(list)
    moving = COPY_KINDS | COMMUNICATION_KINDS
    for event in events:
        instruction = event.instruction
        if instruction.stream is Stream.COMPUTE and instruction.kind not in moving:
            intervals[instruction.rank].append((event.start_s, event.end_s))
    return {rank: _union(of_rank) for rank, of_rank in intervals.items()}


def _union(intervals: Iterable[_Interval]) -> list[_Interval]:
    """Merge intervals that touch or overlap; ascending and disjoint afterwards."""
    merged: list[_Interval] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _covered_s(interval: _Interval, union: Sequence[_Interval]) -> float:
    """Seconds of ``interval`` that lie in an ascending, disjoint ``union``."""
    start, end = interval
    position = max(0, bisect_right(union, (start, math.inf)) - 1)
    pieces = []
    while position < len(union) and union[position][0] < end:
        pieces.append(max(0.0, min(end, union[position][1]) - max(start, union[position][0])))
        position += 1
    return math.fsum(pieces)


def _clamped(share: float) -> float:
    """Take off what rounding added."""
    return min(1.0, max(0.0, share))
