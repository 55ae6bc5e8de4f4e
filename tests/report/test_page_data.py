"""The numbers that the page draws are those of the run."""

from __future__ import annotations

import dataclasses

import pytest

from remora.report.content import ReportContent
from remora.report.gantt_data import MAX_SINGLE_INSTRUCTIONS, gantt_data
from remora.report.html import report_html
from remora.report.memory_data import memory_data
from remora.schedule.program import Stream
from remora.schedule.schedule import PipelineKind, PipelinePlan
from remora.simulator.timeline import Timeline
from tests.report.contents import drawn_as, drawn_data
from tests.report.runs import GIB, pipeline_run


@pytest.fixture(scope="module")
def run() -> Timeline:
    return pipeline_run(ranks=4, micro_batches=6, units=2, offload=True)


def test_every_instruction_is_a_box_in_the_row_of_its_stream(run: Timeline) -> None:
    data = gantt_data(run)
    (lane,) = data["lanes"]
    boxes = sorted(
        (lane["rows"][row]["rank"], lane["rows"][row]["compute"], start, length)
        for row, start, length in zip(lane["row"], lane["start"], lane["length"], strict=True)
    )
    expected = sorted(
        (
            event.instruction.rank,
            event.instruction.stream is Stream.COMPUTE,
            event.start_s * 1e3,
            (event.end_s - event.start_s) * 1e3,
        )
        for event in run.events
    )
    assert data["unit"] == "ms"
    for box, event in zip(boxes, expected, strict=True):
        assert box[:2] == event[:2]
        assert box[2:] == pytest.approx(event[2:], rel=1e-4, abs=1e-6)


def test_boxes_carry_what_is_told_of_them(run: Timeline) -> None:
    data = gantt_data(run)
    (lane,) = data["lanes"]
    names = [kind["name"] if kind else None for kind in data["kinds"]]
    forwards = [i for i, kind in enumerate(lane["kind"]) if names[kind] == "forward"]
    assert {lane["batch"][i] for i in forwards} == set(range(6))
    assert [lane["number"][i] for i in forwards] == [lane["batch"][i] for i in forwards]
    assert {lane["first"][i] for i in forwards} == set(range(8))
    assert names[lane["kind"][0]] == "forward"
    assert "gather weights" not in names


def test_one_micro_batch_is_numbered_by_unit() -> None:
    data = gantt_data(pipeline_run(PipelineKind.NONE, 1, 1, units=3))
    assert data["number"] == "unit"
    assert set(data["lanes"][0]["number"]) - {-1} == {0, 1, 2}
    assert data["lanes"][0]["rows"][0]["label"] == "compute"


def test_a_big_run_makes_a_small_page(content: ReportContent, big_run: Timeline) -> None:
    assert len(big_run.events) > MAX_SINGLE_INSTRUCTIONS
    (lane,) = gantt_data(big_run)["lanes"]
    assert len(lane["row"]) < len(big_run.events) / 1.5
    computed = sum(
        length
        for row, length in zip(lane["row"], lane["length"], strict=True)
        if lane["rows"][row]["compute"]
    )
    busy_s = sum(
        event.end_s - event.start_s
        for event in big_run.events
        if event.instruction.stream is Stream.COMPUTE
    )
    assert computed == pytest.approx(busy_s, rel=1e-3)
    plan = PipelinePlan(PipelineKind.ONE_F_ONE_B, tuple(range(4, 64, 4)), 1, 64)
    page = report_html(drawn_as(content, big_run, plan))
    assert len(page) < 3_000_000
    assert "one box per kind" in page


def test_memory_stacks_up_to_the_peak_of_its_rank(run: Timeline) -> None:
    data = memory_data(run, 3 * GIB)
    assert data["unit"] == "GiB"
    assert data["budget"] == 3.0
    assert [kind["name"] for kind in data["kinds"]] == [
        "weights",
        "optimizer",
        "saved",
        "workspace",
    ]
    for rank, peak in zip(data["ranks"], run.peak_bytes, strict=True):
        curves = [
            levels if isinstance(levels, list) else [levels] * len(rank["times"])
            for levels in rank["levels"]
        ]
        totals = [sum(levels) for levels in zip(*curves, strict=True)]
        assert max(totals) == pytest.approx(peak / GIB, rel=1e-5)
        assert sum(rank["atPeak"]) == pytest.approx(peak / GIB, rel=1e-5)
        assert rank["measured"] is None


def test_small_memory_is_told_in_small_units(content: ReportContent) -> None:
    data = memory_data(content.timeline, content.budget_bytes)
    assert data["unit"] == "MiB"
    assert sum(data["ranks"][0]["atPeak"]) == pytest.approx(
        content.timeline.max_peak_bytes / 2**20, rel=1e-5
    )


def test_a_measured_run_lies_over_the_predicted_one(run: Timeline) -> None:
    longer = dataclasses.replace(run, step_time_s=2 * run.step_time_s, peak_bytes=(4 * GIB,) * 4)
    gantt, memory = gantt_data(run, longer), memory_data(run, 3 * GIB, longer)
    assert [lane["end"] for lane in gantt["lanes"]] == [
        pytest.approx(1e3 * one.step_time_s) for one in (run, longer)
    ]
    assert memory["end"] == pytest.approx(2e3 * run.step_time_s)
    assert memory["top"] > 4
    assert memory["ranks"][0]["measuredPeak"] == "4.00 GiB"
    times, levels = memory["ranks"][0]["measured"]
    assert len(times) == len(levels) > 10
    assert max(levels) == pytest.approx(run.peak_bytes[0] / GIB, rel=1e-5)


def test_a_run_measured_without_memory_has_no_level(run: Timeline) -> None:
    blind = dataclasses.replace(run, memory=())
    assert all(rank["measured"] is None for rank in memory_data(run, GIB, blind)["ranks"])


def test_the_page_carries_the_data(content: ReportContent) -> None:
    data = drawn_data(report_html(content))
    assert data["units"] == [unit.name for unit in content.graph.units]
    assert data["plain"] == {}
