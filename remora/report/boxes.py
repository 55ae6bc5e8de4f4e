"""What the pictures of a run draw: instructions as boxes, joined where single ones are too many.

Letters: n instructions of the run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from remora.schedule.program import InstructionKind, Stream
from remora.simulator.timeline import TimedInstruction, Timeline

__all__ = ["Box", "Task", "boxes_by_row", "joined", "labels_are_units", "regrouped", "tasks_of"]

Row = tuple[int, Stream]
"""Rank and stream."""

_JOINED_GAP_SHARE = 1 / 4000
"""Boxes that wait for less than this share of the step may be joined: half a point of a picture."""


@dataclass(frozen=True, slots=True)
class Box:
    """A stretch of time that one stream of one rank spends on one kind of work.

    Attributes:
        kind, stage, micro_batch: of all instructions in it.
        first_unit, last_unit: of its first and last instruction; -1 if they belong to none.
        count: number of its instructions.
        start_s, end_s: from when to when.
    """

    kind: InstructionKind
    stage: int
    micro_batch: int
    first_unit: int
    last_unit: int
    count: int
    start_s: float
    end_s: float

    @property
    def duration_s(self) -> float:
        """Seconds from start to end."""
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Task:
    """Boxes that a rank runs one after the other for one stage and micro-batch.

    Attributes:
        boxes: all forward, or all of the backward; in order, never empty.
    """

    boxes: tuple[Box, ...]

    @property
    def start_s(self) -> float:
        """When its first box starts."""
        return self.boxes[0].start_s

    @property
    def end_s(self) -> float:
        """When its last box ends."""
        return self.boxes[-1].end_s

    @property
    def longest(self) -> Box:
        """Its longest box; the first of those that differ by rounding only."""
        longest_s = max(box.duration_s for box in self.boxes)
        return next(box for box in self.boxes if box.duration_s >= (1 - 1e-6) * longest_s)


def boxes_by_row(timeline: Timeline) -> dict[Row, list[Box]]:
    """Return one box per instruction, by rank and stream, in order of time.  # n boxes."""
    rows: dict[Row, list[Box]] = defaultdict(list)
    for event in timeline.events:
        rows[event.instruction.rank, event.instruction.stream].append(_box(event))
    for boxes in rows.values():
        boxes.sort(key=lambda box: (box.start_s, box.end_s))
    streams = tuple(Stream)
    return {row: rows[row] for row in sorted(rows, key=lambda r: (r[0], streams.index(r[1])))}


def joined(boxes: Sequence[Box], step_time_s: float) -> list[Box]:
    """Join neighbours of one kind, stage and micro-batch that hardly wait in between.

    Args:
        boxes: of one rank and stream, in order of time.
        step_time_s: a gap is small if it is below 1/4000 of this.
    """
    gap_s = step_time_s * _JOINED_GAP_SHARE
    result: list[Box] = []
    for box in boxes:
        if result and _alike(result[-1], box) and box.start_s - result[-1].end_s <= gap_s:
            result[-1] = _together(result[-1], box)
        else:
            result.append(box)
    return result


def tasks_of(boxes: Sequence[Box], step_time_s: float, by_unit: bool = False) -> list[Task]:
    """Cut the boxes of a compute stream into tasks; a wait also ends one.

    Args:
        boxes: of one rank, in order of time.
        step_time_s: a gap is a wait if it is above 1/4000 of this.
        by_unit: begin a task with every unit, too.
    """
    gap_s = step_time_s * _JOINED_GAP_SHARE
    runs: list[list[Box]] = []
    for box in boxes:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and _task_key(last, by_unit) == _task_key(box, by_unit)
            and box.start_s - last.end_s <= gap_s
        ):
            runs[-1].append(box)
        else:
            runs.append([box])
    return [Task(tuple(run)) for run in runs]


def regrouped(task: Task) -> Task:
    """Draw each kind of a task's work in one piece, in the order in which the kinds begin.

    Where recomputation and backward alternate unit by unit this keeps their shares and the
    outline of the task, and gives up their order inside it.
    """
    by_kind: dict[InstructionKind, list[Box]] = defaultdict(list)
    for box in task.boxes:
        by_kind[box.kind].append(box)
    boxes, at_s = [], task.start_s
    for of_kind in by_kind.values():
        units = [unit for box in of_kind for unit in (box.first_unit, box.last_unit)]
        end_s = at_s + sum(box.duration_s for box in of_kind)
        count = sum(box.count for box in of_kind)
        whole = replace(
            of_kind[0],
            first_unit=units[0],
            last_unit=units[-1],
            count=count,
            start_s=at_s,
            end_s=end_s,
        )
        boxes.append(whole)
        at_s = end_s
    return Task(tuple(boxes))


def labels_are_units(timeline: Timeline) -> bool:
    """Tell whether a run has one micro-batch only, so that units say more than its number."""
    return all(event.instruction.micro_batch <= 0 for event in timeline.events)


def _box(event: TimedInstruction) -> Box:
    instruction = event.instruction
    return Box(
        instruction.kind,
        instruction.stage,
        instruction.micro_batch,
        instruction.unit,
        instruction.unit,
        1,
        event.start_s,
        event.end_s,
    )


def _alike(left: Box, right: Box) -> bool:
    return (left.kind, left.stage, left.micro_batch) == (right.kind, right.stage, right.micro_batch)


def _together(left: Box, right: Box) -> Box:
    count = left.count + right.count
    end_s = max(left.end_s, right.end_s)
    return replace(left, last_unit=right.last_unit, count=count, end_s=end_s)


def _task_key(box: Box, by_unit: bool) -> tuple[object, ...]:
    """What the boxes of a task have in common: backward work of all kinds belongs together."""
    own = (InstructionKind.FORWARD, InstructionKind.BACKWARD_WEIGHT, InstructionKind.OPTIMIZER)
    part = box.kind if box.kind in own else InstructionKind.BACKWARD
    return (box.stage, box.micro_batch, part, box.first_unit if by_unit else None)
