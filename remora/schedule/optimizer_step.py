"""The end of a step on one rank: optimizer, host copies around it, release of gradients."""

from __future__ import annotations

from collections.abc import Sequence

from remora.schedule.layout import Layout
from remora.schedule.program import InstructionKind, Stream
from remora.schedule.rank_context import RankContext
from remora.schedule.schedule import Placement

__all__ = ["lower_optimizer"]


def lower_optimizer(layout: Layout, number: int, rank: RankContext, waits: Sequence[int]) -> None:
    """Append the optimizer step of a rank.

    With its state on the host the gradients go there first, unless they went unit by unit, and
    the weights that live on the device come back. With ZeRO 1 every replica steps its share and
    the weights are gathered, once they are on the device.

    Args:
        layout: sizes and times.
        number: of the rank.
        rank: its context.
        waits: instructions that must have ended.
    """
    builder, problem = rank.builder, layout.problem
    before = (*rank.optimizer_waits, *waits)
    for instruction in before:
        builder.wait(instruction)
    held = [*builder.take_gradients(), *builder.end_step()]
    if not problem.optimizer.counted:
        builder.release_at_end(held)
        builder.release_pending_at_end()
        return
    costs = layout.step_costs(number)
    if costs.store_s:
        kind = InstructionKind.STORE_GRADIENTS
        moved = builder.issue(kind, Stream.D2H, -1, -1, costs.store_s, stage=-1, waits=before)
        builder.wait(moved)
    on_host = layout.state.optimizer is Placement.HOST
    builder.compute(
        InstructionKind.OPTIMIZER,
        unit=-1,
        micro_batch=-1,
        duration_s=costs.step_s,
        transient_bytes=0 if on_host else costs.temporary_bytes,
        stage=-1,
        releases=held,
    )
    loaded: list[int] = []
    if costs.load_s:
        kind = InstructionKind.LOAD_WEIGHTS
        loaded = [builder.issue(kind, Stream.H2D, -1, -1, costs.load_s, stage=-1)]
    if costs.gather_s:
        kind = InstructionKind.GATHER_WEIGHTS
        builder.issue(kind, Stream.COLLECTIVE, -1, -1, costs.gather_s, stage=-1, waits=loaded)
