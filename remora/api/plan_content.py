"""What a plan shows in reports and tables."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from remora.api.alternatives import Planned, choices_of
from remora.api.cost_model_choice import GNN
from remora.report.content import CandidateRow, ReportContent
from remora.report.hardware_words import state_sentence

if TYPE_CHECKING:
    from remora.api.plan import Plan

__all__ = ["content_of", "explained_content_of"]


def content_of(plan: Plan) -> ReportContent:
    """Collect the figures of a plan; see :meth:`remora.api.plan.Plan.content`."""
    corrected = _correction(plan)
    problem, unscheduled = plan.problem, plan.keep_all_timeline
    return ReportContent(
        graph=problem.graph,
        schedule=plan.schedule,
        timeline=plan.timeline,
        estimate=plan.estimate,
        budget_bytes=plan.budget_bytes,
        lower_bound_s=plan.lower_bound_s * corrected,
        keep_all_step_time_s=unscheduled.step_time_s * corrected,
        keep_all_peak_bytes=unscheduled.max_peak_bytes,
        hardware_name=problem.hardware.name,
        agent=plan.agent,
        candidates=tuple(_scaled(row, corrected) for row in plan.candidates),
        verification=plan.verification,
        cost_reason=plan.cost_reason,
        world_size=problem.world_size,
        hardware_state=state_sentence(problem.hardware, problem.world_size),
        mode=problem.mode,
    )


def explained_content_of(plan: Plan) -> ReportContent:
    """Collect the same and the alternatives of every unit."""
    planned = Planned(
        plan.problem,
        plan.schedule,
        plan.timeline,
        plan.estimate.peak_bound_bytes,
        _correction(plan),
    )
    return replace(content_of(plan), choices=choices_of(planned))


def _correction(plan: Plan) -> float:
    """Estimated over simulated step time; 1 where the estimate is the simulation."""
    if plan.estimate.cost_model != GNN:
        return 1.0
    return plan.estimate.step_time_s / plan.timeline.step_time_s


def _scaled(row: CandidateRow, factor: float) -> CandidateRow:
    if row.step_time_s is None:
        return row
    return replace(row, step_time_s=row.step_time_s * factor)
