"""The few figures at the top of a report."""

from __future__ import annotations

import math

from remora.report.content import ReportContent
from remora.report.html_parts import Tile
from remora.report.wording import bytes_text, compared_text, duration_text, percent_text
from remora.schedule.inference import Mode
from remora.simulator.shares import bubble_share

__all__ = ["headline"]


def headline(content: ReportContent) -> list[Tile]:
    """Return time, memory, distance from the bound, waiting where ranks wait, and the verdict."""
    found = [_time(content), *_throughput(content), _peak(content), _bound(content)]
    if len(content.timeline.peak_bytes) > 1:
        idle = bubble_share(content.timeline)
        found.append(Tile("Ranks idle", percent_text(idle), f"of the {content.run_name}", "", idle))
    return [*found, _verdict(content)]


def _time(content: ReportContent) -> Tile:
    estimate = content.estimate
    compared = compared_text(estimate.step_time_s, content.keep_all_step_time_s)
    name = f"{content.run_name.capitalize()} time, predicted"
    return Tile(name, duration_text(estimate.step_time_s), f"{compared} keeping all")


def _throughput(content: ReportContent) -> list[Tile]:
    estimate = content.estimate
    if estimate.latency_s is None or estimate.sequences_per_s is None:
        return []
    latency = f"first output after {duration_text(estimate.latency_s)}"
    return [Tile("Sequences per second", f"{estimate.sequences_per_s:.4g}", latency)]


def _peak(content: ReportContent) -> Tile:
    estimate, budget = content.estimate, content.budget_bytes
    share = estimate.peak_memory_bytes / budget if budget else math.inf
    over = estimate.peak_bound_bytes > budget
    beside = f"{percent_text(share)} of the budget of {bytes_text(budget)}"
    what = "Peak memory per device" if content.world_size > 1 else "Peak memory"
    figure = bytes_text(estimate.peak_memory_bytes)
    return Tile(f"{what}, predicted", figure, beside, "bad" if over else "", share)


def _bound(content: ReportContent) -> Tile:
    bound_s, step_s = content.lower_bound_s, content.estimate.step_time_s
    if math.isinf(bound_s) or bound_s <= 0:
        return Tile("Room left", "-", "no schedule fits" if bound_s > 0 else "no bound known")
    room = max(0.0, 1 - bound_s / step_s)
    beside = f"at most: none takes less than {duration_text(bound_s)}"
    return Tile("Room for better plans", percent_text(room), beside)


def _verdict(content: ReportContent) -> Tile:
    verification = content.verification
    if verification is None:
        return Tile("Real run", "not yet", "see remora verify")
    if not verification.passed:
        names = ", ".join(flag.replace("_", " ") for flag in verification.failures)
        return Tile("Real run", "failed", names, "bad")
    measured = verification.measurement
    same = "same results" if content.mode is Mode.TRAIN else "same outputs"
    beside = (
        f"{same}; {duration_text(measured.step_time_s)}, {bytes_text(measured.peak_memory_bytes)}"
    )
    return Tile("Real run", "verified", beside, "good")
