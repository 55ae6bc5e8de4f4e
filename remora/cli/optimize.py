"""``remora optimize``: from a model and a budget to a schedule, its report and its proof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from remora.api.closed_loop import LoopResult, check_loop
from remora.api.passes import pass_example
from remora.api.placement import build_to_measure, build_to_trace
from remora.api.plan import Plan
from remora.api.plan_figures import check_form
from remora.api.planning import (
    Progress,
    check_request,
    known_hardware,
    make_plan,
    state_variants,
)
from remora.api.variants import traced_variants
from remora.cli.console import output, print_files, print_line, progress_shown
from remora.cli.request import local_device, make_request, model_source, plain, units_of
from remora.cli.rounds import loop_request, plan_in_rounds, round_cells, write_rounds
from remora.cli.verdict import (
    print_verdict,
    raise_if_failed,
    run_verification,
    write_timeline,
    write_verdict,
)
from remora.errors import InvalidInputError
from remora.report.drawings import timeline_drawing
from remora.report.files import write_bytes
from remora.report.summary import summary_sentences
from remora.report.tables import candidates_table, cells_table
from remora.schedule.inference import Mode
from remora.tracking.registry import create
from remora.tracking.tracker import Tracker, tracked

__all__ = ["run"]

SWEEP = "sweep"


def run(config: DictConfig) -> float | None:
    """Optimize, print the table of candidates, write the files, and verify if asked to.

    Returns:
        The predicted step time in seconds; None for a sweep.

    Raises:
        RemoraError: see the exit codes.
    """
    if config.figures is not None:
        check_form(config.figures)
    if config.memory == SWEEP:
        from remora.cli.sweep import run_sweep

        run_sweep(config)
        return None
    tracker_values = plain(config.tracker)
    tracker = create(tracker_values.pop("name"), **tracker_values)
    with tracked(tracker, plain(config)):
        return _run(config, tracker)


def _run(config: DictConfig, tracker: Tracker) -> float:
    console, folder = output(), Path(config.out)
    with progress_shown() as progress:
        plan, loop = _plan(config, progress)
    print_line(console)
    if loop is not None:
        header, rows = round_cells(loop.rounds)
        console.print(cells_table(header, rows))
        print_line(console)
        tracker.log_table("rounds", header, rows)
    console.print(candidates_table(plan.content()))
    print_line(console)
    for sentence in summary_sentences(plan.content()):
        print_line(console, sentence)
    files = [*plan.save(folder), *_write_pictures(plan, folder)]
    try:
        if config.verify and loop is None:
            plan, path = _verified(config, plan, folder, console)
            files.append(path)
        elif loop is not None and plan.verification is not None:
            files += [
                write_verdict(plan.verification, folder),
                write_rounds(loop.rounds, folder),
                *loop.shards,
            ]
            print_verdict(console, plan.content(), plan.verification)
    finally:
        files.append(plan.report(folder / "report.html"))
        if config.figures is not None:
            files += plan.figures(folder, config.figures)
        print_line(console)
        print_files(console, files)
        _track(plan, files, tracker)
    if plan.verification is not None:
        raise_if_failed(plan.verification)
    return plan.estimate.step_time_s


def _plan(config: DictConfig, progress: Progress) -> tuple[Plan, LoopResult | None]:
    source = model_source(config.model)
    request = make_request(config, plain(config.agent))
    check_request(request)
    device = local_device(request)
    if config.verify and device is None:
        raise InvalidInputError(
            f"verify is true and hardware is {config.hardware.name!r}, allowed with verify=true: "
            "hardware=local, since the schedule runs on this machine"
        )
    several = loop_request(config).rounds > 1
    if several:
        check_loop(request, device is not None)
    progress.stage(f"tracing {source.name}")
    passes = request.mode == Mode.INFERENCE
    example = build_to_trace(source, device)
    example = pass_example(example) if passes else example
    units = units_of(config)
    hardware = known_hardware(request)
    traced = traced_variants(example, request, hardware, units, source.name, progress.stage)
    graph = next(iter(traced[0].graphs.values()))
    real = build_to_measure(source, graph, device)
    real = pass_example(real) if passes and real is not None else real
    problem = state_variants(traced, request, progress, real)
    if several:
        return plan_in_rounds(config, problem, request, source, example.loss, progress)
    plan = make_plan(
        problem, request, progress=progress, loss=example.loss, units=units, source=source
    )
    return plan, None


def _verified(config: DictConfig, plan: Plan, folder: Path, console: Console) -> tuple[Plan, Path]:
    assert plan.source is not None
    with progress_shown() as progress:
        progress.stage("running the schedule and the plain model")
        verification, path = run_verification(plan, plan.source, folder, config.verify_time_limit_s)
    plan = replace(plan, verification=verification)
    write_timeline(plan, folder)
    print_verdict(console, plan.content(), verification)
    return plan, path


def _write_pictures(plan: Plan, folder: Path) -> list[Path]:
    picture = folder / "timeline.png"
    timeline = write_timeline(plan, folder)
    write_bytes(picture, timeline_drawing(plan.timeline, plan.budget_bytes))
    return [timeline, picture]


def _track(plan: Plan, files: list[Path], tracker: Tracker) -> None:
    estimate = plan.estimate
    tracker.log_metrics(
        {
            "step_time_s": estimate.step_time_s,
            "peak_memory_bytes": float(estimate.peak_memory_bytes),
            "budget_bytes": float(plan.budget_bytes),
            "lower_bound_s": plan.lower_bound_s,
            "search_s": plan.search_s,
        },
        0,
    )
    columns = ("name", "step_time_s", "peak_memory_bytes", "search_s", "feasible", "chosen")
    rows = [[getattr(row, column) for column in columns] for row in plan.candidates]
    tracker.log_table("candidates", columns, rows)
    for path in files:
        if path.name in ("schedule.json", "report.html"):
            tracker.log_artifact(path.stem, path.stem, path)
