"""What a schedule makes of every unit: seconds by part of the step, bytes and events.

Legend: U units, n schedules, P parts (:data:`PARTS`), K kinds of events (:data:`EVENTS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.schedule.chain import Chain
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.recompute import is_recompute, storage_actions
from remora.schedule.schedule import Action, Group, MemoryPlan, UnitOption
from remora.schedule.stage import unit_plan

__all__ = ["EVENTS", "EVENT_LAUNCHES", "PARTS", "OptionTable", "SchedulePlan", "unit_seconds"]

Floats = NDArray[np.float64]

PARTS = ("forward", "backward", "rerun", "hooks", "copies")
"""Where a unit's time goes: its operators, operators run again, what the host adds per saved
tensor that is not simply kept, and copies to the host, low-bit copies included."""

EVENT_LAUNCHES: Mapping[str, float] = {
    "forward_ops": 1.0,
    "backward_ops": 1.0,
    "rerun_ops": 1.0,
    "recomputed_tensors": 10.0,
    "moved_tensors": 30.0,
    "regions": 100.0,
    "partial_units": 300.0,
    "parameters": 20.0,
}
"""What happens so and so often in a step and may cost host time each time; about how many times
as long as the launch of an operator."""

EVENTS = (*EVENT_LAUNCHES, "gradient_bytes")
"""The last are bytes, which are new to the caches and to the process in every step."""

_OPTION_COLUMNS = (
    "kept_bytes",
    "recomputed_bytes",
    "moved_bytes",
    "compressed_bytes",
    "recomputed_tensors",
    "moved_tensors",
    "rerun_s",
    "rerun_ops",
    "hooks_s",
    "copies_s",
    "whole",
    "partial",
)
_COLUMN = {name: place for place, name in enumerate(_OPTION_COLUMNS)}


@dataclass(frozen=True)
class SchedulePlan:
    """What n schedules make of U units.

    Attributes:
        options: what the option of every unit does, by column name; nothing inside of groups,
            where a unit is recomputed as a whole.  # [U, n] each
        full_reruns: how often all of a unit's forward runs again.  # [U, n]
        stopped_reruns: how often it runs again up to its last saved tensor.  # [U, n]
        depth: recompute regions around the unit.  # [U, n]
        checkpoint_s: seconds of moving checkpoints of groups, at their first unit.  # [U, n]
        checkpoint_bytes: their bytes.  # [U, n]
        starts: recompute regions that begin at the unit.  # [U, n]
    """

    options: dict[str, Floats]
    full_reruns: Floats
    stopped_reruns: Floats
    depth: Floats
    checkpoint_s: Floats
    checkpoint_bytes: Floats
    starts: Floats


class OptionTable:
    """Looks up what the options of one chain do; every option is worked out once.

    Args:
        chain: the units.
        rates: of the host link.
    """

    def __init__(self, chain: Chain, rates: HostLinkRates) -> None:
        self._chain = chain
        self._rates = rates
        self._known: dict[tuple[int, int], tuple[int, UnitOption]] = {}
        self._by_value: dict[tuple[int, UnitOption], int] = {}
        self._rows: list[tuple[float, ...]] = []
        self._checkpoints: dict[tuple[int, int], tuple[float, float]] = {}

    def plan(self, memories: Sequence[MemoryPlan]) -> SchedulePlan:
        """Look up memory plans of the whole chain."""
        units = len(self._chain.units)
        chosen = np.array(
            [[self._row(u, o) for u, o in enumerate(memory.options)] for memory in memories],
            dtype=np.int64,
        ).reshape(len(memories), units)
        rows = np.array(self._rows).reshape(-1, len(_OPTION_COLUMNS))[chosen.T]  # [U, n, columns]
        whole = rows[:, :, _COLUMN["whole"]]
        counts = np.zeros((6, units, len(memories)))
        full, stopped, depth, starts, checkpoint_s, checkpoint_bytes = counts
        # A unit that is recomputed as a whole is a region of its own, in a group or outside.
        counts[1:4] += whole
        for place, memory in enumerate(memories):
            for group in (inner for outer in memory.groups for inner in outer.walk()):
                _count(group, whole[:, place], counts[:4, :, place])
                if group.checkpoint is Action.OFFLOAD:
                    seconds, num_bytes = self._checkpoint(group)
                    checkpoint_s[group.start, place] += seconds
                    checkpoint_bytes[group.start, place] += num_bytes
        grouped = (depth > 0) & (whole == 0)
        rows[grouped] = self._whole_rows()[np.nonzero(grouped)[0]]
        options = {name: rows[:, :, place] for name, place in _COLUMN.items()}
        return SchedulePlan(options, full, stopped, depth, checkpoint_s, checkpoint_bytes, starts)

    def _row(self, unit: int, option: UnitOption) -> int:
        # Most options come out of menus, so the same object is met again and again.
        known = self._known.get((unit, id(option)))
        if known is not None:
            return known[0]
        row = self._by_value.get((unit, option))
        if row is None:
            row = self._by_value[unit, option] = len(self._rows)
            self._rows.append(self._option_row(unit, option))
        self._known[unit, id(option)] = (row, option)
        return row

    def _option_row(self, unit: int, option: UnitOption) -> tuple[float, ...]:
        if is_recompute(option):
            return self._whole_row(unit)
        chain, record = self._chain, self._chain.units[unit]
        plan = unit_plan(chain, unit, option)
        moved = [chain.num_bytes(s) for s in plan.offload]
        copies_s = self._rates.store_s(moved) + self._rates.load_s(moved) if moved else 0.0
        actions = storage_actions(chain, unit, option)
        recomputed = [s for s, action in actions.items() if action is Action.RECOMPUTE]
        return (
            sum(chain.num_bytes(s) for s in plan.keep),
            sum(chain.num_bytes(s) for s in recomputed),
            sum(moved),
            sum(plan.compressed_bytes),
            len(recomputed),
            len(moved) + len(plan.compress),
            plan.rerun.duration_s if plan.rerun else 0.0,
            len(plan.rerun.ops) if plan.rerun else 0,
            plan.rerun_overhead_s + plan.record_overhead_s + (record.hooks_s if moved else 0.0),
            copies_s + plan.compress_s + plan.restore_s,
            0.0,
            float(plan.rerun is not None),
        )

    def _whole_row(self, unit: int) -> tuple[float, ...]:
        """What recomputing a whole unit does, its reruns left out: they depend on the groups."""
        record = self._chain.units[unit]
        moved = (record.saved_bytes, 0, 0, len(record.saved), 0)
        return (0.0, *moved, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    def _whole_rows(self) -> Floats:
        """One row per unit that some group runs again.  # [U, columns]."""
        rows = [self._whole_row(unit.index) for unit in self._chain.units]
        return np.array(rows).reshape(-1, len(_OPTION_COLUMNS))

    def _checkpoint(self, group: Group) -> tuple[float, float]:
        """Seconds and bytes of moving what only a group reads, there and back."""
        span = (group.start, group.end)
        if span not in self._checkpoints:
            sizes = [self._chain.num_bytes(s) for s in self._chain.private_inputs(*span)]
            seconds = self._rates.store_s(sizes) + self._rates.load_s(sizes)
            self._checkpoints[span] = (seconds, float(sum(sizes)))
        return self._checkpoints[span]


def unit_seconds(chain: Chain, plan: SchedulePlan) -> Floats:
    """Seconds of every part of every unit, as the simulator adds them up.  # [U, n, P]."""
    table = np.array([(u.forward_s, u.backward_s, u.rerun_s, u.hooks_s) for u in chain.units])
    forward_s, backward_s, rerun_s, hooks_s = (column[:, None] for column in table.T)
    options = plan.options
    reruns_s = plan.full_reruns * forward_s + plan.stopped_reruns * rerun_s
    parts = (
        np.broadcast_to(forward_s, plan.depth.shape),
        np.broadcast_to(backward_s, plan.depth.shape),
        reruns_s + options["rerun_s"],
        (plan.full_reruns + plan.stopped_reruns) * hooks_s + options["hooks_s"],
        options["copies_s"] + plan.checkpoint_s,
    )
    return np.stack(parts, axis=2)


def _count(group: Group, whole: Floats, counts: Floats) -> None:
    """Count what one run of a group runs again: see ``remora.schedule.region_reruns``.

    Args:
        group: nested or not.
        whole: 1 for units that are recomputed as a whole.  # [U]
        counts: full and stopped reruns, depth and regions that start, to add to.  # [4, U]
    """
    full, stopped, depth, starts = counts
    start, end = group.start, group.end
    if end - start == 1:
        # The group takes the place of the unit's own region.
        counts[1:, start] -= whole[start]
    depth[start:end] += 1
    starts[start] += 1
    if group.children and group.children[-1].end == end:
        full[start : group.children[-1].start] += 1
        return
    full[start : end - 1] += 1
    if end - start == 1 or not whole[end - 1]:
        stopped[end - 1] += 1
