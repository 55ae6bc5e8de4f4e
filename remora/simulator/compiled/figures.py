"""Step time and peaks of many schedules of one problem."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from remora.schedule.host_copies import HostLinkRates
from remora.schedule.layout import host_link_rates
from remora.schedule.orders import TaskKind, pipeline_order, splits_backward
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Group, PipelineKind, Placement, Schedule, StatePlan
from remora.schedule.state_bytes import streamed_storages
from remora.simulator.compiled.batch_kernel import Outcomes, Plans, simulate_batch
from remora.simulator.compiled.chain_arrays import ChainArrays, chain_arrays
from remora.simulator.compiled.layout_kernel import Fixed
from remora.simulator.compiled.layout_state import GRADIENT
from remora.simulator.compiled.option_rows import OptionRows
from remora.simulator.compiled.problem_arrays import cache_arrays, hardware_arrays, static_arrays
from remora.simulator.compiled.run_clock import OrderArrays
from remora.simulator.compiled.scratch import Scratch, Size, new_scratch

__all__ = ["CompiledSimulator", "Figures", "simulator_of"]

Ints = NDArray[np.int64]

_MEMO = "compiled simulator"

_OPTIMIZER_CODES = {Placement.DEVICE: 0, Placement.HOST: 1, Placement.EIGHT_BIT: 2}


@dataclass(frozen=True, slots=True)
class Figures:
    """What the simulation of one schedule showed.

    Attributes:
        step_time_s: seconds of one step.
        peak_bytes: largest device level of every rank.  # [num_ranks]
        host_peak_bytes: largest number of pinned host bytes of every rank.  # [num_ranks]
    """

    step_time_s: float
    peak_bytes: tuple[int, ...]
    host_peak_bytes: tuple[int, ...]

    @property
    def max_peak_bytes(self) -> int:
        """Peak of the fullest rank."""
        return max(self.peak_bytes)


class CompiledSimulator:
    """Simulates schedules of one problem; the tables it needs are made once.

    Args:
        problem: graphs, costs and hardware.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._sides: dict[tuple[int, int], _Side] = {}
        self._chains: dict[int, _ChainSide] = {}

    def figures(self, schedule: Schedule) -> Figures:
        """Figures of one valid schedule."""
        return self.batch([schedule])[0]

    def batch(self, schedules: Sequence[Schedule]) -> list[Figures]:
        """Figures of many valid schedules.

        Schedules are not checked: see :func:`remora.schedule.validate.validate`.
        """
        found: list[Figures | None] = [None] * len(schedules)
        alike: dict[tuple[object, ...], list[int]] = {}
        for place, schedule in enumerate(schedules):
            pipeline = schedule.pipeline
            key = (pipeline.kind, pipeline.num_stages, pipeline.chunks, pipeline.micro_batches)
            alike.setdefault(key, []).append(place)
        for places in alike.values():
            chosen = [schedules[place] for place in places]
            for place, figures in zip(places, self._side(chosen[0]).batch(chosen), strict=True):
                found[place] = figures
        return [figures for figures in found if figures is not None]

    def _side(self, schedule: Schedule) -> _Side:
        pipeline = schedule.pipeline
        key = (pipeline.micro_batches, pipeline.num_ranks)
        if key not in self._sides:
            shared = self._chain_side(pipeline.micro_batches)
            self._sides[key] = _Side(self._problem, shared, *key)
        return self._sides[key]

    def _chain_side(self, micro_batches: int) -> _ChainSide:
        if micro_batches not in self._chains:
            self._chains[micro_batches] = _ChainSide.of(self._problem, micro_batches)
        return self._chains[micro_batches]


def simulator_of(problem: Problem) -> CompiledSimulator:
    """The compiled simulator of a problem; the same object for the same problem."""
    if _MEMO not in problem.memo:
        problem.memo[_MEMO] = CompiledSimulator(problem)
    simulator: CompiledSimulator = problem.memo[_MEMO]
    return simulator


@dataclass(frozen=True)
class _ChainSide:
    """What is the same at any number of ranks."""

    rates: HostLinkRates
    rows: OptionRows
    chain: ChainArrays

    @classmethod
    def of(cls, problem: Problem, micro_batches: int) -> _ChainSide:
        chain = problem.chains[micro_batches]
        rates = host_link_rates(problem, chain)
        rows = OptionRows(chain, rates)
        return cls(rates, rows, chain_arrays(chain))


class _Side:
    """One problem at one number of micro-batches and ranks."""

    def __init__(
        self, problem: Problem, shared: _ChainSide, micro_batches: int, num_ranks: int
    ) -> None:
        self._chain = problem.chains[micro_batches]
        self._num_ranks = num_ranks
        replicas = problem.num_groups // num_ranks
        rates = shared.rates
        self._rows = shared.rows
        self._fixed = Fixed(
            shared.chain,
            static_arrays(problem, self._chain),
            hardware_arrays(problem, self._chain, rates, replicas),
            cache_arrays(problem, micro_batches),
        )
        self._host = np.array([rates.latency_s, rates.d2h_bytes_per_s, rates.h2d_bytes_per_s])
        self._gradient = self._fixed.statics.ints[:, GRADIENT].copy()
        self._streamed: dict[tuple[int, ...], NDArray[np.bool_]] = {}
        self._scratch: dict[tuple[int, int], tuple[Size, Scratch]] = {}

    def batch(self, schedules: Sequence[Schedule]) -> list[Figures]:
        """Figures of schedules with equal orders of tasks."""
        pipeline = schedules[0].pipeline
        kind, chunks = pipeline.kind, pipeline.chunks
        forward_only = self._chain.graph.forward_only
        order = _order(kind, self._num_ranks, pipeline.micro_batches, chunks, forward_only)
        groups = [_group_rows(schedule.memory.groups) for schedule in schedules]
        plans = Plans(
            np.array([self._rows_of(schedule) for schedule in schedules], dtype=np.int64),
            _starts(groups),
            np.array([row for rows in groups for row in rows], dtype=np.int64).reshape(-1, 4),
            np.array([self._spans(schedule) for schedule in schedules], dtype=np.int64),
            np.array([_state_row(schedule.state) for schedule in schedules], dtype=np.int64),
            np.array([self._streamed_of(schedule.state) for schedule in schedules]),
            order.stage_rank,
            order.passes,
            np.array([splits_backward(kind), forward_only], dtype=np.int64),
            np.array([self._host_caches(schedule.state) for schedule in schedules]),
        )
        outcomes = Outcomes(
            np.zeros(len(schedules), dtype=np.float64),
            np.zeros((len(schedules), self._num_ranks), dtype=np.int64),
            np.zeros((len(schedules), self._num_ranks), dtype=np.int64),
            np.zeros(6, dtype=np.int64),
        )
        depth = max(_depth(schedule.memory.groups) for schedule in schedules)
        scratch = self._scratch_for(plans, pipeline.micro_batches, depth)
        rows = self._rows.arrays()
        simulate_batch(scratch, self._fixed, rows, plans, order.arrays, self._gradient, outcomes)
        return [
            Figures(step_s, tuple(peak), tuple(host))
            for step_s, peak, host in zip(
                outcomes.step_s.tolist(),
                outcomes.peak.tolist(),
                outcomes.host_peak.tolist(),
                strict=True,
            )
        ]

    def _scratch_for(self, plans: Plans, micro_batches: int, depth: int) -> Scratch:
        """A scratch with room for these plans, and for those before of as many stages."""
        stages = plans.spans.shape[1]
        size = Size(
            stages=stages,
            copies=len(plans.stage_rank) // stages,
            ranks=self._num_ranks,
            micro_batches=micro_batches,
            depth=depth,
            window=int(plans.spans[:, :, 2].max()),
        )
        # Searches go to and fro between kinds of pipelines, so each keeps its own.
        key = (size.stages, size.copies)
        known = self._scratch.get(key)
        if known is not None and known[0].joined(size) == known[0]:
            return known[1]
        size = size if known is None else known[0].joined(size)
        scratch = new_scratch(self._fixed.chain, self._fixed.statics, self._host, size)
        self._scratch[key] = (size, scratch)
        return scratch

    def _rows_of(self, schedule: Schedule) -> list[int]:
        row = self._rows.row
        return [row(unit, option) for unit, option in enumerate(schedule.memory.options)]

    def _spans(self, schedule: Schedule) -> list[tuple[int, int, int, int]]:
        spans = schedule.pipeline.spans(len(self._chain.units))
        memory = schedule.memory
        return [(*span, *memory.pace_of(stage)) for stage, span in enumerate(spans)]

    def _host_caches(self, state: StatePlan) -> NDArray[np.bool_]:
        """Which units keep their cache on the host.  # [n], in training [0]."""
        found = np.zeros(len(self._fixed.caches.bytes), dtype=np.bool_)
        found[list(state.host_caches)] = True
        return found

    def _streamed_of(self, state: StatePlan) -> NDArray[np.bool_]:
        known = self._streamed.get(state.streamed_units)
        if known is None:
            entries = self._chain.statics.all
            found = streamed_storages(entries, state) if state.streamed_units else frozenset()
            known = np.array([e.storage in found for e in entries], dtype=np.bool_)
            self._streamed[state.streamed_units] = known
        return known


@dataclass(frozen=True)
class _Order:
    """An order of tasks, the rank of every stage, and the micro-batches that pass it."""

    arrays: OrderArrays
    stage_rank: Ints
    passes: Ints


@lru_cache(maxsize=512)
def _order(
    kind: PipelineKind, num_ranks: int, micro_batches: int, chunks: int, forward_only: bool
) -> _Order:
    order = pipeline_order(kind, num_ranks, micro_batches, chunks, forward_only)
    stages = order.num_stages
    final = (order.kind == TaskKind.BACKWARD) | (order.kind == TaskKind.BACKWARD_WEIGHT)
    last = np.zeros(stages, dtype=np.int64)
    # Of several values for one stage NumPy keeps the last, which is the last in order.
    last[order.stage[final]] = order.micro_batch[final]
    forwards = order.stage[order.kind == TaskKind.FORWARD]
    arrays = OrderArrays(
        order.kind,
        order.stage,
        order.micro_batch,
        order.start,
        last,
        np.array([micro_batches], dtype=np.int64),
    )
    passes = np.bincount(forwards, minlength=stages).astype(np.int64)
    return _Order(arrays, order.stage_rank.astype(np.int64), passes)


def _depth(groups: Sequence[Group]) -> int:
    """Most groups around one unit."""
    return max((1 + _depth(group.children) for group in groups), default=0)


def _starts(groups: Sequence[Sequence[object]]) -> Ints:
    start = np.zeros(len(groups) + 1, dtype=np.int64)
    start[1:] = np.cumsum([len(rows) for rows in groups])
    return start


def _group_rows(groups: Iterable[Group]) -> list[tuple[int, int, int, int]]:
    """Start, end, offload and parent of every group, outer before inner.  # [groups][4]."""
    rows: list[tuple[int, int, int, int]] = []

    def walk(level: Iterable[Group], parent: int) -> None:
        for group in level:
            offload = int(group.checkpoint is Action.OFFLOAD)
            rows.append((group.start, group.end, offload, parent))
            walk(group.children, len(rows) - 1)

    walk(groups, -1)
    return rows


def _state_row(state: StatePlan) -> tuple[int, int, int]:
    to_host = int(state.gradients is Placement.HOST)
    return to_host, _OPTIMIZER_CODES[state.optimizer], state.zero_stage
