from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console

from remora.report.content import CandidateRow, ReportContent, unit_rows
from remora.report.html import report_html
from remora.report.summary import summary_sentences
from remora.report.tables import candidates_table, verdict_table
from remora.report.verdict_words import verdict_sentence
from remora.report.wording import percent_text
from remora.schedule.menu import keep_all_schedule, recompute_option
from remora.schedule.schedule import (
    Action,
    Group,
    MemoryPlan,
    PipelineKind,
    PipelinePlan,
    UnitOption,
)
from remora.simulator.shares import bubble_share, overlap_share
from remora.simulator.timeline import Timeline
from tests.report.contents import drawn_as, drawn_data, verification_of
from tests.report.runs import pipeline_run

EVIL = "</script><script>alert('x')</script>[bold]"


@pytest.fixture(scope="module")
def run() -> Timeline:
    return pipeline_run(ranks=4, micro_batches=6, units=2, offload=True)


@pytest.fixture(scope="module")
def piped(content: ReportContent, run: Timeline) -> ReportContent:
    return drawn_as(content, run, PipelinePlan(PipelineKind.ONE_F_ONE_B, (2, 4, 6), 1, 6))


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
    assert all(link.startswith("#") for link in parser.outside)
    assert "<script>alert" not in page


def test_the_page_shows_budget_candidates_and_verdict(content: ReportContent) -> None:
    verified = dataclasses.replace(content, verification=verification_of(content))
    text = re.sub(r"<script>.*?</script>", "", report_html(verified), flags=re.DOTALL)
    for row in content.candidates:
        assert row.name in text
    assert "verified: loss, gradients" in text
    assert "Predicted and measured" in text
    assert "Predicted and measured" not in report_html(content).split("<body>")[1]


def test_tables_show_names_as_they_are(content: ReportContent) -> None:
    rows = (
        CandidateRow("[red]odd", 0.1, 2**20, 0.5, True, chosen=True),
        CandidateRow("none", None, None, 0.5, False, note="does not fit"),
    )
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(candidates_table(dataclasses.replace(content, candidates=rows)))
    console.print(verdict_table(content, verification_of(content)))
    text = console.export_text()
    assert "[red]odd *" in text
    assert "does not fit" in text
    assert "+10.0 %" in text
    console.file.close()


def test_the_page_shows_every_rank_and_stage(piped: ReportContent) -> None:
    page = report_html(piped)
    text = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert "Pipeline 1F1B: 4 ranks, 4 stages" in text
    assert "part.2 to part.3" in text
    assert "idle for" in text
    data = drawn_data(page)
    assert len(data["memory"]["ranks"]) == 4
    assert {row["rank"] for row in data["gantt"]["lanes"][0]["rows"]} == {0, 1, 2, 3}


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
    assert verdict_sentence(verification_of(content)).startswith("verified")
    lossy = dataclasses.replace(verification_of(content), detail="3 saved tensors were compressed")
    noted = verdict_sentence(lossy)
    assert noted.endswith("Note: 3 saved tensors were compressed.")
    late = verdict_sentence(verification_of(content, time_off=True))
    assert late.startswith("verified")
    assert "outside the tolerance" in late
    failed = verdict_sentence(verification_of(content, gradients_differ=True, over_budget=True))
    assert failed == "FAILED: gradients differ, over budget."


def test_units_are_described_with_their_groups(content: ReportContent) -> None:
    groups = (Group(1, 4, Action.OFFLOAD, (Group(2, 4),)),)
    memory = dataclasses.replace(content.schedule.memory, groups=groups)
    rows = unit_rows(content.graph, dataclasses.replace(content.schedule, memory=memory))
    assert rows[2].groups == ("1-3 (offloaded checkpoint)", "2-3")
    assert rows[0].groups == ()
