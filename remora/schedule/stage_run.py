"""Forward and backward of one micro-batch through one stage under a memory plan.

A storage lives as long as somebody holds it (see :mod:`remora.schedule.holders`); this module
follows the holders from unit to unit. What comes from other stages lies in receive buffers that
last the whole step; what other stages read is held until this stage's backward has run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import ChainUnit
from remora.schedule.holders import EXPORT, IMPORT, PROGRAM, Holder, Key, LiveStorages
from remora.schedule.host_copies import HostCopies
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.rank_context import RankContext
from remora.schedule.regions import Region
from remora.schedule.stage import Stage, UnitPlan

__all__ = ["StageRun"]


class StageRun:
    """State of the walk: live storages, and where each unit and region finds what it needs.

    Args:
        rank: where it runs.
        stage: its units.
        micro_batch: its number.
        number: the stage's number in the order of tasks; chimera counts both directions.
    """

    def __init__(self, rank: RankContext, stage: Stage, micro_batch: int, number: int) -> None:
        self._rank = rank
        self._builder = rank.builder
        self._stage = stage
        self._chain = stage.chain
        self._micro_batch = micro_batch
        self._number = number
        self._live = LiveStorages()
        self._copies = HostCopies(
            rank.builder, stage, self._live, rank.pending, rank.rates, micro_batch
        )
        self._current: dict[int, Key] = {}
        self._saved: dict[int, dict[int, Key]] = {unit.index: {} for unit in stage.units}
        self._inputs: dict[tuple[int, int], dict[int, Key]] = {}
        self._moved: dict[tuple[int, int], frozenset[int]] = {}
        self._filled: set[tuple[int, int]] = set()
        self._compressed: dict[int, int] = {}
        self._carried: dict[int, list[Key]] = {}
        self._import(stage.received)

    def forward(self) -> None:
        """Lower the forward task."""
        for unit in self._stage.units:
            self._rank.pending.start_forward()
            self._forward(unit)
        self._end_forward()

    def backward(self, last: bool, halves: bool = False) -> None:
        """Lower the backward task, or its first half.

        Args:
            last: no later micro-batch adds to the stage's gradients.
            halves: leave the gradients of weights to :meth:`backward_weight`.
        """
        self._copies.wait_before_backward()
        for unit in reversed(self._stage.units):
            self._place(self._copies.prefetch(unit.index))
            self._prepare_backward(unit)
            if halves:
                self._run_backward_input(unit)
            else:
                self._run_backward(unit, last)
        self._hand_over_gradients()
        if not halves:
            self._builder.release_at_end(self._live.drop_all())

    def backward_weight(self, last: bool) -> None:
        """Lower the second half of the backward."""
        for unit in reversed(self._stage.units):
            self._run_backward_weight(unit, last)
        self._builder.release_at_end(self._live.drop_all())

    # Forward

    def _forward(self, unit: ChainUnit) -> None:
        region = self._stage.region_of(unit.index)
        if region is not None:
            self._capture_inputs(region, unit)
            self._run(unit, unit.forward, 0, {}, InstructionKind.FORWARD, unit.forward_s)
            if region.offload_checkpoint and unit.index == region.start:
                self._store_checkpoint(region)
            return
        plan = self._stage.plans[unit.index]
        span = (unit.index, unit.index + 1)
        copy, keep = Holder("copy", *span), Holder("save", *span)
        holders = {s: copy if s in plan.offload else keep for s in _in_order(unit, plan)}
        self._hold_rerun_inputs(plan, span)
        duration_s = unit.forward_s + plan.record_overhead_s + plan.compress_s
        self._run(unit, unit.forward, 0, holders, InstructionKind.FORWARD, duration_s, plan)
        self._copies.store(copy, plan.offload)

    def _hold_rerun_inputs(self, plan: UnitPlan, span: tuple[int, int]) -> None:
        if plan.rerun is None:
            return
        for storage in plan.rerun.reads:
            key = self._current[storage]
            self._live.hold(key, Holder("region", *span))
            self._inputs.setdefault(span, {})[storage] = key

    def _run(
        self,
        unit: ChainUnit,
        span: tuple[int, int],
        generation: int,
        holders: Mapping[int, Holder],
        kind: InstructionKind,
        duration_s: float,
        plan: UnitPlan | None = None,
        upcoming: int | None = None,
        region_end: int = 0,
    ) -> None:
        """Run (again) the forward operators ``span``; ``holders`` keep what they name.

        Run again, the program holds what units before ``region_end`` still read.
        """
        made = [s for s in unit.created if self._chain.graph.storages[s].created < span[1]]
        for storage, holder in holders.items():
            if storage not in unit.created:
                self._live.hold(self._current[storage], holder)
        dying = [
            (storage, generation)
            for storage in unit.dropped_forward
            if self._live.held_only_by((storage, generation), PROGRAM)
        ]
        survivors = self._survivors(unit, made, holders, generation)
        transient = self._chain.transient_bytes(
            range(*span),
            unit,
            survivors,
            self._drop_times(dying),
            plan.arrivals(unit) if plan is not None else {},
            ends=self._chain.rerun_ends(unit.index) if generation else {},
        )
        if generation:
            self._let_go(survivors, unit.index, region_end)
        buffers = [self._add((s, generation), by) for s, by in survivors.items() if by]
        self._current.update({storage: (storage, generation) for storage in made})
        for storage, holder in holders.items():
            if holder.what == "save":
                self._saved[unit.index][storage] = self._current[storage]
        buffers += self._compress(unit, plan)
        dropped = [(storage, generation) for storage in unit.dropped_forward]
        following = unit.index + 1 if kind is InstructionKind.FORWARD else upcoming
        self._compute(
            kind,
            unit.index,
            duration_s,
            transient,
            allocates=buffers,
            releases=self._live.drop(dropped, PROGRAM),
            upcoming=following,
            weights_stay=following == unit.index,
        )

    def _survivors(
        self,
        unit: ChainUnit,
        made: Sequence[int],
        holders: Mapping[int, Holder],
        generation: int,
    ) -> dict[int, set[Holder]]:
        """What outlives the unit of what it made, and for whom."""
        survivors: dict[int, set[Holder]] = {}
        for storage in made:
            by = {holders[storage]} if storage in holders else set()
            if self._chain.graph.storages[storage].dropped > unit.forward[1]:
                by.add(PROGRAM)
            if generation == 0 and storage in self._stage.exported:
                by.add(EXPORT)
            if by:
                survivors[storage] = by
        return survivors

    def _let_go(self, survivors: Mapping[int, set[Holder]], unit: int, region_end: int) -> None:
        """Take the program's hold off what no unit after ``unit`` in its region reads."""
        for storage, by in survivors.items():
            if not any(unit < reader < region_end for reader in self._chain.readers[storage]):
                by.discard(PROGRAM)

    def _compress(self, unit: ChainUnit, plan: UnitPlan | None) -> list[int]:
        if plan is None or not plan.compress:
            return []
        size = sum(plan.compressed_bytes)
        self._compressed[unit.index] = self._builder.buffer(size, MemoryKind.SAVED)
        return [self._compressed[unit.index]]

    def _end_forward(self) -> None:
        """Let go of what the program holds in the forward of later stages only."""
        chain = self._chain
        end, forward_ops = self._stage.units[-1].forward[1], chain.graph.num_forward_ops
        passing = [
            (storage, 0)
            for unit in self._stage.units
            for storage in unit.created
            if end < chain.graph.storages[storage].dropped <= forward_ops
            and self._stage.end < len(chain.units)
        ]
        self._builder.release_at_end(self._live.drop(passing, PROGRAM))

    # Memory

    def _import(self, storages: Iterable[int]) -> None:
        for storage in storages:
            self._live.add((storage, 0), self._builder.buffer(0, MemoryKind.RECEIVE), {IMPORT})
            self._current[storage] = (storage, 0)

    def _add(self, key: Key, holders: set[Holder]) -> int:
        what = {holder.what for holder in holders}
        kind = MemoryKind.SAVED if what & {"save", "copy", "weights"} else MemoryKind.BOUNDARY
        kind = MemoryKind.IN_FLIGHT if what == {"copy"} else kind
        buffer = self._builder.buffer(self._chain.num_bytes(key[0]), kind)
        self._live.add(key, buffer, holders)
        return buffer

    def _drop_times(self, keys: Iterable[Key]) -> list[tuple[int, int]]:
        return [(key[0], self._chain.graph.storages[key[0]].dropped) for key in keys]

    def _compute(
        self,
        kind: InstructionKind,
        unit: int,
        duration_s: float,
        transient_bytes: int,
        allocates: Iterable[int] = (),
        releases: Iterable[int] = (),
        upcoming: int | None = None,
        weights_stay: bool = False,
    ) -> None:
        """Append a compute instruction of this micro-batch; its weights go unless they stay."""
        inside = upcoming is not None and self._stage.start <= upcoming < self._stage.end
        self._rank.before_compute(
            unit, upcoming if inside else None, self._micro_batch, self._number
        )
        gone = [] if weights_stay else self._rank.weights_done(unit)
        self._builder.compute(
            kind,
            unit,
            self._micro_batch,
            duration_s,
            transient_bytes,
            stage=self._number,
            allocates=allocates,
            releases=[*releases, *gone],
        )

    # Recompute regions

    def _capture_inputs(self, region: Region, unit: ChainUnit) -> None:
        """Let a region hold what ``unit`` reads from before the region."""
        span = (region.start, region.end)
        captured = self._inputs.setdefault(span, {})
        for storage in unit.inputs:
            known = storage in captured or storage in self._moved.get(span, ())
            if self._chain.creator_unit[storage] < region.start and not known:
                captured[storage] = self._current[storage]
                self._live.hold(captured[storage], Holder("region", *span))

    def _store_checkpoint(self, region: Region) -> None:
        span = (region.start, region.end)
        private = self._chain.private_inputs(*span)
        moved = sorted(s for s in self._inputs.get(span, {}) if s in private)
        for storage in moved:
            key = self._inputs[span].pop(storage)
            self._live.exchange(key, Holder("region", *span), Holder("region_copy", *span))
        self._moved[span] = frozenset(moved)
        self._copies.store(Holder("region_copy", *span), moved)

    def _place(self, arrived: Mapping[Holder, Mapping[int, Key]]) -> None:
        """Tell units and regions where their prefetched storages are."""
        for holder, keys in arrived.items():
            if holder.what == "copy":
                self._saved[holder.start].update(keys)
            else:
                self._inputs[holder.start, holder.end].update(keys)

    def _materialise(self, region: Region, unit: int) -> None:
        """Run regions again, outermost first, until the saved tensors of ``unit`` exist."""
        if (region.start, region.end) not in self._filled:
            self._copies.wait_for_arrival(Holder("region_copy", region.start, region.end))
            self._rerun(region, unit)
        child = region.child_at(unit)
        if child is not None:
            self._materialise(child, unit)

    def _rerun(self, region: Region, target: int) -> None:
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
            following = index + 1 if index + 1 < end else self._next_to_run(target)
            self._rerun_unit(region, self._chain.units[index], generation, following)
        if last is not None:
            for index in range(last.start, last.end):
                self._capture_inputs(last, self._chain.units[index])
        ended = self._live.drop(self._live.of_generation(generation), PROGRAM)
        held = list(self._inputs.pop(span, {}).values())
        self._builder.release_early([*ended, *self._live.drop(held, Holder("region", *span))])

    def _rerun_unit(self, region: Region, unit: ChainUnit, generation: int, following: int) -> None:
        child = region.child_at(unit.index)
        stops_early = unit.index + 1 == region.end
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
            upcoming=following,
            region_end=region.end,
        )

    # Backward

    def _next_to_run(self, target: int) -> int:
        """The unit that runs first for the backward of ``target``: it, or where a rerun begins."""
        region = self._stage.region_of(target)
        while region is not None:
            if (region.start, region.end) not in self._filled:
                return region.start
            region = region.child_at(target)
        return target

    def _prepare_backward(self, unit: ChainUnit) -> None:
        """Bring everything that a unit saved back: run again, fetched, restored."""
        region = self._stage.region_of(unit.index)
        if region is not None:
            self._materialise(region, unit.index)
            return
        span = (unit.index, unit.index + 1)
        self._copies.wait_for_arrival(Holder("copy", *span))
        plan = self._stage.plans[unit.index]
        if plan.compress:
            self._restore(unit, plan)
        if plan.rerun is not None:
            self._rerun_partly(unit, plan, span)

    def _restore(self, unit: ChainUnit, plan: UnitPlan) -> None:
        self._compute(
            InstructionKind.RESTORE,
            unit.index,
            plan.restore_s,
            plan.restore_rise_bytes,
            allocates=self._make_saved(unit, plan.compress),
            releases=[self._compressed.pop(unit.index)],
            upcoming=unit.index,
            weights_stay=True,
        )

    def _rerun_partly(self, unit: ChainUnit, plan: UnitPlan, span: tuple[int, int]) -> None:
        assert plan.rerun is not None
        inputs = self._inputs.pop(span, {}).values()
        self._compute(
            InstructionKind.RECOMPUTE,
            unit.index,
            plan.rerun.duration_s + plan.rerun_overhead_s,
            plan.rerun.transient_bytes,
            allocates=self._make_saved(unit, plan.rerun.fills),
            releases=self._live.drop(inputs, Holder("region", *span)),
            upcoming=unit.index,
            weights_stay=True,
        )

    def _make_saved(self, unit: ChainUnit, storages: Sequence[int]) -> list[int]:
        """Note saved storages that exist again; returns their buffers."""
        keep = Holder("save", unit.index, unit.index + 1)
        generation = self._copies.next_generation()
        buffers = []
        for storage in storages:
            key = self._saved[unit.index][storage] = (storage, generation)
            buffers.append(self._add(key, {keep}))
        return buffers

    def _run_backward(self, unit: ChainUnit, last: bool) -> None:
        keep = Holder("save", unit.index, unit.index + 1)
        saved = self._saved.pop(unit.index)
        released = {s.storage: s.released for s in unit.saved}
        deaths = [
            (storage, released[storage])
            for storage, key in saved.items()
            if self._live.held_only_by(key, keep)
        ]
        dropped = [(storage, 0) for storage in unit.dropped_backward]
        deaths += self._drop_times(k for k in dropped if self._live.held_only_by(k, PROGRAM))
        survivors = [s for s in unit.created_backward if self._outlives(s, unit)]
        transient = self._chain.transient_bytes(range(*unit.backward), unit, survivors, deaths)
        releases = self._live.drop(saved.values(), keep) + self._live.drop(dropped, PROGRAM)
        gradients = self._rank.gradients.allocate(unit.index)
        self._compute(
            InstructionKind.BACKWARD,
            unit.index,
            unit.backward_s,
            transient,
            allocates=[*gradients, *self._add_backward(survivors)],
            releases=releases,
            upcoming=self._next_to_run(unit.index - 1),
        )
        self._after_backward(unit, gradients, last)

    def _run_backward_input(self, unit: ChainUnit) -> None:
        """Gradients of the unit's inputs; everything saved stays for the other half."""
        split = self._chain.split(unit.index)
        later = Holder("weights", unit.index, unit.index + 1)
        dropped = [(storage, 0) for storage in unit.dropped_backward]
        self._carry(unit, later, [(s, 0) for s in split.carried])
        deaths = self._drop_times(k for k in dropped if self._live.held_only_by(k, PROGRAM))
        made = {
            s
            for op in split.inputs.ops
            for s in self._chain.made_by(op)
            if s not in split.inputs.absent
        }
        end = unit.backward[1]
        storages = self._chain.graph.storages
        survivors = [
            s
            for s in unit.created_backward
            if s in made and (s in split.carried or storages[s].dropped > end)
        ]
        transient = self._chain.transient_bytes(
            split.inputs.ops, unit, survivors, deaths, absent=split.inputs.absent
        )
        releases = self._live.drop(dropped, PROGRAM)
        buffers = self._add_backward(survivors)
        self._carry(unit, later, [(s, 0) for s in survivors if s in split.carried])
        self._free_carried(survivors, unit)
        self._compute(
            InstructionKind.BACKWARD_INPUT,
            unit.index,
            self._chain.half_time_s(split.inputs),
            transient,
            allocates=buffers,
            releases=releases,
            upcoming=self._next_to_run(unit.index - 1),
        )

    def _free_carried(self, survivors: Sequence[int], unit: ChainUnit) -> None:
        """The program lets go of what only the other half reads."""
        storages = self._chain.graph.storages
        ended = [(s, 0) for s in survivors if storages[s].dropped <= unit.backward[1]]
        self._live.drop(ended, PROGRAM)

    def _carry(self, unit: ChainUnit, holder: Holder, keys: Sequence[Key]) -> None:
        for key in keys:
            if self._live.holds(key):
                self._live.hold(key, holder)
                self._carried.setdefault(unit.index, []).append(key)

    def _run_backward_weight(self, unit: ChainUnit, last: bool) -> None:
        """Gradients of the unit's weights; then its saved tensors go."""
        span = (unit.index, unit.index + 1)
        split = self._chain.split(unit.index)
        survivors = [
            s
            for op in split.weights.ops
            for s in self._chain.made_by(op)
            if s not in split.weights.absent and self._outlives(s, unit)
        ]
        transient = self._chain.transient_bytes(
            split.weights.ops, unit, survivors, (), absent=split.weights.absent
        )
        saved = self._saved.pop(unit.index).values()
        releases = self._live.drop(saved, Holder("save", *span))
        releases += self._live.drop(self._carried.pop(unit.index, []), Holder("weights", *span))
        summed = self._chain.partial_gradients.keys() & set(unit.dropped_backward)
        releases += self._live.drop([(storage, 0) for storage in summed], PROGRAM)
        gradients = self._rank.gradients.allocate(unit.index)
        self._compute(
            InstructionKind.BACKWARD_WEIGHT,
            unit.index,
            self._chain.half_time_s(split.weights),
            transient,
            allocates=[*gradients, *self._add_backward(survivors)],
            releases=releases,
            upcoming=unit.index - 1,
        )
        self._after_backward(unit, gradients, last)

    def _after_backward(self, unit: ChainUnit, gradients: list[int], last: bool) -> None:
        wait = self._rank.gradients.after_backward(
            unit.index, self._micro_batch, self._number, gradients, last
        )
        if wait is not None:
            self._rank.optimizer_waits.append(wait)

    def _add_backward(self, survivors: Iterable[int]) -> list[int]:
        kept = [s for s in survivors if not self._of_weight(s)]
        return [self._add((storage, 0), {PROGRAM}) for storage in kept]

    def _outlives(self, storage: int, unit: ChainUnit) -> bool:
        if self._of_weight(storage):
            return self._rank.gradients.survive(unit.index)
        return self._chain.graph.storages[storage].dropped > unit.backward[1]

    def _of_weight(self, storage: int) -> bool:
        """Whether a storage is the gradient of a weight, or this stage's part of it."""
        role = self._chain.graph.storages[storage].role
        return role == GRADIENT or storage in self._stage.own_partials

    def _hand_over_gradients(self) -> None:
        """Keep gradients for earlier stages until they are sent."""
        if self._stage.start == 0:
            return
        made_here = {s for unit in self._stage.units for s in unit.created_backward}
        sent = [key for key in self._live.held_by(PROGRAM) if key[0] in made_here]
        self._builder.hold_for_send(self._live.drop(sent, PROGRAM))


def _in_order(unit: ChainUnit, plan: UnitPlan) -> list[int]:
    """Storages that are held after the forward, in order of saving."""
    held = {*plan.keep, *plan.offload}
    return [saved.storage for saved in unit.saved if saved.storage in held]
