"""What ``optimize`` answers: a schedule with its predicted figures, ready to run and to keep."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from remora.api.cost_model_choice import GNN
from remora.api.passes import trace_pass
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.report.content import CandidateRow, ReportContent
from remora.report.hardware_words import state_sentence
from remora.schedule.cuts import default_pipeline
from remora.schedule.inference import Mode
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Verification
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline

if TYPE_CHECKING:
    from torch import nn

    from remora.api.model_source import ModelSource
    from remora.executor.memory.install import Handle
    from remora.executor.pipeline.rank_training import RankTraining

__all__ = ["Plan", "check_runs_here"]


@dataclass(frozen=True)
class Plan:
    """A schedule for one model, batch, hardware and budget.

    Attributes:
        problem: what was asked.
        schedule: the answer.
        estimate: its predicted step time and peak memory.
        lower_bound_s: no schedule of the problem is faster.
        candidates: what every scheduler that was tried would cost.
        agent: the scheduler that was asked.
        search_s: seconds of the search.
        units: module paths that begin units, if they were given.
        loss: the loss it was traced with; not saved to files.
        source: how to build the model again, if that is known.
        verification: the verdict of a real run, if there was one.
        cost_reason: why the cost model of the estimate was taken; empty if that is not known.
    """

    problem: Problem
    schedule: Schedule
    estimate: Estimate
    lower_bound_s: float
    candidates: tuple[CandidateRow, ...]
    agent: str
    search_s: float = 0.0
    units: tuple[str, ...] | None = None
    loss: LossFunction | None = field(default=None, compare=False)
    source: ModelSource | None = None
    verification: Verification | None = None
    cost_reason: str = ""

    @property
    def budget_bytes(self) -> int:
        """Memory budget per device."""
        return self.problem.budget_bytes

    @cached_property
    def timeline(self) -> Timeline:
        """The simulated run of the schedule."""
        return simulate(self.problem, self.schedule)

    @cached_property
    def keep_all_timeline(self) -> Timeline:
        """The simulated run of the unscheduled model, whatever the budget.

        On several devices in the pipeline that ``range`` budgets refer to, or the nearest to it.
        """
        pipeline = default_pipeline(self.problem)
        return simulate(self.problem, keep_all_schedule(self.problem.graph, pipeline))

    def apply(self, model: nn.Module) -> Handle:
        """Make ``model`` run by the schedule until ``handle.remove()``.

        Args:
            model: the module that was planned for, or one built the same way.

        Raises:
            InvalidInputError: the schedule is for several devices or micro-batches, or the model
                lacks a module that it names.
        """
        from remora.executor.memory.install import apply

        check_runs_here(self.schedule, self.problem.world_size)
        problem = self.problem
        if problem.mode is Mode.INFERENCE and model.training:
            raise InvalidInputError(
                "the model is in training mode; allowed for a plan of mode='inference': one in "
                "evaluation mode, see model.eval()"
            )
        return apply(
            model,
            problem.graph,
            self.schedule,
            problem.hardware,
            allow_lossy=problem.allow_lossy,
        )

    def on_ranks(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        loss: LossFunction | None = None,
        *,
        seed: int = 0,
    ) -> AbstractContextManager[RankTraining]:
        """Train by the schedule on the ranks that torchrun started; each process calls it.

        Args:
            model: the whole model, in host memory, or one built the same way; all ranks begin
                with the weights of rank 0. Where ranks share layers it is cut meanwhile and comes
                back untrained: ``state_dict()`` has the trained weights.
            example_inputs: a batch of one replica, of the shape that was planned for.
            loss: needed again only where the plan was loaded from files and had its own loss.
            seed: of the random operators.

        Raises:
            FileFormatError: the schedule belongs to another model or batch.
            InvalidInputError: the number of ranks does not fit the schedule, or it is one of
                inference.
        """
        from remora.executor.pipeline.rank_training import training_on_ranks

        if self.problem.mode is Mode.INFERENCE:
            raise InvalidInputError(
                "the plan is of mode='inference'; allowed on ranks: plans of training"
            )
        loss = loss or self.loss
        device_type = self.problem.hardware.device_type
        check_graph(self.schedule, model, example_inputs, loss, self.units, device_type)
        return training_on_ranks(
            model,
            example_inputs,
            loss,
            self.problem.graphs[self.schedule.pipeline.micro_batches],
            self.schedule,
            device_type,
            seed=seed,
        )

    def verify(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        loss: LossFunction | None = None,
    ) -> Verification:
        """Run plain model and schedule in this process and compare everything.

        Parameters, buffers, gradients and random state are restored afterwards.

        Args:
            model: the module that was planned for, or one built the same way.
            example_inputs: a batch of the shape that was planned for.
            loss: needed again only where the plan was loaded from files and had its own loss.

        Returns:
            One flag per possible failure; ``passed`` if none is set.

        Raises:
            FileFormatError: the schedule belongs to another model or batch.
            InvalidInputError: the schedule is for several devices or micro-batches.
        """
        from remora.executor.passes.verify import verify_pass
        from remora.executor.verify import verify

        check_runs_here(self.schedule, self.problem.world_size)
        spec = self.problem.inference
        if spec is not None:
            check_pass_graph(self.schedule, model, example_inputs, self.units)
            return verify_pass(
                model,
                example_inputs,
                self.problem.graph,
                self.schedule,
                spec,
                budget_bytes=self.budget_bytes,
                estimate=self.estimate,
            )
        loss = loss or self.loss
        check_graph(self.schedule, model, example_inputs, loss, self.units)
        return verify(
            model,
            example_inputs,
            loss,
            self.problem.graph,
            self.schedule,
            budget_bytes=self.budget_bytes,
            estimate=self.estimate,
            optimizer_name=self.problem.optimizer.name,
            allow_lossy=self.problem.allow_lossy,
        )

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write ``schedule.json``, ``estimate.json`` and ``problem.json`` into a folder.

        Returns:
            The files; ``remora.load(folder)`` reads them.
        """
        from remora.api.plan_files import save_plan

        return save_plan(self, Path(folder))

    def report(self, path: str | Path) -> Path:
        """Write the HTML report and return its path."""
        from remora.report.files import write_text
        from remora.report.html import report_html

        path = Path(path)
        write_text(path, report_html(self.content()))
        return path

    def content(self) -> ReportContent:
        """Collect what reports and tables show.

        Where the estimate corrects the simulation, so by the same factor do the figures that it
        is compared with: those of rivals, of keep-all and the lower bound are simulated.
        """
        corrected = self._correction()
        return ReportContent(
            graph=self.problem.graph,
            schedule=self.schedule,
            timeline=self.timeline,
            estimate=self.estimate,
            budget_bytes=self.budget_bytes,
            lower_bound_s=self.lower_bound_s * corrected,
            keep_all_step_time_s=self.keep_all_timeline.step_time_s * corrected,
            keep_all_peak_bytes=self.keep_all_timeline.max_peak_bytes,
            hardware_name=self.problem.hardware.name,
            agent=self.agent,
            candidates=tuple(_scaled(row, corrected) for row in self.candidates),
            verification=self.verification,
            cost_reason=self.cost_reason,
            world_size=self.problem.world_size,
            hardware_state=state_sentence(self.problem.hardware, self.problem.world_size),
            mode=self.problem.mode,
        )

    def _correction(self) -> float:
        """Estimated over simulated step time; 1 where the estimate is the simulation."""
        if self.estimate.cost_model != GNN:
            return 1.0
        return self.estimate.step_time_s / self.timeline.step_time_s


def _scaled(row: CandidateRow, factor: float) -> CandidateRow:
    if row.step_time_s is None:
        return row
    return replace(row, step_time_s=row.step_time_s * factor)


def check_runs_here(schedule: Schedule, world_size: int = 1) -> None:
    """Refuse to run a schedule in this process that needs ranks or micro-batches.

    Args:
        schedule: the one to run.
        world_size: ranks that it was planned for.

    Raises:
        InvalidInputError: it is for several devices or micro-batches.
    """
    pipeline = schedule.pipeline
    ranks = max(world_size, pipeline.num_ranks)
    if ranks > 1 or pipeline.micro_batches > 1:
        raise InvalidInputError(
            f"the schedule is for {ranks} devices and {pipeline.micro_batches} micro-batches "
            f"(pipeline {pipeline.kind.value}); allowed in this process: one device and the whole "
            "batch; plan.on_ranks() trains by it under torchrun, and 'remora verify' runs it"
        )


def check_graph(
    schedule: Schedule,
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    units: tuple[str, ...] | None,
    device_type: str | None = None,
) -> None:
    """Trace the model and refuse a schedule that was made for another one.

    The model may be elsewhere than on the type of device that it is traced for.

    Raises:
        FileFormatError: the hashes of the graphs differ.
    """
    import torch

    device = None if device_type is None else torch.device(device_type)
    degree = schedule.tensor.degree
    precisions = schedule.precision.units
    graph = trace(
        model,
        example_inputs,
        loss,
        units,
        device=device,
        tensor_degree=degree,
        precisions=precisions,
    )
    _check_hash(schedule, graph)


def check_pass_graph(
    schedule: Schedule,
    model: nn.Module,
    example_inputs: ExampleInputs,
    units: tuple[str, ...] | None,
) -> None:
    """Trace a pass of the model and refuse a schedule that was made for another one.

    Raises:
        FileFormatError: the hashes of the graphs differ.
    """
    precisions = schedule.precision.units
    _check_hash(schedule, trace_pass(model, example_inputs, units, precisions=precisions))


def _check_hash(schedule: Schedule, graph: ModelGraph) -> None:
    if graph.content_hash != schedule.graph_hash:
        raise FileFormatError(
            f"the schedule belongs to another model or batch: its graph is "
            f"{schedule.graph_hash}, this one is {graph.content_hash}"
        )
