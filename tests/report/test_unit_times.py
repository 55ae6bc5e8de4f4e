"""A measured run beside the predicted one: in a table, in the page, in the trace."""

from __future__ import annotations

import dataclasses
import json

import pytest

from remora.report.content import ReportContent
from remora.report.html import report_html
from remora.report.perfetto import timeline_to_perfetto
from remora.report.unit_times import unit_time_cells, unit_times
from remora.schedule.program import InstructionKind
from remora.simulator.records import Measurement, Verification
from remora.simulator.timeline import TimedInstruction, Timeline
from tests.report.runs import pipeline_run

MEASURED = Measurement(1.0, (1.0,), 100, "test")


def _slower(run: Timeline, kind: InstructionKind, times: float) -> Timeline:
    """The same run, with one kind of work that takes longer; no kinds of memory."""

    def event(one: TimedInstruction) -> TimedInstruction:
        if one.instruction.kind is not kind:
            return one
        length_s = one.end_s - one.start_s
        return dataclasses.replace(one, end_s=one.start_s + times * length_s)

    memory = tuple(
        tuple(dataclasses.replace(sample, by_kind={}) for sample in samples)
        for samples in run.memory
    )
    events = tuple(event(one) for one in run.events)
    return dataclasses.replace(run, events=events, memory=memory)


@pytest.fixture(scope="module")
def simulated() -> Timeline:
    return pipeline_run(ranks=2, micro_batches=4, offload=True)


@pytest.fixture(scope="module")
def measured(simulated: Timeline) -> Timeline:
    return _slower(simulated, InstructionKind.BACKWARD, 1.5)


def _verified(measured: Timeline) -> Verification:
    flags = (False,) * 8
    return Verification(*flags, "", 0.0, MEASURED, timeline=measured)


def test_times_of_all_micro_batches_are_added(simulated: Timeline, measured: Timeline) -> None:
    pairs = unit_times(simulated, measured)
    units = {event.instruction.unit for event in simulated.events} - {-1}
    assert {unit for unit, _ in pairs} == units
    for (unit, column), pair in pairs.items():
        times = 1.5 if column == "backward" else 1.0
        assert pair.measured_s == pytest.approx(times * pair.predicted_s)
        if column == "forward":
            forwards = [
                e.end_s - e.start_s
                for e in simulated.events
                if e.instruction.unit == unit and e.instruction.kind is InstructionKind.FORWARD
            ]
            assert len(forwards) == 4
            assert pair.predicted_s == pytest.approx(sum(forwards))


def test_the_table_has_a_row_for_every_unit(simulated: Timeline, measured: Timeline) -> None:
    units = {event.instruction.unit for event in simulated.events} - {-1}
    names = ["", *(f"blocks.{unit}" for unit in range(1, max(units) + 2))]
    header, rows = unit_time_cells(simulated, measured, names)
    assert header[:2] == ("unit", "name")
    assert header[-1] == "measured over predicted"
    assert [row[1] for row in rows] == ["(start)", *names[1:]]
    position = header.index("backward")
    assert " / " in rows[0][position]
    # A unit that neither run knows of.
    assert rows[-1] == (str(len(rows) - 1), names[-1], *("" for _ in header[2:-1]), "-")


def test_the_page_shows_both(content: ReportContent) -> None:
    plain = report_html(content)
    assert "measured over predicted" not in plain
    measured = _slower(content.timeline, InstructionKind.FORWARD, 2.0)
    page = report_html(dataclasses.replace(content, verification=_verified(measured)))
    assert page.count("measured over predicted</th>") == 1
    assert "Under every predicted row stands what a real run did." in page


def test_the_trace_has_both_side_by_side(simulated: Timeline, measured: Timeline) -> None:
    names = [f"blocks.{unit}" for unit in range(8)]
    trace = timeline_to_perfetto(simulated, names, measured)
    events = json.loads(json.dumps(trace, allow_nan=False))["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert processes == {
        0: "rank 0, simulated",
        1: "rank 1, simulated",
        2: "rank 0, measured",
        3: "rank 1, measured",
    }

    def slices(pid: int) -> list[tuple[str, dict[str, int]]]:
        return [(e["name"], e["args"]) for e in events if e["ph"] == "X" and e["pid"] == pid]

    assert slices(0) == slices(2) != []
    assert slices(1) == slices(3)
    counters = {(e["pid"], e["name"]) for e in events if e["ph"] == "C"}
    assert (0, "memory by kind (MiB)") in counters
    assert (2, "memory by kind (MiB)") not in counters
    totals = [e["args"]["total"] for e in events if e["name"].startswith("memory total")]
    assert len(set(totals)) > 1
