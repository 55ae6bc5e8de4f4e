"""Memory of every rank over time as the compact lists that the page draws.

Letters: s samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from remora.report.colours import MEMORY_COLOURS
from remora.report.curves import kinds_held, thinned, top_of_scale, whole_step
from remora.report.gantt_data import short
from remora.report.wording import bytes_scale, bytes_text, kind_text, time_scale
from remora.schedule.program import MemoryKind
from remora.simulator.timeline import MemorySample, Timeline

__all__ = ["memory_data"]

_FEW_RANKS, _SLOTS_OF_FEW, _SLOTS_OF_MANY = 4, 400, 200


def memory_data(
    predicted: Timeline, budget_bytes: int, measured: Timeline | None = None
) -> dict[str, Any]:
    """Collect memory by kind, the level of a measured run, and the budget.

    Args:
        predicted: simulated run; all its ranks get the same scale.
        budget_bytes: of one device.
        measured: real run of the same schedule.

    Returns:
        ``ranks`` (times, levels by kind, and bytes at the peak of every rank), the ``kinds`` that
        occur, and the scales.
    """
    longest_s = max(run.step_time_s for run in (predicted, measured) if run is not None)
    factor, time_unit = time_scale(longest_s)
    highest = max(run.max_peak_bytes for run in (predicted, measured) if run is not None)
    top_bytes, in_sight = top_of_scale(highest, budget_bytes)
    size, unit = bytes_scale(top_bytes)
    count = _SLOTS_OF_FEW if len(predicted.memory) <= _FEW_RANKS else _SLOTS_OF_MANY
    curves = [whole_step(samples, predicted.step_time_s, count) for samples in predicted.memory]
    kinds = kinds_held(sample for curve in curves for sample in curve)
    return {
        "unit": unit,
        "timeUnit": time_unit,
        "end": short(longest_s * factor),
        "top": short(top_bytes / size),
        "budget": short(budget_bytes / size),
        "budgetName": f"budget {bytes_text(budget_bytes)}",
        "budgetInSight": in_sight,
        "kinds": [
            {"id": kind.value, "name": kind_text(kind), "colour": MEMORY_COLOURS[kind]}
            for kind in kinds
        ],
        "ranks": [
            _rank(rank, curve, kinds, predicted, measured, factor, size)
            for rank, curve in enumerate(curves)
        ],
    }


def _rank(
    rank: int,
    curve: Sequence[MemorySample],
    kinds: Sequence[MemoryKind],
    predicted: Timeline,
    measured: Timeline | None,
    factor: float,
    size: float,
) -> dict[str, Any]:
    fullest = max(curve, key=lambda sample: sample.level_bytes, default=None)
    at_peak = {} if fullest is None else fullest.by_kind
    levels = [[short(s.by_kind.get(kind, 0) / size) for s in curve] for kind in kinds]
    return {
        "peak": bytes_text(predicted.peak_bytes[rank]),
        "measuredPeak": None if measured is None else _measured_peak(measured, rank),
        "times": [short(sample.time_s * factor) for sample in curve],
        # What stays as it is all the time needs one number only.
        "levels": [values[0] if len(set(values)) == 1 else values for values in levels],
        "atPeak": [short(at_peak.get(kind, 0) / size) for kind in kinds],
        "measured": None if measured is None else _level(measured, rank, factor, size),
    }


def _measured_peak(measured: Timeline, rank: int) -> str | None:
    return bytes_text(measured.peak_bytes[rank]) if rank < len(measured.peak_bytes) else None


def _level(measured: Timeline, rank: int, factor: float, size: float) -> list[list[float]] | None:
    """Times and levels of a measured run, which are not told apart by kind.  # [2][s]."""
    samples = measured.memory[rank] if rank < len(measured.memory) else ()
    curve = thinned(samples, measured.step_time_s, _SLOTS_OF_FEW)
    if not any(sample.level_bytes for sample in curve):
        return None
    return [
        [short(sample.time_s * factor) for sample in curve],
        [short(sample.level_bytes / size) for sample in curve],
    ]
