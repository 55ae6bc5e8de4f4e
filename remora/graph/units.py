"""Where units begin: cut points of the module call tree at which little crosses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from remora.errors import InvalidInputError
from remora.graph.recorder import CallRecord, Recording

MIN_HALF_SHARE = 0.2
"""A block is split only where both parts do at least this share of its forward FLOPs."""


@dataclass(frozen=True)
class _Call:
    """A module call and the calls inside it."""

    record: CallRecord
    module: nn.Module
    children: tuple[_Call, ...]


def find_markers(
    recording: Recording, model: nn.Module, units: Sequence[str] | None
) -> list[CallRecord]:
    """Choose the module calls that begin every unit but the first, in order of execution.

    Elements of ``ModuleList`` and ``Sequential`` are blocks; a stage that itself holds such a list
    is entered if no more tensors cross its inner borders than its own; a block is split in two
    where no more crosses than at its entry (attention | MLP). What lies between blocks is a unit.

    Args:
        recording: a finished recording.
        model: the traced module.
        units: module paths given by the user, or None.

    Raises:
        InvalidInputError: a path in ``units`` is not a module that the forward called.
    """
    if units is not None:
        return _user_markers(recording, units)
    root = _call_tree(recording, dict(model.named_modules()))
    if root is None:
        return []
    crossing = _crossing_counts(recording)
    starts: list[_Call] = []
    _descend(root, recording, crossing, starts)
    return _merge_mutating(recording, [call.record for call in starts[1:]])


def _user_markers(recording: Recording, units: Sequence[str]) -> list[CallRecord]:
    called = {call.path for call in recording.calls}
    for path in units:
        if path not in called:
            raise InvalidInputError(
                f"units names {path!r}, which the forward did not call; "
                f"allowed: {', '.join(sorted(called - {''})[:12])}, ..."
            )
    chosen = sorted((c for c in recording.calls if c.path in set(units)), key=lambda c: c.start)
    return _merge_mutating(recording, [call for call in chosen if call.start > 0])


def _call_tree(recording: Recording, modules: dict[str, nn.Module]) -> _Call | None:
    children: dict[int, list[_Call]] = {}
    for record in reversed(recording.calls):
        below = children.pop(record.depth + 1, [])
        call = _Call(record, modules[record.path], tuple(reversed(below)))
        children.setdefault(record.depth, []).append(call)
    roots = children.get(0, [])
    return roots[0] if len(roots) == 1 else None


def _crossing_counts(recording: Recording) -> list[int]:
    """For every forward position, how many activations made before are read at or after it."""
    last_read: dict[int, int] = {}
    for index in range(recording.num_forward_ops):
        for tensor in recording.ops[index].inputs:
            last_read[recording.tensors[tensor].storage] = index
    changes = [0] * (recording.num_forward_ops + 2)
    for storage, last in last_read.items():
        created = recording.storages[storage].created
        if created >= 0 and last > created:
            changes[created + 1] += 1
            changes[last + 1] -= 1
    counts, level = [], 0
    for change in changes:
        level += change
        counts.append(level)
    return counts


def _is_composite(call: _Call) -> bool:
    return bool(call.children)


def _holds_blocks(call: _Call) -> bool:
    """Whether some ModuleList or Sequential at or below the module holds composite elements."""
    for module in call.module.modules():
        if isinstance(module, (nn.ModuleList, nn.Sequential)) and any(
            any(True for _ in element.children()) for element in module
        ):
            return True
    return False


def _descend(
    call: _Call, recording: Recording, crossing: Sequence[int], starts: list[_Call]
) -> None:
    """Append the calls that begin a unit inside ``call``; runs of leaf modules share one."""
    in_run = False
    for child in call.children:
        if child.record.end == child.record.start:
            continue
        if not _is_composite(child):
            if not in_run:
                starts.append(child)
            in_run = True
            continue
        in_run = False
        if _holds_blocks(child) and _opens(child, call, crossing):
            _descend(child, recording, crossing, starts)
        else:
            starts.append(child)
            starts += _second_half(child, recording, crossing)


def _opens(child: _Call, parent: _Call, crossing: Sequence[int]) -> bool:
    """Whether the borders between the child's own composite calls are as thin as its entry.

    A wrapper (the parent's only composite call, as in a model with a head) always opens, and so
    does a part of the root; a module that the parent calls again and again is itself the block.
    """
    inner = [c.record.start for c in child.children if _is_composite(c)][1:]
    calls = [c.record.path for c in parent.children if _is_composite(c)]
    if calls.count(child.record.path) > 1:
        return False
    if len(calls) == 1 or parent.record.depth == 0:
        return True
    allowed = max(crossing[child.record.start], crossing[child.record.end])
    return bool(inner) and all(crossing[start] <= allowed for start in inner)


def _second_half(block: _Call, recording: Recording, crossing: Sequence[int]) -> list[_Call]:
    """The inner call where a block is split: least crosses there, then the most even shares."""
    start, end = block.record.start, block.record.end
    flops = [op.flops for op in recording.ops[start:end]]
    candidates: list[tuple[int, float, int]] = []
    for position, child in enumerate(block.children[1:], start=1):
        border = child.record.start
        before = sum(flops[: border - start])
        share = min(before, sum(flops) - before) / max(sum(flops), 1.0)
        if crossing[border] <= crossing[start] and share >= MIN_HALF_SHARE:
            candidates.append((crossing[border], -share, position))
    return [block.children[min(candidates)[2]]] if candidates else []


def _merge_mutating(recording: Recording, markers: list[CallRecord]) -> list[CallRecord]:
    """Drop borders behind which a unit changes a tensor made before its own border in place."""
    kept = [marker for marker in markers if marker.start > 0]
    while True:
        bad = _mutating_marker(recording, kept)
        if bad is None:
            return kept
        kept.remove(bad)


def _mutating_marker(recording: Recording, markers: list[CallRecord]) -> CallRecord | None:
    positions = [marker.start for marker in markers]
    for index in range(recording.num_forward_ops):
        for storage in recording.ops[index].mutates:
            created = recording.storages[storage].created
            crossed = [p for p in positions if created < p <= index] if created >= 0 else []
            if crossed:
                return markers[positions.index(crossed[-1])]
    return None
