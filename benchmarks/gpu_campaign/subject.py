"""The model that a part is about: built, traced, priced and run on demand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from benchmarks.gpu_campaign.journal import Journal, Record
from benchmarks.gpu_campaign.measuring import StepFigures, free_cached, measure, status_of
from benchmarks.gpu_campaign.parts import Part
from benchmarks.gpu_campaign.rows import graph_row, step_row
from remora.api.model_source import ModelSource, named_source
from remora.api.placement import build_on
from remora.cost_models.measurement_cache import collect_measurements
from remora.cost_models.profiled import profiled_costs
from remora.cost_models.roofline import roofline_costs
from remora.executor.memory.install import apply
from remora.executor.replay.replayer import Replayer
from remora.executor.step import TrainingStep
from remora.graph.batch import batch_of
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.hardware.hardware import Hardware
from remora.hardware.local import measure_local
from remora.hardware.measurements import Measurements
from remora.schedule.problem import OPTIMIZERS, Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate
from remora.simulator.simulate import estimate
from remora.zoo import Example

__all__ = ["Item", "NotAsked", "Subject"]

_ANY_BUDGET = 2**60
_LEAST_SPARE_BYTES = 1 << 30
_COSTS = ("prediction", "costs")


class NotAsked(Exception):  # noqa: N818 - an item that makes no sense here is no error
    """An item that is skipped; says why."""


@dataclass(frozen=True)
class Item:
    """One thing to find out.

    Attributes:
        label: unique in its section.
        run: returns the figures.
        least_s: seconds without which it is not begun.
    """

    label: str
    run: Callable[[], Mapping[str, Any]]
    least_s: float = 3.0


class Subject:
    """A model at one batch size on one device.

    Args:
        part: names the model.
        batch: samples; 0 for those of the part.
        device_type: ``cuda`` or ``cpu``.
        journal: receives rows of the dataset.
        known: records of earlier processes, by section and label.

    Attributes:
        known: grows while the part runs.
        run_as: names under which schedules were run by this process.
    """

    def __init__(
        self,
        part: Part,
        batch: int,
        device_type: str,
        journal: Journal,
        known: Mapping[tuple[str, str], Record],
    ) -> None:
        self.part = part
        self.journal = journal
        self.known = dict(known)
        self.run_as: dict[Schedule, str] = {}
        # Some functions of PyTorch ask for the number of the device.
        self.device = torch.device("cuda", 0) if device_type == "cuda" else torch.device("cpu")
        self.batch_asked = batch

    @cached_property
    def source(self) -> ModelSource:
        """How the model is built."""
        values = dict(self.part.values)
        if self.batch_asked:
            values["batch"] = self.batch_asked
        if self.part.target:
            return ModelSource(self.part.model, self.part.target, values)
        return named_source(self.part.model, values)

    @cached_property
    def example(self) -> Example:
        """The model, on the device, and a batch."""
        torch.manual_seed(0)
        return build_on(self.source, self.device.type)

    @property
    def model(self) -> nn.Module:
        """The model."""
        return self.example.model

    @cached_property
    def batch(self) -> int:
        """Samples of a step."""
        return self.batch_asked or batch_of(self.example.example_inputs)

    @cached_property
    def graph(self) -> ModelGraph:
        """The traced step."""
        graph = trace(*self.example, model_name=self.part.model)
        self.journal.rows("graphs", [graph_row(graph, self.source, self.batch)])
        return graph

    @cached_property
    def hardware(self) -> Hardware:
        """This machine; on a CPU, offloading is emulated."""
        hardware = measure_local(host_pool="emulated" if self.device.type == "cpu" else None)
        free_cached(self.device)
        return hardware

    @cached_property
    def measurements(self) -> Measurements:
        """What running the operators of the graph showed."""
        example = self.example
        replayer = Replayer(
            device=self.device,
            model=example.model,
            example_inputs=example.example_inputs,
            loss=example.loss,
        )
        free_cached(self.device)
        found = collect_measurements(
            self.graph, self.hardware, self.part.optimizer, replayer, force=True
        )
        free_cached(self.device)
        return found

    @cached_property
    def problem(self) -> Problem:
        """The planning problem without a budget.

        Costs are measured, unless a process died of measuring them before.
        """
        optimizer = OPTIMIZERS[self.part.optimizer]
        before = self.known.get(_COSTS)
        if before is not None and before.status not in ("ok", "skipped"):
            costs = roofline_costs(self.graph, self.hardware, optimizer.name)
        else:
            costs = profiled_costs(self.graph, self.hardware, self.measurements)
        return Problem(
            {1: self.graph}, {1: costs}, self.hardware, optimizer, _ANY_BUDGET, state_on_device=True
        )

    def within(self, budget_bytes: int) -> Problem:
        """The problem under a budget."""
        return replace(self.problem, budget_bytes=budget_bytes)

    def predict(self, schedule: Schedule) -> Estimate:
        """Simulate a schedule."""
        return estimate(self.problem, schedule, self.problem.cost.source)

    def run_schedule(self, section: str, label: str, schedule: Schedule) -> dict[str, Any]:
        """Predict and measure a schedule; leaves a row in the dataset whatever comes of it.

        Raises:
            NotAsked: it cannot fit on the device.
        """
        predicted = self.predict(schedule)
        self.refuse_too_large(predicted.peak_memory_bytes)
        row = {"part": self.part.name, "section": section, "label": label, "batch": self.batch}
        row |= step_row(self.problem, schedule, predicted)
        try:
            with apply(self.model, self.graph, schedule) as handle:
                found = self.measure()
                row |= {"status": "ok", "host_bytes": handle.host_peak_bytes, **found.values()}
        except Exception as error:
            row["status"] = status_of(error)
            raise
        finally:
            self.journal.rows("steps", [row])
        return {
            "predicted_step_time_s": predicted.step_time_s,
            "predicted_peak_bytes": predicted.peak_memory_bytes,
            "predicted_host_bytes": predicted.host_bytes,
            "cost_model": predicted.cost_model,
            "host_bytes": row["host_bytes"],
            "step_peak_bytes": found.step_peak_bytes,
            **found.values(),
        }

    def measure(
        self, around: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    ) -> StepFigures:
        """Measure steps of the model as it now is.

        Args:
            around: entered for every step.
        """
        example = self.example
        step = TrainingStep(
            example.model, example.example_inputs, example.loss, self.part.optimizer
        )

        def run() -> None:
            with around():
                step.run()

        free_cached(self.device)
        try:
            return measure(run, step.resident_bytes, self.device)
        finally:
            example.model.zero_grad(set_to_none=True)

    def refuse_too_large(self, peak_bytes: int) -> None:
        """Raise :class:`NotAsked` if a run of this peak has no room on the device."""
        # On a CPU the budget is the test's business.
        if self.device.type != "cuda":
            return
        free_cached(self.device)
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        room = free_bytes + torch.cuda.memory_allocated(self.device) - _LEAST_SPARE_BYTES
        if peak_bytes > room:
            raise NotAsked(f"its predicted peak is {peak_bytes} bytes, and {room} are free")


Items = Iterator[Item]
