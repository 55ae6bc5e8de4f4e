"""The forward tape cut into stages: which calls each plays, and what passes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from remora.executor.memory.tape import Call
from remora.executor.pipeline.forward_tape import ForwardTape, Origin

__all__ = ["Message", "StagePart", "cut_tape"]


@dataclass(frozen=True, slots=True)
class Message:
    """What one stage sends to another for one micro-batch.

    Attributes:
        source, target: stages of one copy of the model.
        storages: of each, one of the values that lie in it; sent as a whole, each once.
        values: what the target reads, by number.
        gradients: those of them whose gradient comes back, by number.
    """

    source: int
    target: int
    storages: tuple[int, ...]
    values: tuple[int, ...]
    gradients: tuple[int, ...]


@dataclass(frozen=True)
class StagePart:
    """One stage.

    Attributes:
        index: number of the stage.
        span: half-open range of its units.
        prologue: calls of earlier stages that only look at weights and inputs; played again here.
        calls: its own, in order.
        received: values of earlier stages that it reads, by number, ascending.
        exported: values that later stages read, by number, ascending; on the last stage the
            results.
        origins: of the values that no call makes.
    """

    index: int
    span: tuple[int, int]
    prologue: tuple[Call, ...]
    calls: tuple[Call, ...]
    received: tuple[int, ...]
    exported: tuple[int, ...]
    origins: Mapping[int, Origin]

    @property
    def all_calls(self) -> tuple[Call, ...]:
        """Prologue and own calls."""
        return (*self.prologue, *self.calls)


def cut_tape(
    tape: ForwardTape, spans: Sequence[tuple[int, int]]
) -> tuple[tuple[StagePart, ...], tuple[Message, ...]]:
    """Cut a tape into stages.

    Args:
        tape: of the whole model.
        spans: half-open range of units of every stage.

    Returns:
        stages, and messages ordered by source, then target.
    """
    views = _free_views(tape)
    stage_of_unit = {unit: s for s, span in enumerate(spans) for unit in range(*span)}
    maker = {
        number: stage_of_unit[call.unit]
        for call in tape.calls
        for number in call.outputs
        if number is not None
    }
    crossing: dict[tuple[int, int], set[int]] = {}
    needed: list[tuple[Call, ...]] = []
    for stage in range(len(spans)):
        own = [call for call in tape.calls if stage_of_unit[call.unit] == stage]
        read = {n for call in own for n in call.reads}
        if stage == len(spans) - 1:
            read |= set(tape.results)
        prologue = _prologue(tape, read, views, maker, stage)
        made = {n for call in (*prologue, *own) for n in call.outputs}
        for number in read - made - tape.origins.keys():
            crossing.setdefault((maker[number], stage), set()).add(number)
        needed.append((*prologue, *own))
    messages = tuple(
        _message(tape, source, target, crossing[source, target])
        for source, target in sorted(crossing)
    )
    parts = tuple(
        _part(tape, stage, spans, needed[stage], stage_of_unit, messages)
        for stage in range(len(spans))
    )
    return parts, messages


def _part(
    tape: ForwardTape,
    stage: int,
    spans: Sequence[tuple[int, int]],
    calls: tuple[Call, ...],
    stage_of_unit: Mapping[int, int],
    messages: Sequence[Message],
) -> StagePart:
    received = {n for m in messages if m.target == stage for n in m.values}
    exported = {n for m in messages if m.source == stage for n in m.values}
    read = {n for call in calls for n in call.reads}
    if stage == len(spans) - 1:
        exported = set(tape.results)
        read |= exported
    return StagePart(
        index=stage,
        span=spans[stage],
        prologue=tuple(c for c in calls if stage_of_unit[c.unit] != stage),
        calls=tuple(c for c in calls if stage_of_unit[c.unit] == stage),
        received=tuple(sorted(received)),
        exported=tuple(sorted(exported)),
        origins={n: tape.origins[n] for n in sorted(read & tape.origins.keys())},
    )


def _message(tape: ForwardTape, source: int, target: int, numbers: set[int]) -> Message:
    values = tuple(sorted(numbers))
    first_in: dict[int, int] = {}
    for number in values:
        first_in.setdefault(tape.values[number].storage, number)
    return Message(
        source=source,
        target=target,
        storages=tuple(first_in.values()),
        values=values,
        gradients=tuple(n for n in values if tape.values[n].differentiable),
    )


def _free_views(tape: ForwardTape) -> dict[int, Call]:
    """Calls, by what they make, that return nothing but views of weights, buffers and inputs."""
    found: dict[int, Call] = {}
    for call in tape.calls:
        made = [number for number in call.outputs if number is not None]
        static = made and all(tape.values[number].storage < 0 for number in made)
        if static and all(n in found or n in tape.origins for n in call.reads):
            found.update(dict.fromkeys(made, call))
    return found


def _prologue(
    tape: ForwardTape,
    read: Set[int],
    views: Mapping[int, Call],
    maker: Mapping[int, int],
    stage: int,
) -> list[Call]:
    """Calls of earlier stages that make views that this stage reads, in order."""
    wanted = [n for n in read if n in views and maker[n] != stage]
    chosen: set[int] = set()
    while wanted:
        number = wanted.pop()
        call = views[number]
        if id(call) not in chosen:
            chosen.add(id(call))
            wanted += [n for n in call.reads if n in views]
    return [call for call in tape.calls if id(call) in chosen]
