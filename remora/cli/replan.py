"""``remora replan``: adjust a saved plan to the hardware as it is now, and say what changes."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from remora.api.plan import Plan
from remora.api.replanning import Replanned, replan_and_compare
from remora.cli.console import output, print_files, print_line
from remora.cli.request import plain, without_none
from remora.cli.verdict import write_timeline
from remora.report.drawings import timeline_drawing
from remora.report.files import write_bytes
from remora.report.hardware_words import state_sentence
from remora.report.plan_changes import change_cells, change_sentences
from remora.report.tables import cells_table
from remora.report.wording import bytes_text, duration_text, overhead_text
from remora.simulator.records import Estimate

__all__ = ["run"]


def run(config: DictConfig) -> float:
    """Replan, print what changed and what it brings, and write the files of a plan.

    Returns:
        The predicted step time in seconds.

    Raises:
        FileFormatError: the folder is not that of a plan, or its files do not belong together.
        InvalidInputError: a value is not allowed.
        InfeasibleError: nothing fits.
    """
    result = replan_and_compare(
        config.schedule,
        config.memory,
        without_none(plain(config.hardware))["state"],
        config.scope,
        config.time_limit_s,
        config.cost_model_weights,
    )
    _print(result)
    plan, folder = result.plan, Path(config.out)
    files = [*plan.save(folder), write_timeline(plan, folder), folder / "timeline.png"]
    write_bytes(files[-1], timeline_drawing(plan.timeline, plan.budget_bytes))
    files.append(plan.report(folder / "report.html"))
    print_line(output())
    print_files(output(), files)
    return plan.estimate.step_time_s


def _print(result: Replanned) -> None:
    console, plan, before = output(), result.plan, result.before
    header, rows = change_cells(plan.problem.graph, before.schedule, plan.schedule)
    sentences = change_sentences(before.schedule, plan.schedule)
    if rows:
        console.print(cells_table(header, rows))
        print_line(console)
    for sentence in sentences or ([] if rows else ["The plan stays as it is."]):
        print_line(console, sentence)
    console.print(cells_table(("", "step time", "peak", "budget", "fits"), _figures(result)))
    print_line(console)
    state = state_sentence(plan.problem.hardware, plan.problem.world_size)
    for sentence in [*([state] if state else []), _verdict(result)]:
        print_line(console, sentence)


def _figures(result: Replanned) -> list[tuple[str, ...]]:
    plan, before = result.plan, result.before
    fits = "yes" if result.present_fits else "no"
    return [
        _cells("present plan, as it was planned", before.estimate, before, "yes"),
        _cells("present plan, now", result.present, plan, fits),
        _cells("new plan, now", plan.estimate, plan, "yes"),
    ]


def _cells(name: str, estimate: Estimate, plan: Plan, fits: str) -> tuple[str, ...]:
    return (
        name,
        duration_text(estimate.step_time_s),
        bytes_text(estimate.peak_memory_bytes),
        bytes_text(plan.budget_bytes),
        fits,
    )


def _verdict(result: Replanned) -> str:
    took = f"Replanned in {duration_text(result.replan_s)}."
    if not result.present_fits:
        missing = result.present.peak_bound_bytes - result.plan.budget_bytes
        return f"{took} The present plan no longer fits: it lacks {bytes_text(missing)}."
    if result.plan.schedule == result.before.schedule:
        return f"{took} No other plan was found that is worth a change."
    slower = overhead_text(result.present.step_time_s, result.plan.estimate.step_time_s)
    return f"{took} Without it a step would take {slower} more time than it has to."
