"""Buffers that a forward changes: a replay works on copies, so that they change once per step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from remora.graph.model_graph import Unit

__all__ = ["BufferSlot", "buffer_slots", "replay_buffers", "snapshot", "storages_of"]


@dataclass(frozen=True, slots=True)
class BufferSlot:
    """Where a module keeps a buffer that its forward changes.

    Attributes:
        module: the owner.
        name: the owner's name for it.
        read: whether results depend on the value it had before the forward.
    """

    module: nn.Module
    name: str
    read: bool


def buffer_slots(model: nn.Module, unit: Unit) -> tuple[BufferSlot, ...]:
    """Find the buffers that a unit's forward changes.

    Those the trace saw, and all statistics of norms inside its steps: the batch norm operator does
    not declare that it writes them.
    """
    named = [name.rpartition(".")[::2] for name in unit.mutated_buffers]
    found = {(model.get_submodule(path), leaf) for path, leaf in named}
    for step in unit.steps:
        for module in model.get_submodule(step.path).modules():
            if isinstance(module, _NormBase):
                found.update((module, leaf) for leaf in module._buffers)
    return tuple(
        # A norm in training writes its statistics but computes with those of the batch.
        BufferSlot(owner, leaf, read=not isinstance(owner, _NormBase))
        for owner, leaf in sorted(found, key=lambda pair: (id(pair[0]), pair[1]))
        if owner._buffers.get(leaf) is not None
    )


def snapshot(slots: Sequence[BufferSlot]) -> dict[BufferSlot, Tensor]:
    """Copy the buffers whose present value a replay needs."""
    return {
        slot: _buffer(slot).detach().clone()
        for slot in slots
        # A norm that is not in training computes with its statistics.
        if slot.read or not slot.module.training
    }


def storages_of(slots: Sequence[BufferSlot]) -> frozenset[int]:
    """Addresses of the storages behind the buffers."""
    return frozenset(_buffer(slot).untyped_storage()._cdata for slot in slots)


@contextlib.contextmanager
def replay_buffers(slots: Sequence[BufferSlot], before: dict[BufferSlot, Tensor]) -> Iterator[None]:
    """Put copies in place of the buffers, and the very same buffers back afterwards.

    Args:
        slots: the buffers that the replayed calls change.
        before: from :func:`snapshot`, taken when the calls first ran.
    """
    originals = {slot: _buffer(slot) for slot in slots}
    for slot, original in originals.items():
        value = before.get(slot, original)
        slot.module._buffers[slot.name] = value.detach().clone()
    try:
        yield
    finally:
        for slot, original in originals.items():
            slot.module._buffers[slot.name] = original


def _buffer(slot: BufferSlot) -> Tensor:
    value = slot.module._buffers[slot.name]
    assert value is not None
    return value
