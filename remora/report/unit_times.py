"""Predicted beside measured, unit by unit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from remora.report.wording import duration_text, overhead_text
from remora.schedule.program import InstructionKind
from remora.simulator.timeline import Timeline

__all__ = ["TimePair", "unit_time_cells", "unit_times"]

_COLUMNS = {
    "forward": (InstructionKind.FORWARD,),
    "again": (InstructionKind.RECOMPUTE, InstructionKind.RESTORE),
    "backward": (
        InstructionKind.BACKWARD,
        InstructionKind.BACKWARD_INPUT,
        InstructionKind.BACKWARD_WEIGHT,
    ),
    "copies": (InstructionKind.OFFLOAD, InstructionKind.PREFETCH),
}
_COLUMN_OF = {kind: column for column, kinds in _COLUMNS.items() for kind in kinds}


@dataclass(frozen=True, slots=True)
class TimePair:
    """Seconds of one kind of work of a unit in one step, all micro-batches together."""

    predicted_s: float
    measured_s: float


def unit_times(simulated: Timeline, measured: Timeline) -> dict[tuple[int, str], TimePair]:
    """Set the work of two runs of one schedule side by side.

    Args:
        simulated: predicted run.
        measured: real run.

    Returns:
        By unit and column (``forward``, ``again``, ``backward``, ``copies``), where either run has
        anything.
    """
    predicted_s, measured_s = _sums_s(simulated), _sums_s(measured)
    keys = sorted(predicted_s.keys() | measured_s.keys())
    return {key: TimePair(predicted_s.get(key, 0.0), measured_s.get(key, 0.0)) for key in keys}


def unit_time_cells(
    simulated: Timeline, measured: Timeline, unit_names: list[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of a table: predicted and measured time of every unit.

    Args:
        simulated: predicted run.
        measured: real run.
        unit_names: name of every unit.  # [num_units]
    """
    pairs = unit_times(simulated, measured)
    columns = [c for c in _COLUMNS if any(column == c for _, column in pairs)]
    rows = []
    for unit, name in enumerate(unit_names):
        cells = [_cell(pairs.get((unit, column))) for column in columns]
        rows.append((str(unit), name or "(start)", *cells, _difference(unit, pairs)))
    return ("unit", "name", *columns, "measured over predicted"), rows


def _sums_s(timeline: Timeline) -> dict[tuple[int, str], float]:
    sums_s: dict[tuple[int, str], float] = defaultdict(float)
    for event in timeline.events:
        column = _COLUMN_OF.get(event.instruction.kind)
        if column is not None and event.instruction.unit >= 0:
            sums_s[event.instruction.unit, column] += event.end_s - event.start_s
    return dict(sums_s)


def _cell(pair: TimePair | None) -> str:
    if pair is None:
        return ""
    return f"{duration_text(pair.predicted_s)} / {duration_text(pair.measured_s)}"


def _difference(unit: int, pairs: dict[tuple[int, str], TimePair]) -> str:
    own = [pair for (of_unit, _), pair in pairs.items() if of_unit == unit]
    predicted_s = sum(pair.predicted_s for pair in own)
    return overhead_text(sum(pair.measured_s for pair in own), predicted_s)
