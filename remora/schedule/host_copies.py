"""Copies to the host and back, and the program points at which their memory changes."""

from __future__ import annotations

from collections.abc import Sequence

from remora.schedule.builder import ProgramBuilder
from remora.schedule.chain import Chain
from remora.schedule.holders import Holder, Key, LiveStorages
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.schedule import MemoryPlan


class HostCopies:
    """Issues the host copies of one micro-batch.

    A stored tensor is released where the program waits for its copy: unit i waits, before it
    starts, for the copies of unit i - window. A prefetched one is taken where its copy is issued:
    with the backward of unit i + distance, or at the start of the whole backward where that unit
    does not exist. So the peak does not depend on the link.

    Args:
        builder: receives the instructions.
        chain: sizes of the storages.
        live: the storages in memory.
        memory: window and distance.
        micro_batch: its number.
    """

    def __init__(
        self,
        builder: ProgramBuilder,
        chain: Chain,
        live: LiveStorages,
        memory: MemoryPlan,
        micro_batch: int,
    ) -> None:
        self._builder = builder
        self._chain = chain
        self._live = live
        self._memory = memory
        self._micro_batch = micro_batch
        self._stores: dict[Holder, int] = {}
        self._on_host: dict[Holder, Sequence[int]] = {}
        self._loads: dict[Holder, int] = {}
        self._generation = 0

    def next_generation(self) -> int:
        """A number for storages that are made or fetched again."""
        self._generation += 1
        return self._generation

    def store(self, holder: Holder, storages: Sequence[int]) -> None:
        """Issue the copy of ``storages``, which ``holder`` holds until it is waited for."""
        if not storages:
            return
        costs = self._chain.costs
        hooks_s = self._chain.units[holder.start].hooks_s if holder.what == "copy" else 0.0
        self._on_host[holder] = storages
        self._stores[holder] = self._builder.copy(
            InstructionKind.OFFLOAD,
            holder.start,
            self._micro_batch,
            hooks_s + self._copy_time_s(storages, costs.d2h_bytes_per_s),
            host_bytes=self._num_bytes(storages),
        )

    def wait_before_forward(self, unit: int) -> None:
        """Wait for the copies of the unit that is a window behind."""
        for holder in [h for h in self._stores if h.start == unit - self._memory.offload_window]:
            self._wait_for_store(holder)

    def wait_before_backward(self) -> None:
        """Wait for all copies that are still on their way."""
        for holder in list(self._stores):
            self._wait_for_store(holder)

    def prefetch(self, unit: int) -> dict[Holder, dict[int, Key]]:
        """Issue the copies back that belong to the start of the backward of ``unit``.

        Returns:
            by holder, where each storage will be.
        """
        last = len(self._chain.units) - 1
        arrived: dict[Holder, dict[int, Key]] = {}
        for holder in sorted(self._on_host, key=lambda h: -h.end):
            trigger = holder.end - 1 + self._memory.prefetch_distance
            if min(trigger, last) == unit:
                arrived[holder] = self._load(holder)
        return arrived

    def wait_for_arrival(self, holder: Holder) -> None:
        """Let the next compute instruction wait until the tensors of ``holder`` are back."""
        if holder in self._loads:
            self._builder.wait(self._loads.pop(holder))

    def _wait_for_store(self, holder: Holder) -> None:
        self._builder.wait(self._stores.pop(holder))
        self._builder.release_early(self._live.drop(self._live.held_by(holder), holder))

    def _load(self, holder: Holder) -> dict[int, Key]:
        storages = self._on_host.pop(holder)
        generation = self.next_generation()
        of_unit = holder.what == "copy"
        keeper = Holder("save" if of_unit else "region", holder.start, holder.end)
        kind = MemoryKind.SAVED if of_unit else MemoryKind.BOUNDARY
        keys: dict[int, Key] = {}
        buffers = []
        for storage in storages:
            keys[storage] = (storage, generation)
            buffer = self._builder.buffer(self._chain.num_bytes(storage), kind)
            self._live.add(keys[storage], buffer, {keeper})
            buffers.append(buffer)
        self._loads[holder] = self._builder.copy(
            InstructionKind.PREFETCH,
            holder.start,
            self._micro_batch,
            self._copy_time_s(storages, self._chain.costs.h2d_bytes_per_s),
            host_bytes=-self._num_bytes(storages),
        )
        self._builder.allocate_early(buffers)
        return keys

    def _num_bytes(self, storages: Sequence[int]) -> int:
        return sum(self._chain.num_bytes(storage) for storage in storages)

    def _copy_time_s(self, storages: Sequence[int], bytes_per_s: float) -> float:
        latency = self._chain.costs.copy_latency_s
        return len(storages) * latency + self._num_bytes(storages) / bytes_per_s
