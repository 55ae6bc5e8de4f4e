"""Contents of reports, made from a small plan and runs made by hand."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from remora.report.content import ReportContent
from remora.schedule.menu import keep_option
from remora.schedule.schedule import PipelinePlan
from remora.simulator.records import Measurement, Verification
from remora.simulator.timeline import Timeline
from tests.report.runs import GIB


def verification_of(content: ReportContent, **flags: bool) -> Verification:
    """A verdict on a run that took a tenth longer than predicted."""
    measurement = Measurement(
        content.estimate.step_time_s * 1.1, (1.0,), content.estimate.peak_memory_bytes, "cpu"
    )
    names = (
        "loss_differs",
        "gradients_differ",
        "buffers_differ",
        "random_state_differs",
        "over_budget",
        "over_bound",
        "time_off",
        "run_failed",
    )
    values = {name: flags.get(name, False) for name in names}
    return Verification(
        **values, worst_gradient="", max_gradient_difference=0.0, measurement=measurement
    )


def drawn_as(content: ReportContent, run: Timeline, plan: PipelinePlan) -> ReportContent:
    """The content with another run; its units are repeated as often as the run needs."""
    count = 1 + max(event.instruction.unit for event in run.events)
    originals = content.graph.units[:-1]
    units = tuple(
        dataclasses.replace(originals[i % len(originals)], index=i, name=f"part.{i}")
        for i in range(count)
    )
    memory = dataclasses.replace(
        content.schedule.memory, options=tuple(keep_option(unit) for unit in units)
    )
    return dataclasses.replace(
        content,
        graph=dataclasses.replace(content.graph, units=units),
        schedule=dataclasses.replace(content.schedule, memory=memory, pipeline=plan),
        timeline=run,
        budget_bytes=3 * GIB,
    )


def drawn_data(page: str) -> dict[str, Any]:
    """What the scripts of a page draw."""
    text = page.split("\ndrawAll(")[1].split(");\n</script>", maxsplit=1)[0]
    assert "<" not in text
    data: dict[str, Any] = json.loads(text)
    return data
