"""What differs between two schedules of one model, in table cells and sentences."""

from __future__ import annotations

from remora.graph.model_graph import ModelGraph
from remora.report.content import UnitRow, unit_rows
from remora.report.wording import ranges_text
from remora.schedule.schedule import MemoryPlan, PipelinePlan, Schedule, StatePlan

__all__ = ["change_cells", "change_sentences"]


def change_cells(
    graph: ModelGraph, before: Schedule, after: Schedule
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return header and rows of the units whose option or groups changed.

    Units that follow each other and changed alike share a row.

    Args:
        graph: of both schedules.
        before: valid for it.
        after: valid for it.
    """
    rows: list[tuple[list[int], str, str, str]] = []
    pairs = zip(unit_rows(graph, before), unit_rows(graph, after), strict=True)
    for old, new in pairs:
        if (old.actions, old.groups) == (new.actions, new.groups):
            continue
        was, now = _text(old, before.memory), _text(new, after.memory)
        follows = rows and rows[-1][0][-1] == old.index - 1
        if follows and rows[-1][2:] == (was, now):
            rows[-1][0].append(old.index)
        else:
            rows.append(([old.index], old.name, was, now))
    cells: list[tuple[str, ...]] = [
        (ranges_text(units), f"{name} ..." if len(units) > 1 else name, was, now)
        for units, name, was, now in rows
    ]
    return ("unit", "name", "before", "after"), cells


def change_sentences(before: Schedule, after: Schedule) -> list[str]:
    """Say what changed apart from single units: pipeline, places of state, pace of host copies."""
    sentences = []
    if before.pipeline != after.pipeline:
        old, new = _pipeline(before.pipeline), _pipeline(after.pipeline)
        sentences.append(f"The pipeline was {old} and is {new}.")
    if before.state != after.state:
        sentences.append(f"State: {_state(before.state)} before, {_state(after.state)} after.")
    old_pace, new_pace = _pace(before), _pace(after)
    if old_pace != new_pace:
        sentences.append(
            f"Offload window and prefetch distance were {old_pace} and are {new_pace}."
        )
    return sentences


def _text(row: UnitRow, memory: MemoryPlan) -> str:
    """Actions and groups; a group of one unit is that unit with its checkpoint on the host."""
    if not row.groups:
        return row.actions
    if any((group.start, group.end) == (row.index, row.index + 1) for group in memory.groups):
        return "recompute from an offloaded checkpoint"
    return f"{row.actions} (units {', in '.join(reversed(row.groups))})"


def _pipeline(pipeline: PipelinePlan) -> str:
    cuts = ", ".join(map(str, pipeline.cuts)) or "none"
    return (
        f"{pipeline.kind.value} on {pipeline.num_ranks} ranks with {pipeline.micro_batches} "
        f"micro-batches and cuts before units {cuts}"
    )


def _state(state: StatePlan) -> str:
    words = [
        f"weights on {state.weights.value}",
        f"gradients on {state.gradients.value}",
        f"optimizer on {state.optimizer.value}",
    ]
    if state.streamed_units:
        words.append(f"units {ranges_text(state.streamed_units)} streamed in")
    if state.zero_stage:
        words.append(f"ZeRO {state.zero_stage}")
    return ", ".join(words)


def _pace(schedule: Schedule) -> str:
    memory = schedule.memory
    paces = [memory.pace_of(stage) for stage in range(schedule.pipeline.num_stages)]
    texts = [f"({window}, {distance})" for window, distance in paces]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
