"""Which storages are in memory, in which buffer, and who still needs them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

Key = tuple[int, int]
"""A storage and which of its materialisations: 0 is the forward's own."""


class Holder(NamedTuple):
    """Somebody who keeps storages alive.

    Attributes:
        what: ``program`` (Python and running nodes), ``save`` (a unit's backward), ``region`` (the
            inputs of a recompute region), ``copy``, ``region_copy`` and ``cache`` (on the way to
            the host), ``weights`` (the second half of a unit's backward), ``export`` (a result for
            another stage) or ``import`` (a receive buffer, which lasts the whole step).
        start, end: units it concerns.
    """

    what: str
    start: int = 0
    end: int = 0


PROGRAM = Holder("program")
EXPORT = Holder("export")
IMPORT = Holder("import")


@dataclass(slots=True)
class _Live:
    buffer: int
    holders: set[Holder]


class LiveStorages:
    """Storages in memory; one without holders is taken out and its buffer returned."""

    def __init__(self) -> None:
        self._live: dict[Key, _Live] = {}

    def add(self, key: Key, buffer: int, holders: Iterable[Holder]) -> None:
        """Note that ``key`` is in memory."""
        self._live[key] = _Live(buffer, set(holders))

    def hold(self, key: Key, holder: Holder) -> None:
        """Add a holder."""
        self._live[key].holders.add(holder)

    def exchange(self, key: Key, old: Holder, new: Holder) -> None:
        """Replace one holder by another."""
        self._live[key].holders.discard(old)
        self._live[key].holders.add(new)

    def exchange_buffer(self, key: Key, buffer: int) -> int:
        """Put ``key`` into another buffer; returns the old one."""
        old = self._live[key].buffer
        self._live[key].buffer = buffer
        return old

    def holds(self, key: Key) -> bool:
        """Whether ``key`` is in memory."""
        return key in self._live

    def held_only_by(self, key: Key, holder: Holder) -> bool:
        """Whether ``key`` is in memory for nobody else."""
        live = self._live.get(key)
        return live is not None and live.holders == {holder}

    def held_by(self, holder: Holder) -> list[Key]:
        """Everything that ``holder`` holds."""
        return [key for key, live in self._live.items() if holder in live.holders]

    def of_generation(self, generation: int) -> list[Key]:
        """Everything made by one recomputation."""
        return [key for key in self._live if key[1] == generation]

    def drop(self, keys: Iterable[Key], holder: Holder) -> list[int]:
        """Take one holder away; returns the buffers that nobody holds any more."""
        ended = []
        for key in keys:
            live = self._live.get(key)
            if live is None:
                continue
            live.holders.discard(holder)
            if not live.holders:
                ended.append(self._live.pop(key).buffer)
        return ended

    def drop_all(self) -> list[int]:
        """Empty the memory; returns every buffer."""
        buffers = [live.buffer for live in self._live.values()]
        self._live.clear()
        return buffers
