"""Forward and backward of one micro-batch through a chain of units under a memory plan.

A storage lives as long as somebody holds it: the program itself until it drops it, the backward of
a unit that saved it, a recompute region it is an input of, or a copy to the host that nobody has
waited for. This module follows the holders from unit to unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from remora.graph.model_graph import GRADIENT
from remora.schedule.builder import ProgramBuilder
from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.regions import Region, region_tree
from remora.schedule.schedule import Action, MemoryPlan

Key = tuple[int, int]
"""A storage and which of its materialisations: 0 is the forward's own."""

Holder = tuple[str, int, int]
"""Who holds a storage: (what, start, end)."""

PROGRAM: Holder = ("program", 0, 0)


@dataclass
class _Live:
    """A storage in memory: its buffer and its holders."""

    buffer: int
    holders: set[Holder] = field(default_factory=set)


class MicroBatchLowering:
    """Lowers one micro-batch.

    Args:
        builder: receives the instructions.
        chain: tables of the micro-batch's graph.
        memory: the plan.
        micro_batch: its number; gradients of all but the first are added to the first's.
    """

    def __init__(
        self, builder: ProgramBuilder, chain: Chain, memory: MemoryPlan, micro_batch: int
    ) -> None:
        self._builder = builder
        self._chain = chain
        self._memory = memory
        self._micro_batch = micro_batch
        self._regions = region_tree(memory)
        self._live: dict[Key, _Live] = {}
        self._current: dict[int, Key] = {}
        self._saved: dict[int, dict[int, Key]] = {}
        self._inputs: dict[tuple[int, int], dict[int, Key]] = {}
        self._stores: dict[Holder, int] = {}
        self._offloaded: dict[Holder, list[int]] = {}
        self._loads: dict[Holder, int] = {}
        self._filled: set[tuple[int, int]] = set()
        self._materialisations = 0

    def run(self) -> None:
        """Lower the forward, then the backward."""
        for unit in self._chain.units:
            self._forward(unit)
        for holder in list(self._stores):
            self._wait_for_store(holder)
        self._prefetch_for(len(self._chain.units))
        for unit in reversed(self._chain.units):
            self._backward(unit)

    # Forward

    def _forward(self, unit: ChainUnit) -> None:
        for holder in [h for h in self._stores if h[1] == unit.index - self._memory.offload_window]:
            self._wait_for_store(holder)
        region = next((r for r in self._regions if r.start <= unit.index < r.end), None)
        offloaded: list[int] = []
        holders: dict[int, Holder] = {}
        if region is None:
            holders, offloaded = self._kept(unit)
        else:
            self._capture_inputs(region, unit)
        self._run_forward(unit, unit.forward, 0, holders, InstructionKind.FORWARD, unit.forward_s)
        if offloaded:
            self._store(("unit", unit.index, unit.index + 1), offloaded)
        if region is not None and region.offload_checkpoint and unit.index == region.start:
            self._store_checkpoint(region)

    def _kept(self, unit: ChainUnit) -> tuple[dict[int, Holder], list[int]]:
        """Who holds each saved storage after the forward, and which go to the host."""
        actions = dict(self._memory.options[unit.index].actions)
        keep = ("save", unit.index, unit.index + 1)
        copy = ("unit", unit.index, unit.index + 1)
        holders: dict[int, Holder] = {}
        offloaded: list[int] = []
        for saved in unit.saved:
            moves = all(actions[name] is Action.OFFLOAD for name in saved.names)
            holders[saved.storage] = copy if moves else keep
            if moves:
                offloaded.append(saved.storage)
        return holders, offloaded

    def _run_forward(
        self,
        unit: ChainUnit,
        span: tuple[int, int],
        generation: int,
        holders: Mapping[int, Holder],
        kind: InstructionKind,
        duration_s: float,
    ) -> None:
        """Run (again) the forward operators ``span``; ``holders`` keep what they name."""
        storages = self._chain.graph.storages
        made = [s for s in unit.created if storages[s].created < span[1]]
        survivors: dict[int, set[Holder]] = {}
        for storage in made:
            by = {holders[storage]} if storage in holders else set()
            if storages[storage].dropped > unit.forward[1]:
                by.add(PROGRAM)
            if by:
                survivors[storage] = by
        for storage, holder in holders.items():
            if storage not in unit.created:
                self._hold(self._current[storage], holder)
        dying = [
            key
            for storage in unit.dropped_forward
            if (key := (storage, generation)) in self._live
            and self._live[key].holders == {PROGRAM}
        ]
        deaths = {key[0]: storages[key[0]].dropped for key in dying}
        for storage in unit.dropped_forward:
            if (live := self._live.get((storage, generation))) is not None:
                live.holders.discard(PROGRAM)
        transient = self._chain.transient_bytes(span, unit, survivors.keys(), deaths)
        buffers = []
        for storage, by in survivors.items():
            kept = any(holder[0] != "program" for holder in by)
            memory_kind = MemoryKind.SAVED if kept else MemoryKind.BOUNDARY
            buffer = self._builder.buffer(self._chain.num_bytes(storage), memory_kind)
            self._live[storage, generation] = _Live(buffer, by)
            buffers.append(buffer)
        for storage in made:
            self._current[storage] = (storage, generation)
        for storage, holder in holders.items():
            if holder[0] == "save":
                self._saved.setdefault(unit.index, {})[storage] = self._current[storage]
        self._builder.compute(
            kind,
            unit.index,
            self._micro_batch,
            duration_s,
            transient,
            allocates=buffers,
            releases=self._remove(dying),
        )

    def _capture_inputs(self, region: Region, unit: ChainUnit) -> None:
        """Let a region hold what ``unit`` reads from before the region."""
        span = (region.start, region.end)
        captured = self._inputs.setdefault(span, {})
        for storage in unit.inputs:
            if self._chain.creator_unit[storage] < region.start and storage not in captured:
                captured[storage] = self._current[storage]
                self._hold(captured[storage], ("region", *span))

    # Host copies

    def _store(self, holder: Holder, storages: list[int]) -> None:
        num_bytes = sum(self._chain.num_bytes(storage) for storage in storages)
        self._offloaded[holder] = storages
        self._stores[holder] = self._builder.copy(
            InstructionKind.OFFLOAD,
            holder[1],
            self._micro_batch,
            self._copy_time_s(num_bytes, len(storages), self._chain.costs.d2h_bytes_per_s),
            host_bytes=num_bytes,
        )

    def _store_checkpoint(self, region: Region) -> None:
        span = (region.start, region.end)
        copy = ("region_copy", *span)
        private = self._chain.private_inputs(*span)
        moved = sorted(s for s in self._inputs.get(span, {}) if s in private)
        for storage in moved:
            live = self._live[self._inputs[span].pop(storage)]
            live.holders.discard(("region", *span))
            live.holders.add(copy)
        if moved:
            self._store(copy, moved)

    def _wait_for_store(self, holder: Holder) -> None:
        self._builder.wait(self._stores.pop(holder))
        freed = [key for key, live in self._live.items() if holder in live.holders]
        self._builder.release_early(self._drop_holder(freed, holder))

    def _prefetch_for(self, started: int) -> None:
        """Issue the copies back that belong to the start of the backward of unit ``started``.

        ``started`` equal to the number of units means the start of the whole backward.
        """
        last = len(self._chain.units) - 1
        for holder in sorted(self._offloaded, key=lambda h: -h[2]):
            trigger = holder[2] - 1 + self._memory.prefetch_distance
            if trigger == started or (trigger > last and started > last):
                self._load(holder)

    def _load(self, holder: Holder) -> None:
        storages = self._offloaded.pop(holder)
        self._materialisations += 1
        generation = self._materialisations
        unit_copy = holder[0] == "unit"
        keeper = ("save" if unit_copy else "region", holder[1], holder[2])
        target = (
            self._saved.setdefault(holder[1], {})
            if unit_copy
            else self._inputs[holder[1], holder[2]]
        )
        kind = MemoryKind.SAVED if unit_copy else MemoryKind.BOUNDARY
        buffers = []
        for storage in storages:
            key = (storage, generation)
            buffer = self._builder.buffer(self._chain.num_bytes(storage), kind)
            self._live[key] = _Live(buffer, {keeper})
            target[storage] = key
            buffers.append(buffer)
        num_bytes = sum(self._chain.num_bytes(storage) for storage in storages)
        self._loads[holder] = self._builder.copy(
            InstructionKind.PREFETCH,
            holder[1],
            self._micro_batch,
            self._copy_time_s(num_bytes, len(storages), self._chain.costs.h2d_bytes_per_s),
            host_bytes=-num_bytes,
        )
        self._builder.allocate_early(buffers)

    def _copy_time_s(self, num_bytes: int, copies: int, bytes_per_s: float) -> float:
        return copies * self._chain.costs.copy_latency_s + num_bytes / bytes_per_s

    # Backward

    def _backward(self, unit: ChainUnit) -> None:
        if unit.index < len(self._chain.units):
            self._prefetch_for(unit.index)
        region = next((r for r in self._regions if r.start <= unit.index < r.end), None)
        if region is not None:
            self._materialise(region, unit.index)
        self._wait_for_load(("unit", unit.index, unit.index + 1))
        self._run_backward(unit)

    def _wait_for_load(self, holder: Holder) -> None:
        if holder in self._loads:
            self._builder.wait(self._loads.pop(holder))

    def _materialise(self, region: Region, unit: int) -> None:
        """Run regions again, outermost first, until the saved tensors of ``unit`` exist."""
        if (region.start, region.end) not in self._filled:
            self._wait_for_load(("region_copy", region.start, region.end))
            self._rerun(region)
        child = region.child_at(unit)
        if child is not None:
            self._materialise(child, unit)

    def _rerun(self, region: Region) -> None:
        """Run a region again: fill its own units, let inner regions capture their inputs."""
        span = (region.start, region.end)
        self._filled.add(span)
        self._materialisations += 1
        generation = self._materialisations
        self._current.update(self._inputs.get(span, {}))
        last = region.child_at(region.end - 1)
        end = region.end if last is None else last.start
        for index in range(region.start, end):
            unit = self._chain.units[index]
            child = region.child_at(index)
            if child is not None:
                self._capture_inputs(child, unit)
            keep = ("save", index, index + 1)
            holders = {} if child is not None else {s.storage: keep for s in unit.saved}
            stops = last is None and index == region.end - 1
            self._run_forward(
                unit,
                (unit.forward[0], unit.stop_op) if stops else unit.forward,
                generation,
                holders,
                InstructionKind.RECOMPUTE,
                unit.rerun_s if stops else unit.forward_s,
            )
        if last is not None:
            for index in range(last.start, last.end):
                self._capture_inputs(last, self._chain.units[index])
        rerun = [key for key in self._live if key[1] == generation]
        ended = self._drop_holder(rerun, PROGRAM)
        held = list(self._inputs.pop(span, {}).values())
        self._builder.release_early([*ended, *self._drop_holder(held, ("region", *span))])

    def _run_backward(self, unit: ChainUnit) -> None:
        storages = self._chain.graph.storages
        keep: Holder = ("save", unit.index, unit.index + 1)
        released = {s.storage: s.released for s in unit.saved}
        deaths: dict[int, int] = {}
        dying: list[Key] = []
        for storage, key in self._saved.pop(unit.index, {}).items():
            holders = self._live[key].holders
            holders.discard(keep)
            if not holders:
                dying.append(key)
                deaths[storage] = released[storage]
        for storage in unit.dropped_backward:
            key = (storage, 0)
            if key in self._live and PROGRAM in self._live[key].holders:
                self._live[key].holders.discard(PROGRAM)
                if not self._live[key].holders:
                    dying.append(key)
                    deaths[storage] = storages[storage].dropped
        survivors = [s for s in unit.created_backward if self._outlives(s, unit)]
        transient = self._chain.transient_bytes(unit.backward, unit, survivors, deaths)
        buffers = []
        for storage in survivors:
            kind = (
                MemoryKind.GRADIENTS if storages[storage].role == GRADIENT else MemoryKind.BOUNDARY
            )
            buffer = self._builder.buffer(self._chain.num_bytes(storage), kind)
            buffers.append(buffer)
            if kind is MemoryKind.BOUNDARY:
                self._live[storage, 0] = _Live(buffer, {PROGRAM})
        self._builder.compute(
            InstructionKind.BACKWARD,
            unit.index,
            self._micro_batch,
            unit.backward_s,
            transient,
            allocates=buffers,
            releases=self._remove(dying),
        )
        if unit.index == 0:
            self._builder.release_at_end(self._remove(list(self._live)))

    def _outlives(self, storage: int, unit: ChainUnit) -> bool:
        record = self._chain.graph.storages[storage]
        if record.role == GRADIENT:
            return self._micro_batch == 0
        return record.dropped > unit.backward[1]

    # Holders

    def _hold(self, key: Key, holder: Holder) -> None:
        self._live[key].holders.add(holder)

    def _drop_holder(self, keys: Iterable[Key], holder: Holder) -> list[int]:
        """Take one holder away; returns the buffers that nobody holds any more."""
        ended = []
        for key in keys:
            live = self._live.get(key)
            if live is None:
                continue
            live.holders.discard(holder)
            if not live.holders:
                ended.append(key)
        return self._remove(ended)

    def _remove(self, keys: Iterable[Key]) -> list[int]:
        return [self._live.pop(key).buffer for key in dict.fromkeys(keys)]
