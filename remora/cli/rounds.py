"""``remora optimize`` in several rounds: the closed loop, and its table."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

from omegaconf import DictConfig

from remora.api.closed_loop import LoopRequest, LoopResult, Round, run_loop
from remora.api.model_source import ModelSource
from remora.api.plan import Plan
from remora.api.planning import Progress, Request, cost_choice
from remora.api.verify_here import VerifyJob
from remora.api.verify_process import verify_in_process
from remora.cli.request import units_of
from remora.graph.loss import LossFunction
from remora.hardware.local import local_device_type
from remora.report.files import write_json
from remora.report.wording import duration_text
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.bounds import lower_bound_s
from remora.simulator.records import Estimate, Verification

__all__ = ["ROUNDS_NAME", "loop_request", "plan_in_rounds", "round_cells", "write_rounds"]

ROUNDS_NAME = "rounds.json"

_HEADER = ("round", "measured", "step error", "peak error", "fastest that passed")


def loop_request(config: DictConfig) -> LoopRequest:
    """Read how often to search and what to measure.

    Raises:
        InvalidInputError: a number is not allowed.
    """
    dataset = config.dataset or str(Path(config.out) / "profiled_runs")
    return LoopRequest(config.rounds, config.top_k, Path(dataset))


def plan_in_rounds(
    config: DictConfig,
    problem: Problem,
    request: Request,
    source: ModelSource,
    loss: LossFunction | None,
    progress: Progress,
) -> tuple[Plan, LoopResult]:
    """Search, measure, learn; the plan is the fastest schedule that was measured and passed.

    Raises:
        InfeasibleError: nothing fits.
        ModelRunError: nothing that ran passed.
    """
    units = units_of(config)

    def verify(schedule: Schedule, estimate: Estimate) -> Verification:
        job = VerifyJob(
            source=source,
            schedule=schedule,
            budget_bytes=problem.budget_bytes,
            estimate=estimate,
            optimizer=problem.optimizer.name,
            device_type=local_device_type(),
            units=units,
            time_limit_s=config.verify_time_limit_s,
        )
        return verify_in_process(job, config.verify_time_limit_s)

    result = run_loop(problem, request, loop_request(config), source, verify, progress)
    variant = problem.variant_of(result.schedule)
    plan = Plan(
        problem=replace(variant, variants=()) if variant.variants else variant,
        schedule=result.schedule,
        estimate=result.estimate,
        lower_bound_s=lower_bound_s(problem),
        candidates=result.candidates,
        agent=request.agent,
        search_s=result.search_s,
        units=units,
        loss=loss,
        source=source,
        cost_reason=cost_choice(request, problem.hardware).reason,
    )
    return replace(plan, verification=result.verification), result


def round_cells(rounds: tuple[Round, ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the table of rounds."""
    return _HEADER, [
        (
            str(one.number),
            f"{one.measured}" + (f", {one.failed} failed" if one.failed else ""),
            _share(one.step_error),
            _share(one.peak_error),
            "-" if math.isinf(one.best_s) else duration_text(one.best_s),
        )
        for one in rounds
    ]


def write_rounds(rounds: tuple[Round, ...], folder: Path) -> Path:
    """Write ``rounds.json`` into a folder and return its path."""
    path = folder / ROUNDS_NAME
    # JSON has neither NaN nor infinity.
    values = [
        {key: value if math.isfinite(value) else None for key, value in asdict(one).items()}
        for one in rounds
    ]
    write_json(path, {"version": 1, "rounds": values})
    return path


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.1%}"
