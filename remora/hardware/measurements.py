"""What running a graph's operators on a device showed: plain numbers, by content hash."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Measurements", "Overheads", "UnitRuns", "UnitTimes", "measured_s"]


@dataclass(frozen=True, slots=True)
class UnitTimes:
    """Seconds of every operator of one kind of unit.

    Attributes:
        forward_op_s: in the order of the unit's forward; None where the operator could not be
            measured.  # [num_forward_ops]
        backward_op_s: the same for its backward.  # [num_backward_ops]
        repetitions: how often the unit ran; the figures are medians.
        notes: one sentence per thing that could not be measured.
    """

    forward_op_s: tuple[float | None, ...]
    backward_op_s: tuple[float | None, ...]
    repetitions: int
    notes: tuple[str, ...] = ()

    @property
    def forward_s(self) -> float:
        """Seconds of the measured forward operators."""
        return sum(time_s for time_s in self.forward_op_s if time_s is not None)

    @property
    def backward_s(self) -> float:
        """Seconds of the measured backward operators."""
        return sum(time_s for time_s in self.backward_op_s if time_s is not None)


@dataclass(frozen=True, slots=True)
class UnitRuns:
    """Every repetition of the operators of one kind of unit.

    Attributes:
        forward_op_s: seconds; NaN where the operator could not be measured.
            # [repetitions, num_forward_ops]
        backward_op_s: the same for its backward.  # [repetitions, num_backward_ops]
        notes: one sentence per thing that could not be measured.
    """

    forward_op_s: tuple[tuple[float, ...], ...]
    backward_op_s: tuple[tuple[float, ...], ...]
    notes: tuple[str, ...] = ()

    def times(self) -> UnitTimes:
        """Median time of every operator, scaled so that they add up to that of the phase."""
        return UnitTimes(
            forward_op_s=_medians(self.forward_op_s),
            backward_op_s=_medians(self.backward_op_s),
            repetitions=len(self.forward_op_s),
            notes=self.notes,
        )


@dataclass(frozen=True, slots=True)
class Overheads:
    """Host time of a real step that running bare operators does not show.

    Attributes:
        forward_op_s: per operator of the forward: Python, modules and autograd's bookkeeping.
        backward_op_s: per operator of the backward; negative where the engine calls operators
            faster than the replay does.
        saved_tensor_s: per saved tensor that is recomputed instead of kept.
        recorded_op_s: per operator of the forward of a unit that is recomputed in part.
        compress_bytes_per_s, restore_bytes_per_s: rate of making a low-bit copy and of reading it
            back, in bytes of the original; 0 where it was not measured.
    """

    forward_op_s: float
    backward_op_s: float
    saved_tensor_s: float = 0.0
    recorded_op_s: float = 0.0
    compress_bytes_per_s: float = 0.0
    restore_bytes_per_s: float = 0.0


@dataclass(frozen=True)
class Measurements:
    """Everything measured for one graph.

    Attributes:
        units: times by unit kind; a kind is absent if it could not be measured at all.
        workspace_bytes: bytes an operator takes beyond its results, by operator signature.
        overheads: host time around the operators.
        optimizer_s: seconds of one optimizer step over all parameters.
        notes: what could not be measured and why.
        optimizer: name of the optimizer.
        disturbance: says that the machine was busy with other programs; empty if it was not.
    """

    units: Mapping[str, UnitTimes]
    workspace_bytes: Mapping[str, int]
    overheads: Overheads
    optimizer_s: float
    notes: tuple[str, ...] = ()
    optimizer: str = "adamw"
    disturbance: str = ""


def _medians(runs: Sequence[Sequence[float]]) -> tuple[float | None, ...]:
    medians = [statistics.median(column) for column in zip(*runs, strict=True)]
    total = measured_s(medians)
    scale = statistics.median(measured_s(run) for run in runs) / total if total > 0 else 1.0
    return tuple(None if math.isnan(median) else median * scale for median in medians)


def measured_s(times_s: Sequence[float]) -> float:
    """Seconds of the operators that could be measured."""
    return sum(time_s for time_s in times_s if not math.isnan(time_s))
