"""Bounds for schedules that run the whole model on every rank, with one placement of the state.

The compute stream runs one micro-batch after the other and then the optimizer; before it, copies
and sums of the last gradients have ended, and after it weights come back or are gathered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

from remora.graph.model_graph import PARAMETER
from remora.schedule.layout import Layout, StepCosts
from remora.schedule.lowering import resident_bytes
from remora.schedule.parameters import StaticStorage
from remora.schedule.schedule import Placement
from remora.simulator.bounds.gradient_moves import GradientMoves
from remora.simulator.bounds.micro_batch import extra_seconds
from remora.simulator.bounds.records import LowerBounds
from remora.simulator.bounds.releases import Ways
from remora.simulator.bounds.tables import ChainTables, chain_tables

__all__ = ["OneRank"]


class OneRank:
    """Bounds of the schedules with one micro-batch count and one placement of the state.

    Where the optimizer is on the host, any weights may be streamed.

    Args:
        layout: of a schedule without a pipeline and without streamed weights.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._problem = layout.problem
        self._tables: ChainTables = chain_tables(layout.chain, layout.problem.allow_lossy)
        self._count = layout.schedule.pipeline.micro_batches
        self._overlap = layout.problem.hardware.copies_overlap
        self._gradients = GradientMoves(layout)

    @cached_property
    def path_s(self) -> float:
        """Seconds of what runs in sequence if memory is unlimited."""
        computed_s = self._lead_s + self._compute_s
        summed_s = max(computed_s + self._gradients.late_s, self._collective_s)
        return max(summed_s, computed_s + self._step.store_s) + self._end_s(streaming=True)

    def bounds(self) -> LowerBounds:
        """All bounds."""
        path_s = self.path_s
        work_s = self._compute_s + self._step.step_s
        if not self._may_fit():
            return LowerBounds(work_s, path_s, math.inf, math.inf)
        transfer_s = self._transfer_s()
        tail_s = max(self._gradients.last_s, self._step.store_s)
        serial_s = self._lead_s + self._compute_s + tail_s + self._end_s(streaming=False)
        memory_s = serial_s + self._extra_s()
        return LowerBounds(work_s, path_s, transfer_s, max(path_s, transfer_s, memory_s))

    # Time

    @property
    def _compute_s(self) -> float:
        """The compute stream before the optimizer, nothing recomputed or offloaded."""
        once_s = self._tables.forward_s + self._tables.backward_s
        inline_s = 0.0 if self._overlap else sum(self._gradients.stores_s)
        return self._count * (once_s + inline_s)

    @cached_property
    def _step(self) -> StepCosts:
        if not self._problem.optimizer.counted:
            return StepCosts(0.0, 0.0, 0.0, 0.0, 0)
        return self._layout.step_costs(0)

    def _end_s(self, streaming: bool) -> float:
        """The optimizer and how its weights get back; nothing to copy if all are streamed."""
        step = self._step
        load_s = step.load_s
        if self._streamed:
            load_s = 0.0 if streaming else self._whole_load_s
        return step.step_s + load_s + step.gather_s

    @cached_property
    def _gathers_s(self) -> list[tuple[float, bool]]:
        """First fetch of every unit's sharded weights, and whether it is the only one."""
        found = self._layout.fetches(0)
        return [
            (fetch.duration_s, once)
            for fetches, _, once in found
            for _, fetch in sorted(fetches.items())
        ]

    @property
    def _lead_s(self) -> float:
        """What the first forward waits for."""
        firsts = (
            fetches[0].duration_s for fetches, _, _ in self._layout.fetches(0) if 0 in fetches
        )
        return max(firsts, default=0.0)

    @property
    def _collective_s(self) -> float:
        """The collective stream before the optimizer."""
        sums = 1 if self._gradients.sums_per_step else self._count
        gathers_s = sum(s * (1 if once else 2 * self._count) for s, once in self._gathers_s)
        return gathers_s + sums * sum(self._gradients.sums_s)

    # Memory

    @cached_property
    def _resident_bytes(self) -> int:
        return sum(resident_bytes(self._layout, 0).values())

    @cached_property
    def _streamed(self) -> tuple[StaticStorage, ...]:
        """Weights that could wait on the host."""
        state = self._layout.state
        if state.optimizer is not Placement.HOST or state.zero_stage > 1:
            return ()
        statics = self._tables.chain.statics.all
        return tuple(e for e in statics if e.role == PARAMETER)

    @cached_property
    def _ways(self) -> Ways:
        can_offload = self._problem.hardware.can_offload
        return Ways(self._layout.host_rates if can_offload else None, self._streamed)

    def _needs(self, first: bool) -> list[int]:
        """Bytes that must be free when each backward begins.  # [num_units]."""
        tables = self._tables
        gathered = [0] * len(tables.points)
        for fetches, _, _ in self._layout.fetches(0):
            for unit, fetch in fetches.items():
                gathered[unit] += fetch.num_bytes
        kept = self._gradients.kept_bytes
        always = self._resident_bytes - self._problem.budget_bytes
        return [
            always
            + (point.num_bytes if first else point.later_bytes)
            + tables.pinned.beside_bytes[unit]
            + tables.free_bytes[unit]
            + gathered[unit]
            + sum(kept[unit + 1 :] if first else kept)
            for unit, point in enumerate(tables.points)
        ]

    def _may_fit(self) -> bool:
        """Whether everything fits when all is free that can be."""
        weights = self._streamed
        last = self._resident_bytes + sum(self._gradients.kept_bytes) + self._step.temporary_bytes
        if last - sum(e.num_bytes for e in weights) > self._problem.budget_bytes:
            return False
        for unit, need in enumerate(self._needs(first=self._count == 1)):
            streamed = sum(e.num_bytes for e in weights if unit not in e.units)
            if need > streamed + self._most_free(unit):
                return False
        return True

    def _most_free(self, unit: int) -> int:
        moves = self._problem.hardware.can_offload
        groups = self._tables.free_at(unit)
        return sum(g.num_bytes if moves else g.computed_bytes for g in groups)

    # Both

    @property
    def _whole_load_s(self) -> float:
        """Seconds of bringing all trained weights back, latency left out."""
        return self._load_s_per_byte * sum(e.num_bytes for e in self._streamed if e.gradient_bytes)

    @property
    def _load_s_per_byte(self) -> float:
        shards = self._layout.replicas if self._layout.state.zero_stage >= 1 else 1
        return 1.0 / (shards * self._layout.host_rates.h2d_bytes_per_s)

    def _extra_s(self) -> float:
        """What the micro-batches lose together; the first one has fewer gradients beside it."""
        saved_s = self._load_s_per_byte if self._streamed else 0.0
        if self._count == 1:
            return self._lost_s(self._needs(first=True), saved_s)
        later = self._count - 1
        first_s = self._lost_s(self._needs(first=True), 0.0)
        return first_s + later * self._lost_s(self._needs(first=False), saved_s / later)

    def _lost_s(self, needs: Sequence[int], saved_s_per_byte: float) -> float:
        return extra_seconds(self._tables, needs, self._ways, self._overlap, saved_s_per_byte)

    def _transfer_s(self) -> float:
        """Copies of what recomputation and compression cannot free, and of the state."""
        step = self._step
        state_s = step.store_s + (0.0 if self._streamed else step.load_s)
        rates = self._layout.host_rates
        forced = max(
            (
                need - sum(g.computed_bytes for g in self._tables.free_at(unit))
                for unit, need in enumerate(self._needs(first=True))
            ),
            default=0,
        )
        if forced <= 0:
            return state_s
        both_ways_s = self._count * (1 / rates.d2h_bytes_per_s + 1 / rates.h2d_bytes_per_s)
        if self._streamed:
            both_ways_s = min(both_ways_s, 2 * self._count / rates.h2d_bytes_per_s)
        return state_s + forced * both_ways_s
