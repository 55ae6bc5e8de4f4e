"""Partial recomputation of a unit: which operators run again, what they need and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from remora.graph.kinds import dtype_bytes
from remora.graph.model_graph import STATIC_ROLES, ModelGraph, Op, Unit
from remora.schedule.chain import Chain
from remora.schedule.closure import (
    LAYOUT_ONLY,
    RELABELLING,
    Closure,
    Step,
    closure_of,
    is_collective,
    is_scratch,
)
from remora.schedule.schedule import Action, UnitOption

__all__ = [
    "BLOCK_ELEMENTS",
    "Rerun",
    "can_compress",
    "compressed_bytes",
    "effective_actions",
    "is_recompute",
    "partial_closure",
    "rerun_of",
    "restore_rise_bytes",
    "storage_actions",
    "unit_steps",
]

BLOCK_ELEMENTS = 256
"""Values of a compressed storage that share a scale."""

_SCALE_BYTES = 4
_COMPRESSIBLE = frozenset({"float64", "float32", "bfloat16", "float16"})


@dataclass(frozen=True, slots=True)
class Rerun:
    """What a partial option runs again at the start of its unit's backward.

    Attributes:
        ops: forward operators that run again, ascending.
        reads: activations of earlier units that they read and that the unit does not save: held
            until then.
        fills: saved storages that they make, which live on as saved.
        duration_s: seconds of the operators.
        transient_bytes: largest rise of the memory level over its start while they run, results
            and workspace included.
    """

    ops: tuple[int, ...]
    reads: tuple[int, ...]
    fills: tuple[int, ...]
    duration_s: float
    transient_bytes: int


def is_recompute(option: UnitOption) -> bool:
    """Whether the option keeps nothing of its unit."""
    actions = option.actions
    return bool(actions) and all(action is Action.RECOMPUTE for _, action in actions)


def rerun_of(chain: Chain, unit: int, option: UnitOption) -> Rerun | None:
    """Find what runs again; None if nothing does or the whole unit does."""
    if is_recompute(option) or Action.RECOMPUTE not in option.distinct:
        return None
    actions = storage_actions(chain, unit, option)
    fills = tuple(s for s, action in actions.items() if action is Action.RECOMPUTE)
    if not fills:
        return None
    record = chain.graph.units[unit]
    positions = tuple(action for _, action in option.actions)
    steps = _steps(chain, record)
    key = ("rerun", record.kind, positions)
    if key not in chain.memo:
        found = _closure(steps, actions)
        chain.memo[key] = (found.steps, _transient_bytes(chain, record, found, fills))
    again, transient_bytes = chain.memo[key]
    ops = tuple(record.forward[0] + position for position in again)
    read = {s for position in again for s in steps[position].reads} - actions.keys()
    return Rerun(
        ops=ops,
        reads=tuple(sorted(s for s in read if 0 <= chain.creator_unit.get(s, -1) < unit)),
        fills=fills,
        duration_s=sum(chain.costs.op_time_s[op] for op in ops),
        transient_bytes=transient_bytes,
    )


def storage_actions(chain: Chain, unit: int, option: UnitOption) -> Mapping[int, Action]:
    """Action of every saved activation of a unit, in the order of ``ChainUnit.saved``.

    A storage takes an action only if all saved tensors that view it have it, and is kept
    otherwise. Kept too is, in an option that recomputes a part of the unit, what the unit did not
    make itself or could only make by talking to other ranks, and what cannot be compressed.
    """
    graph = chain.graph
    key = ("actions", graph.units[unit].kind, tuple(action for _, action in option.actions))
    if key not in chain.memo:
        record = graph.units[unit]
        found = effective_actions(graph, record, option, _steps(chain, record))
        chain.memo[key] = tuple(found.values())
    saved = (storage.storage for storage in chain.units[unit].saved)
    return dict(zip(saved, chain.memo[key], strict=True))


def effective_actions(
    graph: ModelGraph, unit: Unit, option: UnitOption, steps: Sequence[Step] | None = None
) -> dict[int, Action]:
    """Action of every saved activation, see :func:`storage_actions`, from the graph alone.

    Args:
        graph: the traced step.
        unit: one of its units.
        option: for that unit.
        steps: of :func:`unit_steps`, if they are at hand.
    """
    agreed: dict[int, Action] = {}
    for saved, (_, action) in zip(unit.saved, option.actions, strict=True):
        storage = graph.storage_of(saved)
        if graph.storages[storage].created >= 0:
            agreed[storage] = action if agreed.get(storage, action) is action else Action.KEEP
    if is_recompute(option):
        return agreed
    for storage, action in agreed.items():
        foreign = graph.storages[storage].created < unit.forward[0]
        if (action is Action.RECOMPUTE and foreign) or (
            action is Action.COMPRESS and not can_compress(graph, unit, storage)
        ):
            agreed[storage] = Action.KEEP
    if Action.RECOMPUTE not in agreed.values():
        return agreed
    return _without_barriers(unit_steps(graph, unit) if steps is None else steps, agreed)


def partial_closure(graph: ModelGraph, unit: Unit, option: UnitOption) -> Closure:
    """The forward operators of a unit that a partial option runs again, counted from its start."""
    return _closure(unit_steps(graph, unit), effective_actions(graph, unit, option))


def compressed_bytes(chain: Chain, storage: int) -> int:
    """Bytes of a storage's int8 copy with one float32 scale per block of values."""
    graph = chain.graph
    dtype = next(view.dtype for view in graph.tensors if view.storage == storage)
    elements = graph.storages[storage].num_bytes // dtype_bytes(dtype)
    scales = -(-elements // BLOCK_ELEMENTS) * _SCALE_BYTES
    granularity = chain.costs.allocation_granularity_bytes
    return sum(-(-part // granularity) * granularity for part in (elements, scales))


def restore_rise_bytes(originals: Sequence[int], copies: Sequence[int]) -> int:
    """Largest rise of the level while storages are restored one by one, each giving its copy up.

    Args:
        originals: bytes of every storage.
        copies: bytes of its compressed copy.
    """
    level = peak = 0
    for original, copy in zip(originals, copies, strict=True):
        level += original
        peak = max(peak, level)
        level -= copy
    return peak


def can_compress(graph: ModelGraph, unit: Unit, storage: int) -> bool:
    """Whether all that a unit saves of a storage is of one floating dtype, which is its own."""
    views = {
        graph.tensors[saved.tensor].dtype
        for saved in unit.saved
        if graph.storage_of(saved) == storage
    }
    if len(views) != 1 or graph.storages[storage].role in STATIC_ROLES:
        return False
    (dtype,) = views
    whole = dtype in _COMPRESSIBLE and graph.storages[storage].num_bytes % dtype_bytes(dtype) == 0
    return whole and graph.storages[storage].num_bytes > 0


def unit_steps(graph: ModelGraph, unit: Unit) -> tuple[Step, ...]:
    """The forward operators of a unit as the closure sees them."""
    return tuple(_step(graph, index, op) for index, op in graph.forward_ops(unit))


def _step(graph: ModelGraph, index: int, op: Op) -> Step:
    namespace, packet = op.name.split(".")[:2]
    if op.view or packet in RELABELLING:
        return Step()
    touched = [graph.tensors[tensor].storage for tensor in op.outputs]
    makes = dict.fromkeys(s for s in touched if graph.storages[s].created == index)
    reads = [] if packet in LAYOUT_ONLY else [graph.tensors[t].storage for t in op.inputs]
    scratch = op.mutates if is_scratch(packet, "running_mean") else ()
    return Step(
        reads=tuple(dict.fromkeys(s for s in reads if s not in scratch)),
        makes=tuple(makes),
        writes=tuple(s for s in op.mutates if s not in scratch and s not in makes),
        scratch=scratch,
        barrier=is_collective(namespace),
    )


def _steps(chain: Chain, unit: Unit) -> tuple[Step, ...]:
    key = ("steps", unit.index)
    if key not in chain.memo:
        chain.memo[key] = unit_steps(chain.graph, unit)
    found: tuple[Step, ...] = chain.memo[key]
    return found


def _closure(steps: Sequence[Step], actions: Mapping[int, Action]) -> Closure:
    wanted = [s for s, action in actions.items() if action is Action.RECOMPUTE]
    available = [s for s, action in actions.items() if action is not Action.RECOMPUTE]
    return closure_of(steps, wanted, available)


def _without_barriers(steps: Sequence[Step], actions: dict[int, Action]) -> dict[int, Action]:
    """Keep every recomputed storage whose making would need a collective."""
    if not any(step.barrier for step in steps):
        return actions
    while True:
        available = [s for s, action in actions.items() if action is not Action.RECOMPUTE]
        bad = [
            storage
            for storage, action in actions.items()
            if action is Action.RECOMPUTE
            and any(steps[i].barrier for i in closure_of(steps, [storage], available).steps)
        ]
        if not bad:
            return actions
        actions = {s: Action.KEEP if s == bad[0] else action for s, action in actions.items()}


def _transient_bytes(chain: Chain, unit: Unit, closure: Closure, fills: tuple[int, ...]) -> int:
    """Replay the operators: results die after their last reader unless they are filled in."""
    steps = _steps(chain, unit)
    last: dict[int, int] = {}
    for position in closure.steps:
        made_again = closure.remade[position] - closure.copied
        last.update(dict.fromkeys((*made_again, *steps[position].makes), position))
    level = peak = 0
    for position in closure.steps:
        level += sum(chain.num_bytes(storage) for storage in steps[position].makes)
        working = chain.costs.op_workspace_bytes[unit.forward[0] + position]
        working += sum(chain.num_bytes(storage) for storage in steps[position].scratch)
        peak = max(peak, level + working)
        level -= sum(
            chain.num_bytes(storage)
            for storage, end in last.items()
            if end == position and storage not in fills
        )
    return peak
