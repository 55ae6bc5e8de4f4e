"""Recompute regions: taking hold of their inputs, running them again."""

from __future__ import annotations

from collections.abc import Mapping

from remora.schedule.chain import ChainUnit
from remora.schedule.holders import PROGRAM, Holder, Key
from remora.schedule.program import InstructionKind
from remora.schedule.regions import Region
from remora.schedule.unit_forward import UnitForward

__all__ = ["RegionReruns"]


class RegionReruns(UnitForward):
    """Fills the saved tensors of regions, outermost first, when a backward needs them."""

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

    def _next_to_run(self, target: int) -> int:
        """The unit that runs first for the backward of ``target``: it, or where a rerun begins."""
        region = self._stage.region_of(target)
        while region is not None:
            if (region.start, region.end) not in self._filled:
                return region.start
            region = region.child_at(target)
        return target
