"""Profiled runs: what one traced model showed on one device, with every repetition."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from remora.graph.model_graph import ModelGraph
from remora.hardware.hardware import Hardware
from remora.hardware.measurements import Measurements, UnitRuns, measured_s

__all__ = ["OK", "STATUSES", "ProfiledRun", "Setting", "StepRow", "Subject", "UnitRow"]

OK = "ok"
"""Status of a step that ran."""

STATUSES = (OK, "out_of_memory", "crashed", "timed_out")
"""All of them, as in :class:`~remora.simulator.records.Measurement`."""


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        family: name of the group of architectures that is left out as a whole in evaluations.
        model: name of the architecture.
        target: ``package.module:function`` that builds it.
        values: its arguments, batch and dtype among them.
        batch: samples of a step.
        dtype: of the parameters.
    """

    family: str
    model: str
    target: str
    values: Mapping[str, Any]
    batch: int
    dtype: str

    @property
    def key(self) -> str:
        """Hash of target and values: the same for the same model on every device."""
        text = json.dumps([self.target, dict(self.values)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Setting:
    """Where it is measured.

    Attributes:
        hardware: measured rates of the device.
        threads: of PyTorch on the host.
        torch: its version.
        python: its version.
        machine: processor or accelerator in words.
    """

    hardware: Hardware
    threads: int
    torch: str
    python: str
    machine: str

    @property
    def name(self) -> str:
        """Device and threads: what figures are compared within."""
        return f"{self.hardware.name}/{self.threads}"


@dataclass(frozen=True)
class UnitRow:
    """All repetitions of the operators of one kind of unit.

    Attributes:
        kind: content hash of the unit.
        unit: index of the first unit of this kind.
        runs: seconds of every operator in every repetition.
    """

    kind: str
    unit: int
    runs: UnitRuns

    @property
    def unit_s(self) -> float:
        """Median seconds of forward and backward together."""
        pairs = zip(self.runs.forward_op_s, self.runs.backward_op_s, strict=True)
        return statistics.median(measured_s(f) + measured_s(b) for f, b in pairs)


@dataclass(frozen=True)
class StepRow:
    """Measured training steps under one schedule.

    Attributes:
        label: how the schedule was found.
        schedule_json: of ``remora.schedule.serialize``.
        optimizer: name of the optimizer.
        status: ``ok``, ``out_of_memory``, ``crashed`` or ``timed_out``.
        detail: message of a failed run.
        step_times_s: every repetition.
        peak_memory_bytes: of a step, with what exists before it.
    """

    label: str
    schedule_json: str
    optimizer: str
    status: str
    detail: str
    step_times_s: tuple[float, ...]
    peak_memory_bytes: int

    @property
    def step_time_s(self) -> float:
        """Median over the repetitions."""
        return statistics.median(self.step_times_s)


@dataclass(frozen=True)
class ProfiledRun:
    """Everything that was measured of one subject in one setting.

    Attributes:
        subject: what was measured.
        setting: where.
        graph: the traced step.
        measurements: workspaces, overheads and the optimizer's step; ``units`` is empty, see
            :attr:`units`.
        units: one row per kind of unit that could be measured.
        steps: one row per schedule.
        round: number of the pass; the same subject is measured again in another one to see how
            far the machine repeats itself.
    """

    subject: Subject
    setting: Setting
    graph: ModelGraph
    measurements: Measurements
    units: tuple[UnitRow, ...] = field(default=())
    steps: tuple[StepRow, ...] = field(default=())
    round: int = 0

    @property
    def measured(self) -> Measurements:
        """The measurements with the times of the units."""
        return replace(self.measurements, units={row.kind: row.runs.times() for row in self.units})
