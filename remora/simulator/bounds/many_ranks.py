"""Bounds for pipelines of several ranks with one placement of the state.

The ranks are looked at together: the slowest takes no less than the average. When a rank begins
the backward of its last unit for some micro-batch, the saved storages of all its units are in its
memory or free, beside its weights and optimizer; added up over the ranks, that is one row of a
linear program. Receive buffers, finished gradients and other micro-batches come on top and are
not counted.
"""

from __future__ import annotations

import math
from functools import cached_property

from remora.graph.model_graph import PARAMETER
from remora.schedule.layout import Layout
from remora.schedule.links import Links
from remora.schedule.parameters import StaticStorage
from remora.schedule.schedule import Placement, StatePlan
from remora.schedule.state_bytes import StateBytes
from remora.simulator.bounds.linear_program import LinearProgram
from remora.simulator.bounds.pipelines import PipelineTime
from remora.simulator.bounds.records import LowerBounds
from remora.simulator.bounds.releases import Releases, Term, Ways
from remora.simulator.bounds.tables import ChainTables, chain_tables

__all__ = ["ManyRanks"]


class ManyRanks:
    """Bounds of the pipelines of one number of ranks and micro-batches.

    Where the optimizer is on the host, any weights may be streamed.

    Args:
        whole: the micro-batches, not cut into stages.
        state: placement, without streamed weights.
        num_ranks: ranks of one replica, 2 or more.
        time: of these pipelines if memory is unlimited.
    """

    def __init__(self, whole: Layout, state: StatePlan, num_ranks: int, time: PipelineTime) -> None:
        self._problem = problem = whole.problem
        self._ranks = num_ranks
        self._count = whole.schedule.pipeline.micro_batches
        self._state = state
        self._time = time
        self._rates = whole.host_rates
        self._overlap = problem.hardware.copies_overlap
        self._chain = whole.chain
        self._tables: ChainTables = chain_tables(whole.chain, problem.allow_lossy)
        self._replicas = problem.num_groups // num_ranks
        self._bytes = StateBytes(
            whole.chain.statics.all, problem.optimizer, state, self._replicas, ()
        )

    @cached_property
    def path_s(self) -> float:
        """Seconds of the average rank, and of what runs in sequence, if memory is unlimited."""
        collective_s = (self._collective_s + self._optimizer_s) / self._ranks
        return max(self._time.path_s, self._average_s, collective_s)

    def bounds(self) -> LowerBounds:
        """All bounds."""
        path_s = self.path_s
        work_s = (self._work_s + self._step_s) / self._ranks
        if not self._may_fit():
            return LowerBounds(work_s, path_s, math.inf, math.inf)
        transfer_s = self._transfer_s()
        memory_s = self._average_s + self._extra_s()
        return LowerBounds(work_s, path_s, transfer_s, max(path_s, transfer_s, memory_s))

    # Time, of all ranks together

    @property
    def _work_s(self) -> float:
        return self._count * (self._tables.forward_s + self._tables.backward_s)

    @cached_property
    def _average_s(self) -> float:
        """Seconds of the average rank."""
        end_s = max(self._time.trail_s, self._optimizer_s)
        return (self._work_s + self._time.lead_s + end_s) / self._ranks

    @property
    def _shards(self) -> int:
        return self._replicas if self._state.zero_stage >= 1 else 1

    @cached_property
    def _step_s(self) -> float:
        """Seconds of all optimizer steps."""
        if not self._problem.optimizer.counted:
            return 0.0
        costs = self._chain.costs
        on_host = self._state.optimizer is Placement.HOST
        step_s = costs.host_optimizer_time_s if on_host else costs.optimizer_time_s
        whole = self._chain.statics.gradient_bytes
        share = min(1.0, self._bytes.gradient_bytes / whole) if whole else 1.0
        return step_s * share / self._shards

    @cached_property
    def _optimizer_s(self) -> float:
        """The optimizer steps with the moves around them; weights may all be streamed."""
        if not self._problem.optimizer.counted:
            return 0.0
        moved_s = 0.0
        if self._state.optimizer is Placement.HOST and self._state.gradients is Placement.DEVICE:
            moved_s = self._bytes.gradient_bytes / self._shards / self._rates.d2h_bytes_per_s
        if self._state.optimizer is Placement.HOST and not self._streamed:
            trained = sum(e.num_bytes for e in self._bytes.statics if e.gradient_bytes)
            moved_s += trained / self._shards / self._rates.h2d_bytes_per_s
        if self._state.zero_stage == 1:
            moved_s += self._gather_s(self._bytes.gradient_bytes)
        return moved_s + self._step_s

    @property
    def _collective_s(self) -> float:
        """Sums of gradients and gathers of weights."""
        if self._replicas == 1:
            return 0.0
        gradients_s = self._gather_s(self._bytes.gradient_bytes)
        if self._state.zero_stage < 2:
            sums = self._count if self._state.gradients is Placement.HOST else 1
            return sums * 2 * gradients_s
        weights = sum(e.num_bytes for e in self._bytes.statics if e.role == PARAMETER)
        uses = 1 if self._state.zero_stage == 2 else 2 * self._count
        return self._count * gradients_s + uses * self._gather_s(weights)

    def _gather_s(self, num_bytes: int) -> float:
        """Seconds of one pass over the replicas of the best placed rank."""
        links = Links(self._problem.hardware, self._replicas, self._problem.tensor_degree)
        return min(links.gather_s(rank, num_bytes) for rank in range(self._ranks))

    # Memory, of all ranks together

    @cached_property
    def _streamed(self) -> tuple[StaticStorage, ...]:
        """Weights that could wait on the host."""
        if self._state.optimizer is not Placement.HOST or self._state.zero_stage > 1:
            return ()
        return tuple(e for e in self._bytes.statics if e.role == PARAMETER)

    @property
    def _budget_bytes(self) -> int:
        return self._ranks * self._problem.budget_bytes

    @property
    def _state_bytes(self) -> int:
        """Weights, optimizer and batch."""
        batch = self._count * self._bytes.input_bytes
        return self._bytes.weights_bytes + self._bytes.optimizer_bytes + batch

    @cached_property
    def _need(self) -> int:
        """Bytes that must be free."""
        free = sum(group.num_bytes for group in self._tables.groups)
        saved = free + self._tables.pinned.total_bytes
        return self._state_bytes + saved - self._budget_bytes

    def _may_fit(self) -> bool:
        """Whether everything fits when all is free that can be."""
        gradients = self._bytes.gradient_bytes
        if self._state.gradients is Placement.HOST:
            gradients = 0
        elif self._state.zero_stage >= 2:
            gradients //= self._replicas
        weights = sum(e.num_bytes for e in self._streamed)
        if self._state_bytes + gradients - weights > self._budget_bytes:
            return False
        moves = self._problem.hardware.can_offload
        groups = self._tables.free_at(self._last_unit)
        return self._need <= weights + sum(
            group.num_bytes if moves else group.computed_bytes for group in groups
        )

    @property
    def _last_unit(self) -> int:
        """The unit that is the last one of its rank in any case."""
        return len(self._tables.points) - 1

    # Both

    def _transfer_s(self) -> float:
        """Copies of what recomputation and compression cannot free, by the average rank."""
        groups = self._tables.free_at(self._last_unit)
        forced = self._need - sum(group.computed_bytes for group in groups)
        if forced <= 0:
            return 0.0
        there_s, back_s = 1 / self._rates.d2h_bytes_per_s, 1 / self._rates.h2d_bytes_per_s
        # The two directions overlap, since one micro-batch may leave while another comes back.
        both_ways_s = max(there_s, back_s) if self._overlap else there_s + back_s
        if self._streamed:
            both_ways_s = min(both_ways_s, 2 * back_s)
        return self._count * forced * both_ways_s / self._ranks

    def _extra_s(self) -> float:
        """Least seconds that the average rank takes beyond ``_average_s``."""
        if self._need <= 0:
            return 0.0
        unit_s = self._average_s or 1.0
        program = LinearProgram()
        can_offload = self._problem.hardware.can_offload
        ways = Ways(self._rates if can_offload else None, self._streamed)
        releases = Releases(program, self._chain, self._tables.groups, ways, unit_s)
        program.at_least(releases.freed_at(self._last_unit), self._need)
        again = [*releases.recompute, *releases.compress, *releases.restore]
        stores: list[Term] = [(t.variable, t.seconds) for t in releases.stores]
        loads: list[Term] = [(t.variable, t.seconds) for t in releases.loads]
        loads += [(t.variable, 2 * t.seconds) for t in releases.weights]
        streams = [again, stores, loads] if self._overlap else [again + stores + loads]
        share = self._count / self._ranks
        extra = program.variable(share * max(_sum(terms) for terms in streams), cost=1.0)
        for terms in streams:
            hidden = 1.0 if terms is stores or terms is loads else 0.0
            program.at_least([(extra, 1.0), *((v, -share * s) for v, s in terms)], -hidden)
        return program.lower_bound() * unit_s


def _sum(terms: list[Term]) -> float:
    return sum(factor for _, factor in terms)
