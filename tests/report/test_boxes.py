from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.report.boxes import Box, boxes_by_row, joined, labels_are_units, regrouped, tasks_of
from remora.schedule.program import InstructionKind, Stream
from remora.schedule.schedule import PipelineKind
from tests.report.runs import UNIT_S, pipeline_run

FORWARD, BACKWARD = InstructionKind.FORWARD, InstructionKind.BACKWARD
RECOMPUTE = InstructionKind.RECOMPUTE


def box(
    kind: InstructionKind, start: float, end: float, unit: int = 0, micro_batch: int = 0
) -> Box:
    return Box(kind, 0, micro_batch, unit, unit, 1, start, end)


def test_neighbours_are_joined_and_a_wait_stays_visible() -> None:
    row = [
        box(FORWARD, 0, 1, unit=3),
        box(FORWARD, 1, 2, unit=4),
        box(FORWARD, 3, 4, unit=5),
        box(FORWARD, 4, 5, unit=0, micro_batch=1),
    ]
    first, second, third = joined(row, step_time_s=5.0)
    assert first == Box(FORWARD, 0, 0, 3, 4, 2, 0, 2)
    assert (second.start_s, second.end_s, second.last_unit) == (3, 4, 5)
    assert third.micro_batch == 1


def test_a_gap_too_small_to_see_is_closed() -> None:
    row = [box(FORWARD, 0, 1), box(FORWARD, 1.0001, 2)]
    assert len(joined(row, step_time_s=2.0)) == 1
    assert len(joined(row, step_time_s=0.2)) == 2


def test_a_backward_task_holds_its_recomputation_but_no_forward() -> None:
    row = [
        box(FORWARD, 0, 1),
        box(RECOMPUTE, 1, 2, unit=1),
        box(BACKWARD, 2, 4, unit=1),
        box(RECOMPUTE, 4, 5),
        box(BACKWARD, 5, 7),
        box(BACKWARD, 8, 9, micro_batch=1),
    ]
    forward, backward, later = tasks_of(row, step_time_s=9.0)
    assert [b.kind for b in forward.boxes] == [FORWARD]
    assert (backward.start_s, backward.end_s) == (1, 7)
    assert later.boxes[0].micro_batch == 1
    recomputed, rest = regrouped(backward).boxes
    assert recomputed == Box(RECOMPUTE, 0, 0, 1, 0, 2, 1, 3)
    assert rest == Box(BACKWARD, 0, 0, 1, 0, 2, 3, 7)


def test_tasks_by_unit_keep_a_unit_together() -> None:
    row = [box(RECOMPUTE, 0, 1, 1), box(BACKWARD, 1, 2, 1), box(RECOMPUTE, 2, 3, 0)]
    assert [len(task.boxes) for task in tasks_of(row, 3.0, by_unit=True)] == [2, 1]


def test_weight_gradients_are_tasks_of_their_own() -> None:
    run = pipeline_run(PipelineKind.ZERO_BUBBLE, ranks=2, micro_batches=4, chunks=2)
    row = boxes_by_row(run)[0, Stream.COMPUTE]
    for task in tasks_of(joined(row, run.step_time_s), run.step_time_s):
        kinds = {b.kind for b in task.boxes}
        assert kinds == {InstructionKind.BACKWARD_WEIGHT} or (
            InstructionKind.BACKWARD_WEIGHT not in kinds
        )


def test_every_instruction_has_a_box_on_the_row_of_its_stream() -> None:
    run = pipeline_run(ranks=2, micro_batches=3, offload=True)
    rows = boxes_by_row(run)
    assert sum(map(len, rows.values())) == len(run.events)
    assert list(rows)[:4] == [
        (0, Stream.COMPUTE),
        (0, Stream.D2H),
        (0, Stream.H2D),
        (0, Stream.SEND),
    ]
    for row in rows.values():
        assert row == sorted(row, key=lambda b: b.start_s)


def test_numbers_are_units_only_where_there_is_one_micro_batch() -> None:
    assert labels_are_units(pipeline_run(PipelineKind.NONE, 1, 1))
    assert not labels_are_units(pipeline_run(PipelineKind.NONE, 1, 2))


@given(st.lists(st.tuples(st.sampled_from([RECOMPUTE, BACKWARD]), st.integers(1, 9)), min_size=1))
def test_regrouping_keeps_the_time_of_every_kind(work: list[tuple[InstructionKind, int]]) -> None:
    row, at = [], 2.0
    for unit, (kind, time) in enumerate(work):
        row.append(box(kind, at, at + time, unit))
        at += time
    (task,) = tasks_of(row, step_time_s=at)
    whole = regrouped(task)
    assert (whole.start_s, whole.end_s) == (task.start_s, pytest.approx(task.end_s))
    expected: Counter[InstructionKind] = Counter()
    for kind, time in work:
        expected[kind] += time
    assert {b.kind: b.duration_s for b in whole.boxes} == pytest.approx(dict(expected))
    assert sum(b.count for b in whole.boxes) == len(work)


def test_the_runs_of_these_tests_meet_the_closed_form() -> None:
    run = pipeline_run(ranks=4, micro_batches=6, units=1, recompute=False)
    compute_s = (6 + 4 - 1) * 3 * UNIT_S
    assert compute_s < run.step_time_s < compute_s + 2 * UNIT_S + 20 * 0.3 * UNIT_S
