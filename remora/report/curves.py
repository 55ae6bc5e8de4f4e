"""Memory over time, with as many points as a picture can show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from remora.report.colours import MEMORY_COLOURS
from remora.schedule.program import MemoryKind
from remora.simulator.timeline import MemorySample, Timeline

__all__ = ["fullest_ranks", "kinds_held", "thinned", "top_of_scale", "whole_step"]

_BUDGET_IN_SIGHT = 2.5
"""A budget up to this many times the peak is drawn to scale."""


def thinned(
    samples: Sequence[MemorySample], step_time_s: float, num_slots: int
) -> list[MemorySample]:
    """Keep at most two samples of every slot of time: the highest and the last.

    So the peak of every slot stays where it was, and so does the level carried on to the next.

    Args:
        samples: of one rank, in order of time.
        step_time_s: divided into the slots.
        num_slots: number of slots.

    Returns:
        At most ``2 * (num_slots + 1)`` of the samples, in order.
    """
    if len(samples) <= 2 * num_slots or step_time_s <= 0:
        return list(samples)
    highest: dict[int, int] = {}
    last: dict[int, int] = {}
    for position, sample in enumerate(samples):
        slot = int(sample.time_s / step_time_s * num_slots)
        best = highest.setdefault(slot, position)
        if sample.level_bytes > samples[best].level_bytes:
            highest[slot] = position
        last[slot] = position
    return [samples[position] for position in sorted({*highest.values(), *last.values()})]


def whole_step(
    samples: Sequence[MemorySample], step_time_s: float, num_slots: int
) -> list[MemorySample]:
    """Return the memory of one rank from the start to the end of the step, thinned.

    Before its first instruction a rank holds what it holds at all times: of every kind the
    least that any sample shows. After its last one it holds what that left.

    Args:
        samples: of one rank, in order of time.
        step_time_s: end of the curve.
        num_slots: see :func:`thinned`.
    """
    if not samples:
        return []
    first, last = samples[0], samples[-1]
    kinds = {kind for sample in samples for kind in sample.by_kind}
    resident = {kind: min(sample.by_kind.get(kind, 0) for sample in samples) for kind in kinds}
    before = MemorySample(0.0, sum(resident.values()), resident, first.instruction)
    after = replace(last, time_s=step_time_s)
    return [
        *([before] if first.time_s > 0 else []),
        *thinned(samples, step_time_s, num_slots),
        *([after] if last.time_s < step_time_s else []),
    ]


def kinds_held(samples: Iterable[MemorySample]) -> list[MemoryKind]:
    """Return the kinds of memory that occur, in the order in which they are stacked."""
    held = {kind for sample in samples for kind, size in sample.by_kind.items() if size}
    return [kind for kind in MEMORY_COLOURS if kind in held]


def fullest_ranks(timeline: Timeline, limit: int) -> list[int]:
    """Return the ``limit`` ranks with the highest peaks, in order of rank."""
    ranks = range(len(timeline.peak_bytes))
    return sorted(sorted(ranks, key=lambda rank: -timeline.peak_bytes[rank])[:limit])


def top_of_scale(peak_bytes: float, budget_bytes: float) -> tuple[float, bool]:
    """Return how many bytes the picture is high, and whether the budget is among them.

    A budget far above the peak would flatten the curves, so it is left out.
    """
    in_sight = budget_bytes <= _BUDGET_IN_SIGHT * peak_bytes or peak_bytes <= 0
    return 1.08 * max(peak_bytes, budget_bytes if in_sight else 0), in_sight
