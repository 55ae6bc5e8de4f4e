"""Forward and backward tasks of one micro-batch in one stage under a memory plan."""

from __future__ import annotations

from remora.schedule.chain import ChainUnit
from remora.schedule.holders import EXPORT, PROGRAM, Holder
from remora.schedule.program import InstructionKind
from remora.schedule.stage import UnitPlan
from remora.schedule.unit_halves import UnitHalves

__all__ = ["StageRun"]


class StageRun(UnitHalves):
    """Lowers the tasks; see :class:`~remora.schedule.stage_walk.StageWalk`."""

    def forward(self) -> None:
        """Lower the forward task."""
        for unit in self._stage.units:
            self._rank.pending.start_forward()
            self._forward(unit)
        self._end_forward()

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
        cache = self._rank.take_cache(unit.index)
        if cache is not None:
            self._copies.store_cache(unit.index, *cache)

    def _end_forward(self) -> None:
        """Let go of what the program holds in the forward of later stages only."""
        chain = self._chain
        if chain.graph.forward_only:
            self._end_pass()
            return
        end, forward_ops = self._stage.units[-1].forward[1], chain.graph.num_forward_ops
        passing = [
            (storage, 0)
            for unit in self._stage.units
            for storage in unit.created
            if end < chain.graph.storages[storage].dropped <= forward_ops
            and self._stage.end < len(chain.units)
        ]
        self._builder.release_at_end(self._live.drop(passing, PROGRAM))

    def _end_pass(self) -> None:
        """Keep results for later stages until they are sent, and let go of everything else."""
        sent = self._live.held_by(EXPORT)
        self._live.drop(sent, PROGRAM)
        self._builder.hold_for_send(self._live.drop(sent, EXPORT))
        self._builder.release_at_end(self._live.drop_all())

    def backward(self, last: bool, halves: bool = False) -> None:
        """Lower the backward task, or its first half.

        Args:
            last: no later micro-batch adds to the stage's gradients.
            halves: leave the gradients of weights to :meth:`backward_weight`.
        """
        self._copies.wait_before_backward()
        for unit in reversed(self._stage.units):
            self._place(self._copies.prefetch(unit.index))
            if not (halves and self._waits_for_weights(unit)):
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
            if self._waits_for_weights(unit):
                self._prepare_backward(unit)
            self._run_backward_weight(unit, last)
        self._builder.release_at_end(self._live.drop_all())

    def _waits_for_weights(self, unit: ChainUnit) -> bool:
        """Whether nothing that a unit saved is needed before the second half of its backward."""
        return unit.index == self._stage.start and not self._chain.split(unit.index).inputs.ops

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
