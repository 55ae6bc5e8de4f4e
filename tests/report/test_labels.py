from __future__ import annotations

from remora.report.boxes import Box, Task
from remora.report.labels import SIZES_POINTS, task_labels, text_points
from remora.schedule.program import InstructionKind

FORWARD, BACKWARD = InstructionKind.FORWARD, InstructionKind.BACKWARD
RECOMPUTE = InstructionKind.RECOMPUTE
LARGE = SIZES_POINTS[0]


def task(*boxes: tuple[InstructionKind, float], micro_batch: int = 7, start: float = 0.0) -> Task:
    made = []
    for kind, length in boxes:
        made.append(Box(kind, 0, micro_batch, 3, 3, 1, start, start + length))
        start += length
    return Task(tuple(made))


def test_wide_boxes_get_a_letter_and_their_number() -> None:
    found = task_labels([task((FORWARD, 100.0)), task((BACKWARD, 100.0))], False, 1.0)
    assert [label.text for label in found.labels] == ["F7", "B7"]
    assert found.has_letters
    assert found.size_points == LARGE
    assert found.labels[0].centre_s == 50.0


def test_units_are_numbered_where_asked_for() -> None:
    (label,) = task_labels([task((FORWARD, 100.0))], True, 1.0).labels
    assert label.text == "F3"


def test_narrow_boxes_get_the_number_alone_and_the_narrowest_nothing() -> None:
    width = text_points(1, LARGE) + 0.1
    (label,) = task_labels([task((FORWARD, width))], False, 1.0).labels
    assert label.text == "7"
    assert task_labels([task((FORWARD, 3.0))], False, 1.0).labels == ()


def test_letters_are_small_where_large_ones_would_leave_boxes_empty() -> None:
    small = SIZES_POINTS[-1]
    tasks = [task((FORWARD, text_points(2, small)), micro_batch=12)] * 5
    found = task_labels(tasks, False, 1.0)
    assert found.size_points == small
    assert [label.text for label in found.labels] == ["12"] * 5


def test_a_label_stands_in_the_longest_box_or_on_a_plate_across_the_task() -> None:
    roomy, split = task((RECOMPUTE, 5.0), (BACKWARD, 40.0)), task(*[(BACKWARD, 4.0)] * 9)
    inside, across = task_labels([roomy, split], False, 1.0).labels
    assert (inside.centre_s, inside.on_plate) == (25.0, False)
    assert (across.centre_s, across.on_plate) == (18.0, True)


def test_the_letter_is_that_of_the_task_not_of_what_it_recomputes() -> None:
    weights = InstructionKind.BACKWARD_INPUT
    (label,) = task_labels([task((RECOMPUTE, 90.0), (weights, 20.0))], False, 1.0).labels
    assert label.text == "I7"


def test_what_belongs_to_no_micro_batch_has_no_number() -> None:
    optimizer = task((InstructionKind.OPTIMIZER, 90.0), micro_batch=-1)
    assert task_labels([optimizer], False, 1.0).labels == ()
