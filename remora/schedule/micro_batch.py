"""Forward and backward of one micro-batch through a chain of units under a memory plan.

A storage lives as long as somebody holds it (see :mod:`remora.schedule.holders`); this module
follows the holders from unit to unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from remora.graph.model_graph import GRADIENT
from remora.schedule.builder import ProgramBuilder
from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.holders import PROGRAM, Holder, Key, LiveStorages
from remora.schedule.host_copies import HostCopies
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.regions import Region, region_tree
from remora.schedule.schedule import Action, MemoryPlan


def lower_micro_batch(
    builder: ProgramBuilder, chain: Chain, memory: MemoryPlan, micro_batch: int
) -> None:
    """Append the instructions of one micro-batch to ``builder``.

    Gradients of all but the first micro-batch are added to the first's and live no longer than
    their unit's backward.
    """
    _MicroBatch(builder, chain, memory, micro_batch).run()


class _MicroBatch:
    """State of the walk: live storages, and where each unit and region finds what it needs."""

    def __init__(
        self, builder: ProgramBuilder, chain: Chain, memory: MemoryPlan, micro_batch: int
    ) -> None:
        self._builder = builder
        self._chain = chain
        self._memory = memory
        self._micro_batch = micro_batch
        self._regions = region_tree(memory)
        self._live = LiveStorages()
        self._copies = HostCopies(builder, chain, self._live, memory, micro_batch)
        self._current: dict[int, Key] = {}
        self._saved: dict[int, dict[int, Key]] = {unit.index: {} for unit in chain.units}
        self._inputs: dict[tuple[int, int], dict[int, Key]] = {}
        self._filled: set[tuple[int, int]] = set()

    def run(self) -> None:
        """Lower the forward, then the backward."""
        for unit in self._chain.units:
            self._copies.wait_before_forward(unit.index)
            self._forward(unit)
        self._copies.wait_before_backward()
        for unit in reversed(self._chain.units):
            self._place(self._copies.prefetch(unit.index))
            self._backward(unit)
        self._builder.release_at_end(self._live.drop_all())

    def _region_of(self, unit: int) -> Region | None:
        return next((r for r in self._regions if r.start <= unit < r.end), None)

    def _forward(self, unit: ChainUnit) -> None:
        region = self._region_of(unit.index)
        if region is not None:
            self._capture_inputs(region, unit)
            self._run(unit, unit.forward, 0, {}, InstructionKind.FORWARD, unit.forward_s)
            if region.offload_checkpoint and unit.index == region.start:
                self._store_checkpoint(region)
            return
        actions = dict(self._memory.options[unit.index].actions)
        copy = Holder("copy", unit.index, unit.index + 1)
        keep = Holder("save", unit.index, unit.index + 1)
        holders = {
            saved.storage: copy
            if all(actions[name] is Action.OFFLOAD for name in saved.names)
            else keep
            for saved in unit.saved
        }
        self._run(unit, unit.forward, 0, holders, InstructionKind.FORWARD, unit.forward_s)
        moved = [storage for storage, holder in holders.items() if holder is copy]
        self._copies.store(copy, moved)

    def _run(
        self,
        unit: ChainUnit,
        span: tuple[int, int],
        generation: int,
        holders: Mapping[int, Holder],
        kind: InstructionKind,
        duration_s: float,
    ) -> None:
        """Run (again) the forward operators ``span``; ``holders`` keep what they name."""
        made = [s for s in unit.created if self._chain.graph.storages[s].created < span[1]]
        for storage, holder in holders.items():
            if storage not in unit.created:
                self._live.hold(self._current[storage], holder)
        dying = [
            (storage, generation)
            for storage in unit.dropped_forward
            if self._live.held_only_by((storage, generation), PROGRAM)
        ]
        survivors = self._survivors(unit, made, holders)
        transient = self._chain.transient_bytes(
            range(*span), unit, survivors.keys(), self._drop_times(dying)
        )
        buffers = [
            self._add((storage, generation), by, kept=storage in holders)
            for storage, by in survivors.items()
        ]
        dropped = [(storage, generation) for storage in unit.dropped_forward]
        self._current.update({storage: (storage, generation) for storage in made})
        for storage, holder in holders.items():
            if holder.what == "save":
                self._saved[unit.index][storage] = self._current[storage]
        self._builder.compute(
            kind,
            unit.index,
            self._micro_batch,
            duration_s,
            transient,
            allocates=buffers,
            releases=self._live.drop(dropped, PROGRAM),
        )

    def _survivors(
        self, unit: ChainUnit, made: Sequence[int], holders: Mapping[int, Holder]
    ) -> dict[int, set[Holder]]:
        """What outlives the unit of what it made, and for whom."""
        survivors: dict[int, set[Holder]] = {}
        for storage in made:
            by = {holders[storage]} if storage in holders else set()
            if self._chain.graph.storages[storage].dropped > unit.forward[1]:
                by.add(PROGRAM)
            if by:
                survivors[storage] = by
        return survivors

    def _add(self, key: Key, holders: Iterable[Holder], kept: bool) -> int:
        kind = MemoryKind.SAVED if kept else MemoryKind.BOUNDARY
        buffer = self._builder.buffer(self._chain.num_bytes(key[0]), kind)
        self._live.add(key, buffer, holders)
        return buffer

    def _drop_times(self, keys: Iterable[Key]) -> dict[int, int]:
        return {key[0]: self._chain.graph.storages[key[0]].dropped for key in keys}

    def _capture_inputs(self, region: Region, unit: ChainUnit) -> None:
        """Let a region hold what ``unit`` reads from before the region."""
        span = (region.start, region.end)
        captured = self._inputs.setdefault(span, {})
        for storage in unit.inputs:
            if self._chain.creator_unit[storage] < region.start and storage not in captured:
                captured[storage] = self._current[storage]
                self._live.hold(captured[storage], Holder("region", *span))

    def _store_checkpoint(self, region: Region) -> None:
        span = (region.start, region.end)
        private = self._chain.private_inputs(*span)
        moved = sorted(s for s in self._inputs.get(span, {}) if s in private)
        for storage in moved:
            key = self._inputs[span].pop(storage)
            self._live.exchange(key, Holder("region", *span), Holder("region_copy", *span))
        self._copies.store(Holder("region_copy", *span), moved)

    def _place(self, arrived: Mapping[Holder, Mapping[int, Key]]) -> None:
        """Tell units and regions where their prefetched storages are."""
        for holder, keys in arrived.items():
            if holder.what == "copy":
                self._saved[holder.start].update(keys)
            else:
                self._inputs[holder.start, holder.end].update(keys)

    def _backward(self, unit: ChainUnit) -> None:
        region = self._region_of(unit.index)
        if region is not None:
            self._materialise(region, unit.index)
        self._copies.wait_for_arrival(Holder("copy", unit.index, unit.index + 1))
        self._run_backward(unit)

    def _materialise(self, region: Region, unit: int) -> None:
        """Run regions again, outermost first, until the saved tensors of ``unit`` exist."""
        if (region.start, region.end) not in self._filled:
            self._copies.wait_for_arrival(Holder("region_copy", region.start, region.end))
            self._rerun(region)
        child = region.child_at(unit)
        if child is not None:
            self._materialise(child, unit)

    def _rerun(self, region: Region) -> None:
        """Run a region again: fill its own units, let inner regions capture their inputs.

        The run stops early: after the last saved tensor of its own last unit, or where an inner
        region at its end begins.
        """
        span = (region.start, region.end)
        self._filled.add(span)
        generation = self._copies.next_generation()
        self._current.update(self._inputs.get(span, {}))
        last = region.child_at(region.end - 1)
        end = region.end if last is None else last.start
        for index in range(region.start, end):
            self._rerun_unit(region, self._chain.units[index], generation, index + 1 == region.end)
        if last is not None:
            for index in range(last.start, last.end):
                self._capture_inputs(last, self._chain.units[index])
        ended = self._live.drop(self._live.of_generation(generation), PROGRAM)
        held = list(self._inputs.pop(span, {}).values())
        self._builder.release_early([*ended, *self._live.drop(held, Holder("region", *span))])

    def _rerun_unit(
        self, region: Region, unit: ChainUnit, generation: int, stops_early: bool
    ) -> None:
        child = region.child_at(unit.index)
        holders: dict[int, Holder] = {}
        if child is None:
            keep = Holder("save", unit.index, unit.index + 1)
            holders = {saved.storage: keep for saved in unit.saved}
        else:
            self._capture_inputs(child, unit)
        self._run(
            unit,
            (unit.forward[0], unit.stop_op) if stops_early else unit.forward,
            generation,
            holders,
            InstructionKind.RECOMPUTE,
            unit.hooks_s + (unit.rerun_s if stops_early else unit.forward_s),
        )

    def _run_backward(self, unit: ChainUnit) -> None:
        graph = self._chain.graph
        keep = Holder("save", unit.index, unit.index + 1)
        saved = self._saved.pop(unit.index)
        released = {s.storage: s.released for s in unit.saved}
        deaths = {
            storage: released[storage]
            for storage, key in saved.items()
            if self._live.held_only_by(key, keep)
        }
        dropped = [(storage, 0) for storage in unit.dropped_backward]
        deaths |= self._drop_times(k for k in dropped if self._live.held_only_by(k, PROGRAM))
        survivors = [s for s in unit.created_backward if self._outlives(s, unit)]
        transient = self._chain.transient_bytes(range(*unit.backward), unit, survivors, deaths)
        releases = self._live.drop(saved.values(), keep) + self._live.drop(dropped, PROGRAM)
        gradients = [s for s in survivors if graph.storages[s].role == GRADIENT]
        size = sum(self._chain.num_bytes(storage) for storage in gradients)
        buffers = [self._builder.buffer(size, MemoryKind.GRADIENTS)] if gradients else []
        for storage in survivors:
            if graph.storages[storage].role != GRADIENT:
                buffers.append(self._add((storage, 0), {PROGRAM}, kept=False))
        self._builder.compute(
            InstructionKind.BACKWARD,
            unit.index,
            self._micro_batch,
            unit.backward_s,
            transient,
            allocates=buffers,
            releases=releases,
        )

    def _outlives(self, storage: int, unit: ChainUnit) -> bool:
        record = self._chain.graph.storages[storage]
        if record.role == GRADIENT:
            return self._micro_batch == 0
        return record.dropped > unit.backward[1]
