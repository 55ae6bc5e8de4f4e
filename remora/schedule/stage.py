"""One stage of a pipeline: which units it holds, and what crosses its borders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from remora.schedule.chain import Chain, ChainUnit
from remora.schedule.recompute import (
    Rerun,
    compressed_bytes,
    is_recompute,
    rerun_of,
    restore_rise_bytes,
    storage_actions,
)
from remora.schedule.regions import Region, region_tree
from remora.schedule.schedule import Action, MemoryPlan, UnitOption

__all__ = ["Stage", "UnitPlan", "unit_plan"]


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """What the option of a unit outside of regions does.

    Attributes:
        keep, offload, compress: saved storages by action, in order of saving.
        compressed_bytes: size of each compressed copy.  # [num_compressed]
        restore_rise_bytes: rise of the memory level while they are restored.
        rerun: what runs again before its backward; None for nothing.
        rerun_overhead_s: what the host adds to that.
        record_overhead_s: what the host adds to the forward, to write its operators down.
        compress_s, restore_s: seconds of compressing and restoring.
    """

    keep: tuple[int, ...]
    offload: tuple[int, ...]
    compress: tuple[int, ...]
    compressed_bytes: tuple[int, ...]
    restore_rise_bytes: int
    rerun: Rerun | None
    rerun_overhead_s: float
    record_overhead_s: float
    compress_s: float
    restore_s: float

    def arrivals(self, unit: ChainUnit) -> Mapping[int, int]:
        """Compressed bytes by the operator count at which the forward makes them."""
        packed = {saved.storage: saved.packed for saved in unit.saved}
        found: dict[int, int] = {}
        for storage, size in zip(self.compress, self.compressed_bytes, strict=True):
            found[packed[storage]] = found.get(packed[storage], 0) + size
        return found


class Stage:
    """Units ``start`` to ``end - 1`` of a chain under a memory plan.

    Args:
        chain: per-unit tables of one micro-batch.
        memory: of the whole model; no group crosses the stage's borders.
        index: number of the stage.
        span: (start, end).
        unit_stage: stage of every unit.  # [num_units]

    Attributes:
        regions: its outermost recompute regions.
        received: activations of earlier stages that it reads.
    """

    def __init__(
        self,
        chain: Chain,
        memory: MemoryPlan,
        index: int,
        span: tuple[int, int],
        unit_stage: tuple[int, ...],
    ) -> None:
        self.chain = chain
        self.memory = memory
        self.index = index
        self.start, self.end = span
        self.window, self.distance = memory.pace_of(index)
        self.units = chain.units[self.start : self.end]
        inside = (r for r in region_tree(memory) if self.start <= r.start < self.end)
        self.regions = tuple(inside)
        self._unit_stage = unit_stage
        self._region_of = {u: r for r in self.regions for u in range(r.start, r.end)}

    def region_of(self, unit: int) -> Region | None:
        """The outermost region that holds a unit."""
        return self._region_of.get(unit)

    @cached_property
    def received(self) -> tuple[int, ...]:
        """Activations of earlier stages that some unit of this one reads."""
        creator = self.chain.creator_unit
        found = {s for unit in self.units for s in unit.inputs if creator[s] < self.start}
        return tuple(sorted(found))

    @cached_property
    def exported(self) -> frozenset[int]:
        """Activations made here that later stages read."""
        return frozenset(
            s
            for unit in self.units
            for s in unit.created
            if any(reader >= self.end for reader in self.chain.readers[s])
        )

    def sources(self) -> Mapping[int, int]:
        """Bytes of activations that come from each earlier stage."""
        chain = self.chain
        return self._by_stage({s: chain.creator_unit[s] for s in self.received})

    def gradient_sources(self) -> Mapping[int, int]:
        """Bytes of gradients that come from each later stage: from every reader of an activation.

        Every stage sums what its own units make of one gradient; the stage that made the
        activation sums over the stages that read it.
        """
        found: dict[int, int] = {}
        for storage in self.exported & self.chain.differentiable:
            for stage in {self._unit_stage[r] for r in self.chain.readers[storage]}:
                if stage > self.index:
                    found[stage] = found.get(stage, 0) + self.chain.num_bytes(storage)
        return found

    @cached_property
    def received_bytes(self) -> int:
        """Bytes of the receive buffers of one micro-batch, activations and gradients."""
        activations = sum(self.chain.num_bytes(s) for s in self.received)
        return activations + sum(self.gradient_sources().values())

    @cached_property
    def own_partials(self) -> frozenset[int]:
        """Parts of shared weights' gradients that no unit of the stage adds to: gradients of it."""
        return frozenset(
            storage
            for storage, reader in self.chain.partial_gradients.items()
            if not self.start <= reader < self.end
        )

    @cached_property
    def plans(self) -> Mapping[int, UnitPlan]:
        """What happens to the saved storages of every unit outside of regions."""
        return {
            unit.index: unit_plan(self.chain, unit.index, self.memory.options[unit.index])
            for unit in self.units
            if unit.index not in self._region_of
        }

    def _by_stage(self, makers: Mapping[int, int]) -> Mapping[int, int]:
        found: dict[int, int] = {}
        for storage, unit in makers.items():
            stage = self._unit_stage[unit]
            found[stage] = found.get(stage, 0) + self.chain.num_bytes(storage)
        return found


def unit_plan(chain: Chain, unit: int, option: UnitOption) -> UnitPlan:
    """Say what an option does to a unit outside of regions.

    Args:
        chain: the units.
        unit: index of the unit.
        option: valid for it.
    """
    actions = storage_actions(chain, unit, option)
    by_action: dict[Action, list[int]] = {action: [] for action in Action}
    for saved in chain.units[unit].saved:
        by_action[actions[saved.storage]].append(saved.storage)
    compress = by_action[Action.COMPRESS]
    originals = [chain.num_bytes(s) for s in compress]
    copies = tuple(compressed_bytes(chain, s) for s in compress)
    rerun = None if is_recompute(option) else rerun_of(chain, unit, option)
    moved = sum(1 for _, action in option.actions if action is Action.RECOMPUTE)
    start, end = chain.units[unit].forward
    return UnitPlan(
        keep=tuple(by_action[Action.KEEP]),
        offload=tuple(by_action[Action.OFFLOAD]),
        compress=tuple(compress),
        compressed_bytes=copies,
        restore_rise_bytes=restore_rise_bytes(originals, copies),
        rerun=rerun,
        rerun_overhead_s=chain.costs.saved_tensor_overhead_s * moved,
        record_overhead_s=chain.costs.recorded_op_overhead_s * (end - start) if rerun else 0.0,
        compress_s=sum(originals) / chain.costs.compress_bytes_per_s,
        restore_s=sum(originals) / chain.costs.restore_bytes_per_s,
    )
