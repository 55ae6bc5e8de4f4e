"""Which numbers stand in the boxes of a pipeline picture: as many as have room, in one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remora.report.boxes import Box, Task
from remora.report.colours import INSTRUCTION_STYLES, text_colour
from remora.schedule.program import InstructionKind

__all__ = ["LETTERS", "Label", "Labels", "task_labels", "text_points"]

SIZES_POINTS = (6.5, 5.5, 4.8)
_MARGIN_POINTS = 2.0
_NEARLY_ALL = 0.9

LETTERS: Mapping[InstructionKind, str] = {
    InstructionKind.FORWARD: "F",
    InstructionKind.BACKWARD: "B",
    InstructionKind.BACKWARD_INPUT: "I",
    InstructionKind.BACKWARD_WEIGHT: "W",
}


@dataclass(frozen=True, slots=True)
class Label:
    """A number, perhaps with a letter before it, in the middle of a box or a task.

    Attributes:
        task: index of the task.
        centre_s: where it stands.
        text: what it says.
        colour: of the text.
        on_plate: it lies across several boxes and needs a plate to be read.
    """

    task: int
    centre_s: float
    text: str
    colour: str
    on_plate: bool


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a picture.

    Attributes:
        size_points: of the letters.
        has_letters: whether letters say what a task does.
        labels: those that have room.
    """

    size_points: float
    has_letters: bool
    labels: tuple[Label, ...]


def text_points(num_characters: int, size_points: float) -> float:
    """Room for so many digits, with a margin."""
    return 0.64 * size_points * num_characters + _MARGIN_POINTS


def task_labels(tasks: Sequence[Task], by_unit: bool, points_per_s: float) -> Labels:
    """Choose the largest size in which nearly all labels fit that fit in the smallest.

    Args:
        tasks: of all ranks.
        by_unit: number tasks by unit instead of micro-batch.
        points_per_s: scale of the picture.
    """
    numbers = {i: n for i, task in enumerate(tasks) if (n := _number(task, by_unit)) >= 0}
    fitting = {
        size: [i for i, n in numbers.items() if _fits(tasks[i], str(n), size, points_per_s)]
        for size in SIZES_POINTS
    }
    enough = _NEARLY_ALL * len(fitting[SIZES_POINTS[-1]])
    size = next(size for size in SIZES_POINTS if len(fitting[size]) >= enough)
    shown = fitting[size]
    lettered = {i: f"{_letter(tasks[i])}{numbers[i]}" for i in shown}
    roomy = {i for i in shown if _fits(tasks[i], lettered[i], size, points_per_s)}
    has_letters = bool(shown) and len(roomy) >= _NEARLY_ALL * len(shown)
    texts = {i: lettered[i] if has_letters and i in roomy else str(numbers[i]) for i in shown}
    labels = tuple(_label(i, tasks[i], text, size, points_per_s) for i, text in texts.items())
    return Labels(size, has_letters, labels)


def _label(index: int, task: Task, text: str, size: float, points_per_s: float) -> Label:
    box = task.longest
    if _has_room(box, text, size, points_per_s):
        colour = text_colour(INSTRUCTION_STYLES[box.kind].colour)
        return Label(index, (box.start_s + box.end_s) / 2, text, colour, on_plate=False)
    return Label(index, (task.start_s + task.end_s) / 2, text, "#000000", on_plate=True)


def _fits(task: Task, text: str, size: float, points_per_s: float) -> bool:
    # The plate is a little wider than its text.
    width_points = (task.end_s - task.start_s) * points_per_s
    across = width_points >= text_points(len(text), size) + _MARGIN_POINTS
    return across or _has_room(task.longest, text, size, points_per_s)


def _has_room(box: Box, text: str, size: float, points_per_s: float) -> bool:
    # Equal boxes differ by rounding, and shall look alike.
    return box.duration_s * points_per_s >= 0.999 * text_points(len(text), size)


def _number(task: Task, by_unit: bool) -> int:
    return task.boxes[0].first_unit if by_unit else task.boxes[0].micro_batch


def _letter(task: Task) -> str:
    """Of its forward or backward, not of what is recomputed before."""
    return next((LETTERS[box.kind] for box in task.boxes if box.kind in LETTERS), "")
