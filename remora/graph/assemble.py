"""Turn a recording and its cut points into a frozen ModelGraph."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from remora.graph.kinds import dtype_bytes, unit_kind
from remora.graph.model_graph import (
    BUFFER,
    ModelGraph,
    ModuleCall,
    Op,
    SavedTensor,
    Storage,
    TensorView,
    Unit,
)
from remora.graph.recorder import ALIVE, CallRecord, PackRecord, Recording

OUTSIDE_REASON = "computed outside of the model"
_NO_NODE = 1 << 62  # autograd numbers gradient accumulation with the largest integer


def assemble(
    recording: Recording,
    markers: Sequence[CallRecord],
    model_name: str,
    traced_with: str,
    notes: tuple[str, ...],
) -> ModelGraph:
    """Cut the recording at ``markers`` and freeze it.

    Args:
        recording: a finished recording.
        markers: calls that begin every unit but the first, in order.
        model_name: kept in the graph.
        traced_with: ``fake`` or ``real``.
        notes: kept in the graph.
    """
    borders = _borders(recording, markers)
    op_units = _op_units(recording, borders)
    ops = tuple(_op(recording, index, op_units[index]) for index in range(len(recording.ops)))
    storages = tuple(
        Storage(s.num_bytes, s.role, s.name, s.created, min(s.dropped, len(ops)))
        for s in recording.storages
    )
    bare = ModelGraph(
        model_name=model_name,
        ops=ops,
        storages=storages,
        tensors=tuple(recording.tensors),
        units=(),
        num_forward_ops=recording.num_forward_ops,
        traced_with=traced_with,
        notes=notes,
    )
    saved = _saved_by_unit(recording, borders)
    units = tuple(
        _unit(recording, bare, border, saved[index], _backward_range(op_units, bare, index), index)
        for index, border in enumerate(borders)
    )
    return dataclasses.replace(bare, units=units)


@dataclass(frozen=True)
class _Border:
    """Where a unit begins: operator, autograd node number, and the call (None at the root)."""

    start: int
    end: int
    sequence: int
    marker: CallRecord | None
    outside: bool


def _borders(recording: Recording, markers: Sequence[CallRecord]) -> list[_Border]:
    distinct = {marker.start: marker for marker in reversed(markers)}
    starts: list[tuple[int, int, CallRecord | None, bool]] = [(0, 0, None, False)]
    starts += [(m.start, m.sequence, m, False) for m in sorted(distinct.values(), key=_start)]
    roots = [call for call in recording.calls if call.depth == 0]
    if roots and roots[-1].end < recording.num_forward_ops:
        starts.append((roots[-1].end, roots[-1].end_sequence, None, True))
    ends = [start for start, *_ in starts[1:]] + [recording.num_forward_ops]
    return [
        _Border(start, end, sequence, marker, outside)
        for (start, sequence, marker, outside), end in zip(starts, ends, strict=True)
    ]


def _start(call: CallRecord) -> int:
    return call.start


def _op_units(recording: Recording, borders: Sequence[_Border]) -> list[int]:
    """Unit of every operator; the backward visits units in falling order."""
    starts = [border.start for border in borders]
    sequences = [border.sequence for border in borders]
    units = [bisect.bisect_right(starts, i) - 1 for i in range(recording.num_forward_ops)]
    current = len(starts) - 1
    for op in recording.ops[recording.num_forward_ops :]:
        if 0 <= op.node_sequence < _NO_NODE:
            current = min(current, bisect.bisect_right(sequences, op.node_sequence) - 1)
        units.append(current)
    return units


def _op(recording: Recording, index: int, unit: int) -> Op:
    record = recording.ops[index]
    return Op(
        name=record.name,
        phase=record.phase,
        module=record.module,
        unit=unit,
        args=record.args,
        kwargs=record.kwargs,
        inputs=record.inputs,
        outputs=record.outputs,
        flops=record.flops,
        bytes_read=sum(_view_bytes(recording.tensors[t]) for t in record.inputs),
        bytes_written=sum(_view_bytes(recording.tensors[t]) for t in record.outputs),
        random=record.random,
        view=record.view,
        mutates=record.mutates,
    )


def _view_bytes(view: TensorView) -> int:
    """Bytes that a read or write of the view touches; broadcast dimensions count once."""
    elements = math.prod(n for n, step in zip(view.shape, view.stride, strict=True) if step)
    return elements * dtype_bytes(view.dtype) if 0 not in view.shape else 0


def _backward_range(op_units: Sequence[int], graph: ModelGraph, index: int) -> tuple[int, int]:
    """Operators of a unit's backward; an empty range lies where they would be."""
    first = graph.num_forward_ops
    falling = [-unit for unit in op_units[first:]]
    return (
        first + bisect.bisect_left(falling, -index),
        first + bisect.bisect_right(falling, -index),
    )


def _saved_by_unit(recording: Recording, borders: Sequence[_Border]) -> list[list[PackRecord]]:
    sequences = [border.sequence for border in borders]
    saved: list[list[PackRecord]] = [[] for _ in borders]
    for pack in recording.packs:
        # A node is numbered when it is made, just before it packs its first tensor.
        saved[bisect.bisect_right(sequences, pack.sequence - 1) - 1].append(pack)
    return saved


def _unit(
    recording: Recording,
    graph: ModelGraph,
    border: _Border,
    packs: Sequence[PackRecord],
    backward: tuple[int, int],
    index: int,
) -> Unit:
    forward = (border.start, border.end)
    steps = () if border.outside else _steps(recording, forward)
    saved = tuple(
        _saved_tensor(recording, pack, position, backward) for position, pack in enumerate(packs)
    )
    mutated = {
        graph.storages[storage].name
        for _, op in _slice(graph, forward)
        for storage in op.mutates
        if graph.storages[storage].role == BUFFER
    }
    marker = border.marker
    return Unit(
        index=index,
        name=marker.path if marker else ("loss" if border.outside else "input"),
        kind=unit_kind(graph, forward, backward, saved),
        marker=ModuleCall(marker.path, marker.call) if marker else None,
        steps=tuple(ModuleCall(c.path, c.call) for c in steps),
        forward=forward,
        backward=backward,
        saved=saved,
        mutated_buffers=tuple(sorted(mutated)),
        fixed_reason=OUTSIDE_REASON if border.outside else "",
    )


def _slice(graph: ModelGraph, span: tuple[int, int]) -> list[tuple[int, Op]]:
    return [(i, graph.ops[i]) for i in range(*span)]


def _steps(recording: Recording, forward: tuple[int, int]) -> tuple[CallRecord, ...]:
    """The largest module calls inside the range, the model's own call left out."""
    steps: list[CallRecord] = []
    for call in recording.calls:
        inside = forward[0] <= call.start < call.end <= forward[1]
        nested = steps and call.start < steps[-1].end
        if call.depth > 0 and inside and not nested:
            steps.append(call)
    return tuple(steps)


def _saved_tensor(
    recording: Recording,
    pack: PackRecord,
    position: int,
    backward: tuple[int, int],
) -> SavedTensor:
    maker = recording.ops[min(pack.op, len(recording.ops) - 1)].name.split(".")[1]
    released = backward[1] if pack.released == ALIVE else pack.released
    return SavedTensor(
        name=f"{position}:{maker}",
        index=position,
        tensor=pack.tensor,
        op=pack.op,
        released=released,
    )
