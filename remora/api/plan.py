"""What ``optimize`` answers: a schedule with its predicted figures, ready to run and to keep."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from remora.graph.loss import ExampleInputs, LossFunction
from remora.report.content import CandidateRow, ReportContent
from remora.schedule.cuts import default_pipeline
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
    from remora.executor.pipeline.passes.serving import RankServing
    from remora.executor.pipeline.rank_training import RankTraining

__all__ = ["Plan"]


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
        from remora.api.plan_runs import apply_plan

        return apply_plan(self, model)

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
        from remora.api.plan_runs import train_on_ranks

        return train_on_ranks(self, model, example_inputs, loss, seed)

    def serve_on_ranks(
        self, model: nn.Module, example_inputs: ExampleInputs, *, seed: int = 0
    ) -> AbstractContextManager[RankServing]:
        """Run passes by the schedule on the ranks that torchrun started; each process calls it.

        Args:
            model: the whole model, in host memory, or one built the same way; all ranks have the
                weights of rank 0. Its stages of this rank move to its device.
            example_inputs: a batch of one pipeline, of the shape that was planned for.
            seed: of the random operators.

        Raises:
            FileFormatError: the schedule belongs to another model or batch.
            InvalidInputError: the number of ranks does not fit the schedule, or it is one of
                training.
        """
        from remora.api.plan_runs import serve_on_ranks

        return serve_on_ranks(self, model, example_inputs, seed)

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
        from remora.api.plan_runs import verify_plan

        return verify_plan(self, model, example_inputs, loss)

    def save(self, folder: str | Path) -> tuple[Path, ...]:
        """Write ``schedule.json``, ``estimate.json`` and ``problem.json`` into a folder.

        Returns:
            The files; ``remora.load(folder)`` reads them.
        """
        from remora.api.plan_files import save_plan

        return save_plan(self, Path(folder))

    def report(self, path: str | Path, verification: Verification | None = None) -> Path:
        """Write the HTML report and return its path.

        Args:
            path: of the file.
            verification: what :meth:`verify` returned, to be shown beside what is predicted; None
                for the plan's own, if it has one.
        """
        from remora.report.files import write_text
        from remora.report.html import report_html

        shown = self if verification is None else replace(self, verification=verification)
        path = Path(path)
        write_text(path, report_html(shown.explained_content()))
        return path

    def __repr__(self) -> str:
        """The plan in one line; its records are large."""
        graph, pipeline = self.problem.graph, self.schedule.pipeline
        return (
            f"Plan({graph.model_name or 'model'}, {len(graph.units)} units, "
            f"{pipeline.num_ranks} ranks, {pipeline.micro_batches} micro-batches, "
            f"step_time_s={self.estimate.step_time_s:.4g}, "
            f"peak_memory_bytes={self.estimate.peak_memory_bytes}, "
            f"budget_bytes={self.budget_bytes}, agent={self.agent!r})"
        )

    def figures(self, folder: str | Path, form: str = "svg") -> tuple[Path, ...]:
        """Write the pictures of the report as single files, for papers and slides.

        Args:
            folder: where they go.
            form: ``svg``, ``pdf`` or ``png``.

        Returns:
            The files: ``pipeline``, ``memory`` and ``units``; after a recorded real run
            ``measured``, too.

        Raises:
            InvalidInputError: there is no such form.
        """
        from remora.api.plan_figures import write_figures

        return write_figures(self.explained_content(), Path(folder), form)

    def explained_content(self) -> ReportContent:
        """Collect what the report shows: :meth:`content`, and the alternatives of every unit."""
        from remora.api.plan_content import explained_content_of

        return explained_content_of(self)

    def content(self) -> ReportContent:
        """Collect what reports and tables show.

        Where the estimate corrects the simulation, so by the same factor do the figures that it
        is compared with: those of rivals, of keep-all and the lower bound are simulated.
        """
        from remora.api.plan_content import content_of

        return content_of(self)
