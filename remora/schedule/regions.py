"""The tree of recompute regions that a memory plan describes.

Every group is a region, and so is every unit whose option recomputes everything, inside the
innermost group around it. The executor and the simulator both read a plan through this tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from remora.schedule.menu import is_recompute
from remora.schedule.schedule import Action, Group, MemoryPlan


@dataclass(frozen=True, slots=True)
class Region:
    """Units ``start`` to ``end - 1``, run again from the inputs of ``start``.

    Attributes:
        start, end: half-open range of unit indices.
        offload_checkpoint: tensors that only this region reads wait on the host.
        children: regions inside, in order; units between them are kept once run again.
    """

    start: int
    end: int
    offload_checkpoint: bool
    children: tuple[Region, ...]

    def child_at(self, unit: int) -> Region | None:
        """The direct child that holds ``unit``."""
        return next((c for c in self.children if c.start <= unit < c.end), None)

    def walk(self) -> Iterator[Region]:
        """Yield this region and all inner ones, outer before inner."""
        yield self
        for child in self.children:
            yield from child.walk()


def region_tree(memory: MemoryPlan) -> tuple[Region, ...]:
    """The outermost regions of a plan, in order."""
    return _regions(memory, memory.groups, 0, len(memory.options))


def _regions(
    memory: MemoryPlan, groups: tuple[Group, ...], start: int, end: int
) -> tuple[Region, ...]:
    regions: list[Region] = []
    position = start
    for group in groups:
        regions += _single_units(memory, position, group.start)
        alone = group.end - group.start == 1
        regions.append(
            Region(
                group.start,
                group.end,
                group.checkpoint is Action.OFFLOAD,
                () if alone else _regions(memory, group.children, group.start, group.end),
            )
        )
        position = group.end
    regions += _single_units(memory, position, end)
    return tuple(regions)


def _single_units(memory: MemoryPlan, start: int, end: int) -> list[Region]:
    return [
        Region(index, index + 1, False, ())
        for index in range(start, end)
        if is_recompute(memory.options[index])
    ]
