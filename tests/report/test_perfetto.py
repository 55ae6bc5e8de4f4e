"""The trace must be what the viewers expect: see the format's page in the module."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import defaultdict
from typing import Any

import pytest

from remora.report.content import ReportContent
from remora.report.perfetto import timeline_to_perfetto
from remora.schedule.program import InstructionKind, Stream
from remora.schedule.schedule import PipelineKind
from remora.simulator.timeline import Timeline
from tests.report.runs import GIB, pipeline_run

NAMES = [f"blocks.{unit}" for unit in range(8)]


@pytest.fixture(scope="module")
def run() -> Timeline:
    return pipeline_run(ranks=4, micro_batches=5, offload=True)


@pytest.fixture(scope="module")
def events(run: Timeline) -> list[dict[str, Any]]:
    trace = json.loads(json.dumps(timeline_to_perfetto(run, NAMES), allow_nan=False))
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    return trace["traceEvents"]


def of_phase(events: list[dict[str, Any]], *phases: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] in phases]


def test_every_event_has_what_the_format_asks_for(events: list[dict[str, Any]]) -> None:
    for event in events:
        assert event["ph"] in "MXCsf"
        assert isinstance(event["name"], str)
        assert all(isinstance(event[field], int) for field in ("pid", "tid"))
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] == "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())


def test_slices_say_unit_stage_and_micro_batch(run: Timeline, events: list[dict[str, Any]]) -> None:
    slices = of_phase(events, "X")
    assert len(slices) == len(run.events)
    for event, drawn in zip(run.events, slices, strict=True):
        instruction = event.instruction
        assert drawn["pid"] == instruction.rank
        assert drawn["args"].get("stage", -1) == instruction.stage
        assert drawn["args"].get("micro_batch", -1) == instruction.micro_batch
        assert drawn["args"].get("unit", -1) == instruction.unit
        if instruction.unit >= 0:
            assert NAMES[instruction.unit] in drawn["name"]
        assert drawn["ts"] == pytest.approx(event.start_s * 1e6, abs=1e-3)
        assert drawn["dur"] == pytest.approx((event.end_s - event.start_s) * 1e6, abs=2e-3)


def test_slices_of_a_thread_follow_each_other_to_the_nanosecond(run: Timeline) -> None:
    # Thirds of a nanosecond make rounding start and length apart overlap.
    odd = dataclasses.replace(
        run,
        events=tuple(
            dataclasses.replace(e, start_s=e.start_s * 1.3337e-5, end_s=e.end_s * 1.3337e-5)
            for e in run.events
        ),
    )
    threads: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in of_phase(timeline_to_perfetto(odd, NAMES)["traceEvents"], "X"):
        start = round(event["ts"] * 1e3)
        threads[event["pid"], event["tid"]].append((start, start + round(event["dur"] * 1e3)))
    for slices in threads.values():
        slices.sort()
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(slices))


def test_only_threads_in_use_are_named(run: Timeline, events: list[dict[str, Any]]) -> None:
    named = {(e["pid"], e["args"]["name"]) for e in events if e["name"] == "thread_name"}
    assert named == {(e.instruction.rank, str(e.instruction.stream)) for e in run.events}
    assert (0, "collective") not in named
    threads = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert {(e["pid"], e["tid"]) for e in of_phase(events, "X")} == threads


def test_memory_is_counted_by_kind_and_in_total(
    run: Timeline, events: list[dict[str, Any]]
) -> None:
    for rank, peak in enumerate(run.peak_bytes):
        mine = [e for e in of_phase(events, "C") if e["pid"] == rank]
        kinds = [e["args"] for e in mine if e["name"] == "memory by kind (MiB)"]
        totals = [e["args"]["total"] for e in mine if e["name"] == "memory total (MiB)"]
        assert [sum(args.values()) for args in kinds] == pytest.approx(totals)
        assert max(totals) == pytest.approx(peak / 2**20)
        assert {frozenset(args) for args in kinds} == {
            frozenset({"weights", "optimizer", "saved", "workspace"})
        }


def test_host_memory_rises_and_falls_with_the_copies(
    run: Timeline, events: list[dict[str, Any]]
) -> None:
    for rank, peak in enumerate(run.host_peak_bytes):
        levels = [
            e["args"]["pinned"]
            for e in of_phase(events, "C")
            if e["pid"] == rank and e["name"] == "host memory (MiB)"
        ]
        assert levels[0] == levels[-1] == 0
        assert max(levels) <= peak / 2**20
        assert max(levels) >= 256


def test_what_stays_on_the_host_all_step_is_counted() -> None:
    run = pipeline_run(PipelineKind.NONE, 1, 1, offload=True)
    (peak,) = run.host_peak_bytes
    run = dataclasses.replace(run, host_peak_bytes=(peak + GIB,))
    counters = [
        event["args"]["pinned"]
        for event in timeline_to_perfetto(run, NAMES)["traceEvents"]
        if event["name"] == "host memory (MiB)"
    ]
    assert counters[0] == 1024
    assert max(counters) == (peak + GIB) / 2**20


def test_arrows_lead_from_sends_to_receives(run: Timeline, events: list[dict[str, Any]]) -> None:
    starts, ends = of_phase(events, "s"), of_phase(events, "f")
    sends = sum(e.instruction.kind is InstructionKind.SEND for e in run.events)
    assert len(starts) == len(ends) == sends
    streams = tuple(Stream)
    by_id = {event["id"]: event for event in ends}
    for start in starts:
        end = by_id[start["id"]]
        assert streams[start["tid"]] is Stream.SEND
        assert streams[end["tid"]] is Stream.RECV
        assert start["pid"] != end["pid"]
        assert start["ts"] <= end["ts"]
        assert end["bp"] == "e"


def test_an_arrow_skips_a_receive_that_takes_no_time(run: Timeline) -> None:
    events = tuple(
        dataclasses.replace(e, start_s=e.end_s)
        if e.instruction.kind is InstructionKind.RECEIVE
        else e
        for e in run.events
    )
    trace = timeline_to_perfetto(dataclasses.replace(run, events=events), NAMES)["traceEvents"]
    ends = of_phase(trace, "f")
    slices = {(e["pid"], e["tid"], e["ts"]): e for e in of_phase(trace, "X")}
    assert ends
    for end in ends:
        assert slices[end["pid"], end["tid"], end["ts"]]["dur"] > 0
        assert tuple(Stream)[end["tid"]] is Stream.COMPUTE


def test_a_simulated_plan_is_written_whole(content: ReportContent) -> None:
    names = [unit.name for unit in content.graph.units]
    events = timeline_to_perfetto(content.timeline, names)["traceEvents"]
    end_us = max(event["ts"] + event["dur"] for event in of_phase(events, "X"))
    assert end_us == pytest.approx(content.timeline.step_time_s * 1e6, abs=1e-2)
