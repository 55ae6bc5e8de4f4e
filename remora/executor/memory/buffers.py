"""Buffers that a forward changes: a replay works on copies, so that they change once per step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["BufferSlot", "buffer_slots", "replay_buffers", "snapshot"]


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


def buffer_slots(model: nn.Module, names: Sequence[str]) -> tuple[BufferSlot, ...]:
    """Find buffers by their full names; names that are no buffers are left out."""
    slots = []
    for name in names:
        path, _, leaf = name.rpartition(".")
        owner = model.get_submodule(path)
        if owner._buffers.get(leaf) is not None:
            # A batch norm in training writes its statistics but computes with the batch's own.
            slots.append(BufferSlot(owner, leaf, read=not isinstance(owner, _BatchNorm)))
    return tuple(slots)


def snapshot(slots: Sequence[BufferSlot]) -> dict[BufferSlot, Tensor]:
    """Copy the buffers whose present value a replay needs."""
    return {slot: _buffer(slot).detach().clone() for slot in slots if slot.read}


@contextlib.contextmanager
def replay_buffers(
    slots: Sequence[BufferSlot], before: dict[BufferSlot, Tensor]
) -> Iterator[None]:
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
