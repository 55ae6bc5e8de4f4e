"""PNG pictures, looked at pixel by pixel."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter

import pytest
from PIL import Image

from remora.report.arrangement import pipeline_picture
from remora.report.charts import front_drawing
from remora.report.colours import IDLE_COLOUR, INSTRUCTION_STYLES, MEMORY_COLOURS
from remora.report.content import ReportContent
from remora.report.drawings import memory_drawing, pipeline_drawing, timeline_drawing
from remora.schedule.program import InstructionKind, MemoryKind, Stream
from remora.schedule.schedule import PipelineKind
from remora.simulator.shares import bubble_share
from remora.simulator.timeline import Timeline
from tests.report.runs import GIB, pipeline_run

K = InstructionKind


def pixels(png: bytes) -> Counter[str]:
    image = Image.open(io.BytesIO(png)).convert("RGB")
    counted = image.getcolors(image.width * image.height)
    assert counted is not None
    return Counter({"#{:02X}{:02X}{:02X}".format(*rgb): count for count, rgb in counted})


def size(png: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(png)).size


def of_every_kind() -> Timeline:
    """A run on one rank in which each kind of instruction runs for some time."""
    streams = {K.STORE_GRADIENTS: Stream.D2H, K.LOAD_WEIGHTS: Stream.H2D, K.SEND: Stream.SEND}
    run = pipeline_run(PipelineKind.NONE, 1, 1, units=len(K), recompute=False)
    events = tuple(
        dataclasses.replace(
            event,
            instruction=dataclasses.replace(
                event.instruction, kind=kind, stream=streams.get(kind, Stream.COMPUTE)
            ),
        )
        for kind, event in zip(K, run.events, strict=False)
    )
    return dataclasses.replace(run, events=events)


def test_every_kind_of_work_is_drawn_in_its_colour() -> None:
    seen = pixels(pipeline_drawing(of_every_kind()))
    for kind, style in INSTRUCTION_STYLES.items():
        assert seen[style.colour] > 150, kind


def test_areas_are_in_proportion_to_time() -> None:
    run = pipeline_run(ranks=4, micro_batches=8, units=1, recompute=True)
    seen = pixels(pipeline_drawing(run))
    forward = seen[INSTRUCTION_STYLES[K.FORWARD].colour]
    backward = seen[INSTRUCTION_STYLES[K.BACKWARD].colour]
    recompute = seen[INSTRUCTION_STYLES[K.RECOMPUTE].colour]
    # Labels and outlines take some of every box.
    assert backward / forward == pytest.approx(2, rel=0.2)
    assert recompute / forward == pytest.approx(1, rel=0.2)
    idle = seen[IDLE_COLOUR]
    assert idle / (idle + forward + backward + recompute) == pytest.approx(
        bubble_share(run), abs=0.08
    )


def test_memory_is_stacked_up_in_proportion() -> None:
    run = pipeline_run(PipelineKind.NONE, 1, 2, units=4)
    seen = pixels(memory_drawing(run, 3 * GIB))
    weights, optimizer = (
        seen[MEMORY_COLOURS[kind]] for kind in (MemoryKind.WEIGHTS, MemoryKind.OPTIMIZER)
    )
    assert optimizer / weights == pytest.approx(2, rel=0.05)
    assert seen[MEMORY_COLOURS[MemoryKind.GRADIENTS]] == 0


def test_the_budget_line_is_drawn_where_it_can_be_seen() -> None:
    run = pipeline_run(PipelineKind.NONE, 1, 2, units=4)
    near, far = (pixels(memory_drawing(run, budget))["#000000"] for budget in (3 * GIB, 300 * GIB))
    assert near > far + 500


def test_a_picture_of_many_ranks_shows_the_memory_of_eight() -> None:
    heights = [
        size(
            memory_drawing(
                pipeline_run(ranks=ranks, micro_batches=16, units=1, recompute=False), GIB
            )
        )[1]
        for ranks in (2, 8, 16)
    ]
    assert heights[0] < heights[1] == heights[2]


def test_a_big_pipeline_is_drawn_task_by_task(big_run: Timeline) -> None:
    picture = pipeline_picture(big_run)
    for rank, tasks in picture.tasks.items():
        boxes = [box for task in tasks for box in task.boxes]
        assert len(boxes) < 64 * 3 + 10
        busy_s = sum(
            e.end_s - e.start_s
            for e in big_run.events
            if e.instruction.rank == rank and e.instruction.stream is Stream.COMPUTE
        )
        assert sum(box.duration_s for box in boxes) == pytest.approx(busy_s, rel=1e-3)
    width, height = size(timeline_drawing(big_run, GIB))
    assert width < 3000
    assert height < 3000


def test_few_boxes_are_drawn_as_they_are() -> None:
    run = pipeline_run(PipelineKind.NONE, 1, 1, units=27)
    (tasks,) = pipeline_picture(run).tasks.values()
    assert pipeline_picture(run).by_unit
    assert sum(len(task.boxes) for task in tasks) == len(run.events)


def test_the_stages_of_a_rank_are_told_apart_by_a_foot() -> None:
    run = pipeline_run(PipelineKind.ZERO_BUBBLE, ranks=2, micro_batches=4, chunks=2)
    assert pipeline_picture(run).chunk_of_stage == {(0, 0): 0, (0, 3): 1, (1, 1): 0, (1, 2): 1}
    flat = dataclasses.replace(
        run,
        events=tuple(
            dataclasses.replace(e, instruction=dataclasses.replace(e.instruction, stage=0))
            for e in run.events
        ),
    )
    feet, no_feet = (pixels(pipeline_drawing(timeline)) for timeline in (run, flat))
    forward = INSTRUCTION_STYLES[K.FORWARD].colour
    assert feet[forward] < 0.95 * no_feet[forward]


def test_every_pipeline_kind_can_be_drawn() -> None:
    chunks = {
        PipelineKind.INTERLEAVED: 2,
        PipelineKind.ZERO_BUBBLE: 2,
        PipelineKind.DUALPIPE_V: 2,
    }
    for kind in PipelineKind:
        ranks = 1 if kind is PipelineKind.NONE else 2
        run = pipeline_run(kind, ranks, 4, chunks.get(kind, 1))
        assert pixels(timeline_drawing(run, GIB))[INSTRUCTION_STYLES[K.FORWARD].colour] > 1000


def test_an_empty_run_is_an_empty_picture() -> None:
    empty = Timeline(0.0, (0,), (0,), {}, (), ((),))
    assert timeline_drawing(empty, GIB).startswith(b"\x89PNG")


def test_a_simulated_plan_and_a_front_can_be_drawn(content: ReportContent) -> None:
    assert timeline_drawing(content.timeline, content.budget_bytes).startswith(b"\x89PNG")
    assert front_drawing([(2**30, 0.2), (2**31, 0.1)], [0.1, 0.1]).startswith(b"\x89PNG")
