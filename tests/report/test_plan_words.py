from __future__ import annotations

import dataclasses

import pytest

from remora.report.content import ReportContent
from remora.report.plan_words import is_plain, plan_sentences, stage_cells
from remora.schedule.schedule import (
    Action,
    Group,
    PipelineKind,
    PipelinePlan,
    Placement,
    StatePlan,
)
from tests.report.runs import pipeline_run


def with_parts(
    content: ReportContent,
    pipeline: PipelinePlan | None = None,
    state: StatePlan | None = None,
    **fields: object,
) -> ReportContent:
    schedule = dataclasses.replace(
        content.schedule,
        pipeline=pipeline or content.schedule.pipeline,
        state=state or content.schedule.state,
    )
    return dataclasses.replace(content, schedule=schedule, **fields)


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (PipelinePlan(), "No pipeline: every step runs one micro-batch through the whole model."),
        (
            PipelinePlan(micro_batches=4),
            "No pipeline: every step runs 4 micro-batches through the whole model.",
        ),
        (
            PipelinePlan(PipelineKind.ONE_F_ONE_B, (2, 4, 6), 1, 8),
            "Pipeline 1F1B: 4 ranks, 4 stages, 8 micro-batches in every step.",
        ),
        (
            PipelinePlan(PipelineKind.ZERO_BUBBLE, (2, 4, 6), 2, 8),
            "Pipeline zero bubble (ZBV): 2 ranks, 4 stages, 2 on each rank, 8 micro-batches in "
            "every step.",
        ),
        (
            PipelinePlan(PipelineKind.CHIMERA, (4,), 1, 2),
            "Pipeline Chimera: 2 ranks, 2 stages, 2 micro-batches in every step; a second copy of "
            "the model runs through the ranks the other way.",
        ),
    ],
)
def test_pipelines_in_words(content: ReportContent, plan: PipelinePlan, text: str) -> None:
    assert plan_sentences(with_parts(content, plan))[0] == text


def test_every_pipeline_kind_has_a_name(content: ReportContent) -> None:
    for kind in PipelineKind:
        assert plan_sentences(with_parts(content, PipelinePlan(kind, (4,))))


def test_state_in_words(content: ReportContent) -> None:
    state = StatePlan(
        weights=Placement.HOST,
        gradients=Placement.HOST,
        optimizer=Placement.EIGHT_BIT,
        zero_stage=2,
        streamed_units=(1, 2, 3, 6),
    )
    text = " ".join(plan_sentences(with_parts(content, state=state, world_size=3)))
    assert "x 3 data-parallel replicas (d=3)." in text
    assert "Weights of 4 of 8 units (1-3, 6) wait on the host" in text
    assert "gradients move to the host" in text
    assert "optimizer state stays on the device in 8 bit" in text
    assert "Gradients and optimizer state are sharded" in text
    assert "(ZeRO 2)" in text


def test_the_pace_of_copies_is_told_where_something_is_copied(content: ReportContent) -> None:
    memory = dataclasses.replace(content.schedule.memory, groups=(Group(1, 3, Action.OFFLOAD),))
    paced = dataclasses.replace(memory, paces=((2, 1), (3, 4)))
    texts = []
    for plan in (memory, paced):
        schedule = dataclasses.replace(content.schedule, memory=plan)
        texts.append(plan_sentences(dataclasses.replace(content, schedule=schedule))[-1])
    assert texts[0].startswith("Host copies: offload window")
    assert texts[1].endswith("stage 0: 2 and 1, stage 1: 3 and 4.")


def test_stages_are_listed_with_their_units_and_ranks(content: ReportContent) -> None:
    plan = PipelinePlan(PipelineKind.ZERO_BUBBLE, (2, 4, 6), 2, 4)
    run = pipeline_run(PipelineKind.ZERO_BUBBLE, ranks=2, micro_batches=4, chunks=2)
    _, rows = stage_cells(with_parts(content, plan, timeline=run))
    names = [unit.name for unit in content.graph.units]
    assert [row[:4] for row in rows] == [
        ("0", "0", "0-1", "2"),
        ("1", "1", "2-3", "2"),
        ("2", "1", "4-5", "2"),
        ("3", "0", "6-7", "2"),
    ]
    assert rows[1][4] == f"{names[2]} to {names[3]}"


def test_a_stage_of_one_unit_is_named_once(content: ReportContent) -> None:
    plan = PipelinePlan(PipelineKind.GPIPE, (1,), 1, 4)
    _, rows = stage_cells(with_parts(content, plan, timeline=pipeline_run(ranks=2)))
    names = [unit.name for unit in content.graph.units]
    assert [row[4] for row in rows] == [names[0], f"{names[1]} to {names[7]}"]


def test_both_copies_of_chimera_are_listed(content: ReportContent) -> None:
    plan = PipelinePlan(PipelineKind.CHIMERA, (4,), 1, 2)
    run = pipeline_run(PipelineKind.CHIMERA, ranks=2, micro_batches=2, units=4)
    _, rows = stage_cells(with_parts(content, plan, timeline=run))
    assert [row[1] for row in rows] == ["0-1", "0-1"]


def test_a_plain_plan_is_known(content: ReportContent) -> None:
    schedule = content.schedule
    assert is_plain(schedule)
    for change in (
        {"pipeline": PipelinePlan(micro_batches=2)},
        {"pipeline": PipelinePlan(PipelineKind.GPIPE, (4,))},
        {"state": StatePlan(optimizer=Placement.HOST)},
    ):
        assert not is_plain(dataclasses.replace(schedule, **change))
