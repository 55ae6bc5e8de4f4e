from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from remora.report.colours import INSTRUCTION_COLOURS, MEMORY_COLOURS
from remora.report.content import CandidateRow, ReportContent, unit_rows
from remora.report.figures import memory_figure, timeline_figure
from remora.report.html import report_html
from remora.report.perfetto import timeline_to_perfetto
from remora.report.png import pareto_png, timeline_png
from remora.report.summary import summary_sentences, verdict_sentence
from remora.report.tables import candidates_table, verdict_table
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.schedule import Action, Group
from remora.simulator.records import Measurement, Verification

EVIL = "</script><script>alert('x')</script>[bold]"


def _names(content: ReportContent) -> list[str]:
    return [unit.name for unit in content.graph.units]


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


def test_every_kind_has_its_own_colour() -> None:
    assert set(INSTRUCTION_COLOURS) == set(InstructionKind)
    assert set(MEMORY_COLOURS) == set(MemoryKind)
    for colours in (INSTRUCTION_COLOURS, MEMORY_COLOURS):
        assert len(set(colours.values())) == len(colours)


def test_perfetto_holds_every_instruction(content: ReportContent) -> None:
    trace = timeline_to_perfetto(content.timeline, _names(content))
    json.dumps(trace)
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(slices) == len(content.timeline.events)
    end_us = max(event["ts"] + event["dur"] for event in slices)
    assert end_us == pytest.approx(content.timeline.step_time_s * 1e6)
    counters = [event for event in trace["traceEvents"] if event["ph"] == "C"]
    peak_mib = max(sum(event["args"].values()) for event in counters)
    assert peak_mib == pytest.approx(content.timeline.max_peak_bytes / 2**20)


def test_timeline_figure_draws_every_instruction(content: ReportContent) -> None:
    figure = timeline_figure(content.timeline, _names(content))
    assert sum(len(trace["x"]) for trace in figure["data"]) == len(content.timeline.events)


def test_memory_figure_stacks_up_to_the_peak(content: ReportContent) -> None:
    samples = content.timeline.memory[0]
    figure = memory_figure(samples, content.timeline.step_time_s, content.budget_bytes)
    *stacked, budget = figure["data"]
    totals = [sum(levels) for levels in zip(*(trace["y"] for trace in stacked), strict=True)]
    assert max(totals) == pytest.approx(content.timeline.max_peak_bytes / 2**30)
    assert budget["y"] == [content.budget_bytes / 2**30] * 2


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


def test_pictures_are_png_files(content: ReportContent) -> None:
    signature = b"\x89PNG\r\n\x1a\n"
    assert timeline_png(content.timeline, content.budget_bytes).startswith(signature)
    assert pareto_png([(2**30, 0.2), (2**31, 0.1)], [0.1, 0.1]).startswith(signature)


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


def test_the_summary_says_what_happens(content: ReportContent) -> None:
    text = " ".join(summary_sentences(content))
    assert content.hardware_name in text
    assert "No schedule within this budget" in text


def test_verdicts_name_the_failures(content: ReportContent) -> None:
    assert verdict_sentence(_verification(content)).startswith("verified")
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
