"""What changed between two schedules, in words."""

from __future__ import annotations

import dataclasses

from remora.agents.heuristics.space import Choice, Space
from remora.agents.heuristics.spans import Span
from remora.report.plan_changes import change_cells, change_sentences
from remora.schedule.schedule import PipelineKind, PipelinePlan, Placement, StatePlan
from tests.problems import problem_of, toy_graph

SPACE = Space(problem_of(toy_graph((64,) * 6, batch=256)))
GRAPH = SPACE.problem.graph
PLAIN = SPACE.keep_all


def test_equal_schedules_have_no_rows_and_no_sentences() -> None:
    assert change_cells(GRAPH, PLAIN, PLAIN)[1] == []
    assert change_sentences(PLAIN, PLAIN) == []


def test_neighbours_that_change_alike_share_a_row() -> None:
    choices = {unit: Choice(SPACE.recompute(unit)) for unit in (1, 2, 4)}
    changed = SPACE.with_choices(PLAIN, choices)
    _, rows = change_cells(GRAPH, PLAIN, changed)
    assert rows == [
        ("1-2", "blocks.1 ...", "keep", "recompute"),
        ("4", "blocks.4", "keep", "recompute"),
    ]
    assert change_cells(GRAPH, changed, PLAIN)[1][1] == ("4", "blocks.4", "recompute", "keep")


def test_groups_are_named_with_their_units() -> None:
    grouped = SPACE.with_parts(PLAIN, spans=[Span(1, 3)])
    alone = SPACE.with_choices(PLAIN, {2: Choice(SPACE.recompute(2), offload_checkpoint=True)})
    assert change_cells(GRAPH, PLAIN, grouped)[1][0][3] == "recompute with its group (units 1-2)"
    assert change_cells(GRAPH, PLAIN, alone)[1][0][3] == "recompute from an offloaded checkpoint"


def test_pipeline_state_and_pace_are_sentences() -> None:
    piped = SPACE.with_parts(PLAIN, pipeline=PipelinePlan(PipelineKind.ONE_F_ONE_B, (3,), 1, 4))
    moved = dataclasses.replace(piped, state=StatePlan(optimizer=Placement.HOST))
    paced = SPACE.with_parts(moved, paces=[(2, 1), (4, 2)])
    sentences = change_sentences(PLAIN, paced)
    assert sentences[0].startswith("The pipeline was none on 1 ranks")
    assert "is 1f1b on 2 ranks with 4 micro-batches and cuts before units 3" in sentences[0]
    assert sentences[1].endswith("optimizer on host after.")
    assert sentences[2].endswith("were (2, 1) and are (2, 1), (4, 2).")
