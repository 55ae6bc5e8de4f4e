"""``remora optimize memory=sweep``: the Pareto front of step time over memory budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from remora.api.budget import Budget, BudgetKind
from remora.api.passes import pass_example
from remora.api.placement import build_to_trace
from remora.api.plan import Plan
from remora.api.planning import Progress, check_request, make_plan, state_variants
from remora.api.problem import with_budget
from remora.api.variants import traced_variants
from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import local_device, make_request, model_source, plain, units_of
from remora.errors import InvalidInputError
from remora.report.charts import front_drawing
from remora.report.files import write_bytes, write_json, write_text
from remora.report.front_page import front_html
from remora.report.tables import cells_table
from remora.report.wording import bytes_text, duration_text, overhead_text
from remora.schedule.inference import Mode

__all__ = ["run_sweep"]

_POINTS = tuple(step / 7 for step in range(8))


def run_sweep(config: DictConfig) -> None:
    """Plan for eight budgets from the smallest peak to keep-all; print and draw the front.

    Raises:
        InvalidInputError: verify=true, which asks for one budget.
    """
    if config.verify:
        raise InvalidInputError("verify is true, allowed with memory=sweep: false")
    console, folder = output(), Path(config.out)
    with progress_shown() as progress:
        plans = _plans(config, progress)
    run_name = "step" if config.mode == Mode.TRAIN else "pass"
    header = ("range", "budget", f"{run_name} time", "over keep all", "peak", "lower bound")
    console.print(cells_table(header, [_cells(x, p) for x, p in zip(_POINTS, plans, strict=True)]))
    points = [(plan.budget_bytes, plan.estimate.step_time_s) for plan in plans]
    bounds = [plan.lower_bound_s for plan in plans]
    report, values = folder / "report.html", folder / "pareto.json"
    files = [report, values]
    write_text(report, front_html([plan.content() for plan in plans]))
    write_json(values, {"version": 1, "points": [_point(plan) for plan in plans]})
    for form in dict.fromkeys(("png", config.figures or "png")):
        files.append(folder / f"pareto.{form}")
        write_bytes(files[-1], front_drawing(points, bounds, run_name, form))
    print_line(console)
    print_files(console, files)


def _plans(config: DictConfig, progress: Progress) -> list[Plan]:
    source = model_source(config.model)
    request = replace(make_request(config, plain(config.agent)), memory="range:1")
    check_request(request)
    progress.stage(f"tracing {source.name}")
    example = build_to_trace(source, local_device(request))
    example = pass_example(example) if request.mode == Mode.INFERENCE else example
    alone = replace(request, tensor_degree=request.tensor_degree or 1, global_batch=False)
    traced = traced_variants(example, alone, None, units_of(config), source.name)
    problem = state_variants(traced, request, progress)
    plans: list[Plan] = []
    for point in _POINTS:
        progress.stage(f"planning for range:{point:.2f}")
        budgeted = with_budget(problem, Budget(BudgetKind.RANGE, point))
        plan = make_plan(budgeted, request, source=source)
        plans.append(_no_slower(plan, plans[-1]) if plans else plan)
    return plans


def _no_slower(plan: Plan, tighter: Plan) -> Plan:
    """What fits the tighter budget fits this one too, so the front never rises."""
    if plan.estimate.step_time_s <= tighter.estimate.step_time_s:
        return plan
    return replace(plan, schedule=tighter.schedule, estimate=tighter.estimate)


def _cells(point: float, plan: Plan) -> tuple[str, ...]:
    estimate = plan.estimate
    return (
        f"{point:.2f}",
        bytes_text(plan.budget_bytes),
        duration_text(estimate.step_time_s),
        overhead_text(estimate.step_time_s, plan.keep_all_timeline.step_time_s),
        bytes_text(estimate.peak_memory_bytes),
        duration_text(plan.lower_bound_s),
    )


def _point(plan: Plan) -> dict[str, float]:
    return {
        "budget_bytes": plan.budget_bytes,
        "step_time_s": plan.estimate.step_time_s,
        "peak_memory_bytes": plan.estimate.peak_memory_bytes,
        "lower_bound_s": plan.lower_bound_s,
    }
