from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from remora.report.content import CandidateRow, ReportContent, unit_rows
from remora.report.figures import MAX_SINGLE_INSTRUCTIONS, memory_figure, timeline_figure
from remora.report.html import report_html
from remora.report.summary import summary_sentences, verdict_sentence
from remora.report.tables import candidates_table, verdict_table
from remora.report.wording import percent_text
from remora.schedule.menu import keep_all_schedule, keep_option, recompute_option
from remora.schedule.program import Stream
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    UnitOption,
)
from remora.simulator.records import Measurement, Verification
from remora.simulator.shares import bubble_share, overlap_share
from remora.simulator.timeline import Timeline
from tests.report.runs import GIB, pipeline_run

EVIL = "</script><script>alert('x')</script>[bold]"


def _verification(content: ReportContent, **flags: bool) -> Verification:
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


def _drawn_as(content: ReportContent, run: Timeline, plan: PipelinePlan) -> ReportContent:
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


@pytest.fixture(scope="module")
def run() -> Timeline:
    return pipeline_run(ranks=4, micro_batches=6, units=2, offload=True)


@pytest.fixture(scope="module")
def piped(content: ReportContent, run: Timeline) -> ReportContent:
    return _drawn_as(content, run, PipelinePlan(PipelineKind.ONE_F_ONE_B, (2, 4, 6), 1, 6))


def test_timeline_figure_draws_every_instruction(run: Timeline) -> None:
    figure = timeline_figure(run, [f"part.{unit}" for unit in range(8)])
    drawn = sorted(
        (start, length, row)
        for trace in figure["data"]
        for start, length, row in zip(trace["base"], trace["x"], trace["y"], strict=True)
    )
    place = dict(
        zip(
            figure["layout"]["yaxis"]["ticktext"],
            figure["layout"]["yaxis"]["tickvals"],
            strict=False,
        )
    )
    expected = sorted(
        (event.start_s * 1e3, (event.end_s - event.start_s) * 1e3) for event in run.events
    )
    assert [(start, length) for start, length, _ in drawn] == [
        (pytest.approx(start, abs=1e-4), pytest.approx(length, abs=1e-4))
        for start, length in expected
    ]
    on_rank_3 = sum(row == place["rank 3"] for *_, row in drawn)
    assert on_rank_3 == sum(
        e.instruction.rank == 3 and e.instruction.stream is Stream.COMPUTE for e in run.events
    )


def test_boxes_carry_the_micro_batch_and_tell_more_when_asked(run: Timeline) -> None:
    figure = timeline_figure(run, [f"part.{unit}" for unit in range(8)])
    forward = next(trace for trace in figure["data"] if trace["name"] == "forward")
    assert set(forward["text"]) == set("012345")
    assert forward["hovertext"][0] == " part.0<br>stage 0, micro-batch 0<br>1.00 ms"
    odd = timeline_figure(run, ["<b>"] * 8)["data"][0]["hovertext"][0]
    assert odd.startswith(" &lt;b&gt;<br>")
    send = next(trace for trace in figure["data"] if trace["name"] == "send")
    assert set(send["text"]) == {""}


def test_a_big_run_makes_a_small_page(content: ReportContent, big_run: Timeline) -> None:
    run = big_run
    assert len(run.events) > MAX_SINGLE_INSTRUCTIONS
    figure = timeline_figure(run, [f"part.{unit}" for unit in range(64)])
    bars = sum(len(trace["x"]) for trace in figure["data"])
    assert bars < len(run.events) / 1.5
    backward = next(trace for trace in figure["data"] if trace["name"] == "backward")
    assert sum(backward["x"]) == pytest.approx(16 * 64 * 4 * 2 / 1e3)  # in seconds
    first = " part.3 to part.0<br>stage 0, micro-batch 0<br>8.00 ms in 4 instructions"
    assert backward["hovertext"][0] == first
    plan = PipelinePlan(PipelineKind.ONE_F_ONE_B, tuple(range(4, 64, 4)), 1, 64)
    page = report_html(_drawn_as(content, run, plan))
    assert len(page) - len(report_html(content)) < 2_000_000
    assert "one box per kind" in page


def test_memory_figures_stack_up_to_the_peak_of_their_rank(run: Timeline) -> None:
    for rank, peak in enumerate(run.peak_bytes):
        figure = memory_figure(run, rank, 3 * GIB)
        *stacked, budget = figure["data"]
        totals = [sum(levels) for levels in zip(*(trace["y"] for trace in stacked), strict=True)]
        assert max(totals) == pytest.approx(peak / GIB)
        assert budget["y"] == [3.0, 3.0]
        assert [trace["name"] for trace in stacked] == [
            "weights",
            "optimizer",
            "saved",
            "workspace",
        ]


def test_small_memory_is_shown_in_small_units(content: ReportContent) -> None:
    figure = memory_figure(content.timeline, 0, content.budget_bytes)
    *stacked, _ = figure["data"]
    totals = [sum(levels) for levels in zip(*(trace["y"] for trace in stacked), strict=True)]
    assert figure["layout"]["yaxis"]["title"]["text"] == "MiB"
    assert max(totals) == pytest.approx(content.timeline.max_peak_bytes / 2**20, rel=1e-5)


class _Scripts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.scripts = 0
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.outside += [str(v) for k, v in attrs if k in ("src", "href")]


def test_the_page_is_self_contained_and_escapes_names(content: ReportContent) -> None:
    units = tuple(dataclasses.replace(unit, name=EVIL) for unit in content.graph.units)
    graph = dataclasses.replace(content.graph, model_name=EVIL, units=units)
    row = CandidateRow(EVIL, None, None, 0.0, False, note=EVIL)
    evil = dataclasses.replace(content, graph=graph, hardware_name=EVIL, candidates=(row,))
    page = report_html(evil)
    parser = _Scripts()
    parser.feed(page)
    assert parser.scripts == 2
    assert parser.outside == []
    assert "<script>alert" not in page


def test_the_page_shows_budget_candidates_and_verdict(content: ReportContent) -> None:
    verified = dataclasses.replace(content, verification=_verification(content))
    text = re.sub(r"<script>.*?</script>", "", report_html(verified), flags=re.DOTALL)
    for row in content.candidates:
        assert row.name in text
    assert "verified: loss, gradients" in text
    assert "Measured" in text
    assert "Measured" not in report_html(content).split("<body>")[1]


def test_tables_show_names_as_they_are(content: ReportContent) -> None:
    rows = (
        CandidateRow("[red]odd", 0.1, 2**20, 0.5, True, chosen=True),
        CandidateRow("none", None, None, 0.5, False, note="does not fit"),
    )
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(candidates_table(dataclasses.replace(content, candidates=rows)))
    console.print(verdict_table(content, _verification(content)))
    text = console.export_text()
    assert "[red]odd *" in text
    assert "does not fit" in text
    assert "+10.0 %" in text
    console.file.close()


def test_the_page_shows_every_rank_and_stage(piped: ReportContent) -> None:
    page = report_html(piped)
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    for rank in range(4):
        assert f"rank {rank}: peak" in text
        assert f'id="memory-{rank}"' in text
    assert "Pipeline 1F1B: 4 ranks, 4 stages" in text
    assert "part.2 to part.3" in text
    assert "idle for" in text
    data = page.split("const figures = ")[1].split(";\n")[0]
    assert "<" not in data
    figures = json.loads(data)
    assert set(figures) == {"timeline", "memory-0", "memory-1", "memory-2", "memory-3"}


def test_the_summary_says_what_happens(content: ReportContent) -> None:
    text = " ".join(summary_sentences(content))
    assert content.hardware_name in text
    assert "No schedule within this budget" in text
    assert "Pipeline" not in text
    assert "idle" not in text


def test_the_summary_tells_how_long_ranks_wait_and_what_is_hidden(piped: ReportContent) -> None:
    text = " ".join(summary_sentences(piped))
    share = percent_text(bubble_share(piped.timeline))
    assert f"compute is idle for {share} of the step" in text
    overlap = overlap_share(piped.timeline)
    assert overlap is not None
    assert f"{percent_text(overlap)} of the time of host copies is hidden" in text
    assert "of messages and collectives is hidden" in text
    assert "Pipeline 1F1B" in text
    assert "Pipeline 1F1B" not in " ".join(summary_sentences(piped, with_plan=False))


def test_units_are_counted_once_whatever_their_mix(content: ReportContent) -> None:
    graph = content.graph
    options = list(keep_all_schedule(graph).memory.options)
    options[1] = recompute_option(graph.units[1])
    mixed = [Action.RECOMPUTE if i % 2 else Action.OFFLOAD for i in range(len(options[2].actions))]
    names = (name for name, _ in options[2].actions)
    options[2] = UnitOption(tuple(zip(names, mixed, strict=True)))
    memory = MemoryPlan(tuple(options), groups=(Group(3, 5),))
    schedule = dataclasses.replace(content.schedule, memory=memory)
    text = " ".join(summary_sentences(dataclasses.replace(content, schedule=schedule)))
    assert "4 units are kept, 3 recomputed (1 groups), 0 offloaded, 1 with several actions." in text


def test_verdicts_name_the_failures(content: ReportContent) -> None:
    assert verdict_sentence(_verification(content)).startswith("verified")
    lossy = dataclasses.replace(_verification(content), detail="3 saved tensors were compressed")
    noted = verdict_sentence(lossy)
    assert noted.endswith("Note: 3 saved tensors were compressed.")
    late = verdict_sentence(_verification(content, time_off=True))
    assert late.startswith("verified")
    assert "outside the tolerance" in late
    failed = verdict_sentence(_verification(content, gradients_differ=True, over_budget=True))
    assert failed == "FAILED: gradients differ, over budget."


def test_units_are_described_with_their_groups(content: ReportContent) -> None:
    groups = (Group(1, 4, Action.OFFLOAD, (Group(2, 4),)),)
    memory = dataclasses.replace(content.schedule.memory, groups=groups)
    rows = unit_rows(content.graph, dataclasses.replace(content.schedule, memory=memory))
    assert rows[2].groups == ("1-3 (offloaded checkpoint)", "2-3")
    assert rows[0].groups == ()
