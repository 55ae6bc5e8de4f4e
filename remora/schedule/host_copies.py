"""Copies to the host and back, and the program points at which their memory changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from remora.schedule.builder import RankBuilder
from remora.schedule.holders import Holder, Key, LiveStorages
from remora.schedule.program import InstructionKind, MemoryKind, Stream
from remora.schedule.stage import Stage

__all__ = ["HostCopies", "HostLinkRates", "PendingStores", "copy_s"]


@dataclass(frozen=True, slots=True)
class HostLinkRates:
    """What one rank gets of its link to the host.

    Attributes:
        d2h_bytes_per_s, h2d_bytes_per_s: its share of each direction.
        latency_s: fixed cost of one copy.
    """

    d2h_bytes_per_s: float
    h2d_bytes_per_s: float
    latency_s: float

    def store_s(self, sizes: Sequence[int]) -> float:
        """Seconds to the host."""
        return len(sizes) * self.latency_s + sum(sizes) / self.d2h_bytes_per_s

    def load_s(self, sizes: Sequence[int]) -> float:
        """Seconds back."""
        return len(sizes) * self.latency_s + sum(sizes) / self.h2d_bytes_per_s


def copy_s(num_bytes: int, bytes_per_s: float) -> float:
    """Seconds of a copy without its latency: none of nothing, infinite where nothing is carried."""
    if not num_bytes:
        return 0.0
    return num_bytes / bytes_per_s if bytes_per_s > 0 else math.inf


@dataclass(slots=True)
class _Store:
    """A copy on its way: who holds its source, and at which forward of a unit it is waited for."""

    copies: HostCopies
    holder: Holder
    instruction: int
    due: int


class PendingStores:
    """Copies to the host of one rank that its program has not waited for yet.

    A copy issued by the rank's k-th forward of a unit is waited for, and its memory released,
    before forward k + window; forwards of all stages and micro-batches of the rank count. So the
    peak does not depend on the link.
    """

    def __init__(self) -> None:
        self.forwards = 0
        self._stores: list[_Store] = []

    def add(self, copies: HostCopies, holder: Holder, instruction: int, window: int) -> None:
        """Note a copy that the latest forward issued."""
        self._stores.append(_Store(copies, holder, instruction, self.forwards + window))

    def start_forward(self) -> None:
        """Count a forward; wait for the copies that are due."""
        self.forwards += 1
        for store in [s for s in self._stores if s.due <= self.forwards]:
            self._end(store)

    def flush(self, copies: HostCopies) -> tuple[int, ...]:
        """Wait for all copies of one micro-batch in one stage, whose backward begins.

        Returns:
            their instructions.
        """
        found = [s for s in self._stores if s.copies is copies]
        for store in found:
            self._end(store)
        return tuple(store.instruction for store in found)

    def _end(self, store: _Store) -> None:
        self._stores.remove(store)
        store.copies.stored(store.holder, store.instruction)


class HostCopies:
    """Issues the host copies of one micro-batch in one stage.

    A prefetched tensor is taken where its copy is issued: with the backward of unit i + distance,
    or where the stage's backward begins if that unit is not in the stage.

    Args:
        builder: receives the instructions.
        stage: sizes, and the distance.
        live: the storages in memory.
        pending: copies that the rank still has to wait for.
        rates: of the host link.
        micro_batch: its number.
    """

    def __init__(
        self,
        builder: RankBuilder,
        stage: Stage,
        live: LiveStorages,
        pending: PendingStores,
        rates: HostLinkRates,
        micro_batch: int,
    ) -> None:
        self._builder = builder
        self._stage = stage
        self._live = live
        self._pending = pending
        self._rates = rates
        self._micro_batch = micro_batch
        self._on_host: dict[Holder, Sequence[int]] = {}
        self._loads: dict[Holder, tuple[int, list[Key]]] = {}
        self._caches: dict[Holder, int] = {}
        self._flushed: tuple[int, ...] = ()
        self._generation = 0

    def next_generation(self) -> int:
        """A number for storages that are made or fetched again."""
        self._generation += 1
        return self._generation

    def store(self, holder: Holder, storages: Sequence[int]) -> None:
        """Issue the copy of ``storages``, which ``holder`` holds until it is waited for."""
        if not storages:
            return
        self._on_host[holder] = storages
        instruction = self._builder.issue(
            InstructionKind.OFFLOAD,
            Stream.D2H,
            holder.start,
            self._micro_batch,
            self._hooks_s(holder) + self._rates.store_s(self._sizes(storages)),
            stage=self._stage.index,
            host_bytes=sum(self._sizes(storages)),
        )
        self._pending.add(self, holder, instruction, self._stage.window)

    def store_cache(self, unit: int, buffer: int, duration_s: float) -> None:
        """Issue the copy of what a unit added to its cache; its buffer goes when it has gone."""
        holder = Holder("cache", unit, unit + 1)
        self._caches[holder] = buffer
        kind, stage = InstructionKind.STORE_CACHE, self._stage
        instruction = self._builder.issue(
            kind, Stream.D2H, unit, self._micro_batch, duration_s, stage=stage.index
        )
        self._pending.add(self, holder, instruction, stage.window)

    def stored(self, holder: Holder, instruction: int) -> None:
        """Wait for a copy and release its source."""
        self._builder.wait(instruction)
        if holder in self._caches:
            self._builder.release_early([self._caches.pop(holder)])
            return
        self._builder.release_early(self._live.drop(self._live.held_by(holder), holder))

    def wait_before_backward(self) -> None:
        """Wait for all copies that are still on their way; none comes back before that."""
        self._flushed = self._pending.flush(self)

    def prefetch(self, unit: int) -> dict[Holder, dict[int, Key]]:
        """Issue the copies back that belong to the start of the backward of ``unit``.

        Returns:
            by holder, where each storage will be.
        """
        last = self._stage.end - 1
        arrived: dict[Holder, dict[int, Key]] = {}
        for holder in sorted(self._on_host, key=lambda h: -h.end):
            if min(holder.end - 1 + self._stage.distance, last) == unit:
                arrived[holder] = self._load(holder)
        return arrived

    def wait_for_arrival(self, holder: Holder) -> None:
        """Let the next compute instruction wait until the tensors of ``holder`` are back."""
        if holder not in self._loads:
            return
        instruction, keys = self._loads.pop(holder)
        self._builder.wait(instruction)
        kind = MemoryKind.SAVED if holder.what == "copy" else MemoryKind.BOUNDARY
        for key in keys:
            landed = self._builder.buffer(self._stage.chain.num_bytes(key[0]), kind)
            self._builder.release_early([self._live.exchange_buffer(key, landed)])
            self._builder.allocate_early([landed])

    def _load(self, holder: Holder) -> dict[int, Key]:
        storages = self._on_host.pop(holder)
        generation = self.next_generation()
        what = "save" if holder.what == "copy" else "region"
        keeper = Holder(what, holder.start, holder.end)
        keys = {storage: (storage, generation) for storage in storages}
        for storage, key in keys.items():
            size = self._stage.chain.num_bytes(storage)
            buffer = self._builder.buffer(size, MemoryKind.IN_FLIGHT)
            self._live.add(key, buffer, {keeper})
            self._builder.allocate_early([buffer])
        instruction = self._builder.issue(
            InstructionKind.PREFETCH,
            Stream.H2D,
            holder.start,
            self._micro_batch,
            self._rates.load_s(self._sizes(storages)),
            waits=self._flushed,
            stage=self._stage.index,
            host_bytes=-sum(self._sizes(storages)),
        )
        self._loads[holder] = (instruction, list(keys.values()))
        return keys

    def _hooks_s(self, holder: Holder) -> float:
        of_unit = holder.what == "copy"
        return self._stage.chain.units[holder.start].hooks_s if of_unit else 0.0

    def _sizes(self, storages: Sequence[int]) -> list[int]:
        return [self._stage.chain.num_bytes(storage) for storage in storages]
