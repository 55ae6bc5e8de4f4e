"""Schedules of one problem as arrays: the unit graph with what a schedule makes of every unit.

Legend: U units, E edges, n schedules, F features of a unit (:data:`NODE_FEATURES`), P parts and K
events (``step_parts``), G features of a step (:data:`STEP_FEATURES`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from remora.cost_models.gnn.step_parts import (
    EVENT_LAUNCHES,
    PARTS,
    OptionTable,
    SchedulePlan,
    unit_seconds,
)
from remora.graph.model_graph import GRADIENT
from remora.schedule.chain import Chain
from remora.schedule.layout import host_link_rates
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule
from remora.simulator.compiled import Figures, simulator_of

__all__ = ["NODE_FEATURES", "STEP_FEATURES", "EncodedSteps", "StepEncoder", "encoder_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MEMO = "step encoder"

TIME_FEATURES = (
    "forward_s",
    "backward_s",
    "rerun_s",
    "hooks_s",
    "copies_s",
    "forward_op_s",
    "backward_op_s",
    "time_share",
)
PLAIN_FEATURES = (
    "forward_ops",
    "backward_ops",
    "saved_bytes",
    "input_bytes",
    "weight_bytes",
    "kept_bytes",
    "recomputed_bytes",
    "moved_bytes",
    "compressed_bytes",
    "recomputed_tensors",
    "moved_tensors",
    "reruns",
    "depth",
    "position",
)
NODE_FEATURES = TIME_FEATURES + PLAIN_FEATURES
"""Of a unit under a schedule; seconds, bytes and counts as logarithms. The second half needs no
cost table."""

STEP_FEATURES = (
    "step_s",
    *(f"{part}_share" for part in PARTS),
    "rest_share",
    "slowdown",
    "mean_op_s",
    "mean_unit_s",
    "peak_bytes",
    "peak_ratio",
    "static_share",
    "workspace_share",
)
"""Of a step under a schedule."""

_MICRO = 1e-6


@dataclass(frozen=True)
class EncodedSteps:
    """Schedules of one problem, and what the simulator says of them.

    Attributes:
        nodes: features of every unit.  # [U, n, F]
        seconds: of every part of every unit.  # [U, n, P]
        events: how often things happen in a step.  # [n, K]
        steps: features of every step.  # [n, G]
        step_s: simulated seconds.  # [n]
        busy_s: sum of the parts and of what belongs to no unit: the optimizer.  # [n]
        peak_bytes: simulated peak.  # [n]
        event_s: about what one event of each kind takes on the device.  # [K]
        edges: of the unit graph, both directions.  # [2, E]
    """

    nodes: NDArray[np.float32]
    seconds: Floats
    events: Floats
    steps: Floats
    step_s: Floats
    busy_s: Floats
    peak_bytes: Ints
    event_s: Floats
    edges: Ints

    @property
    def count(self) -> int:
        """Number of schedules."""
        return len(self.step_s)

    def one(self, place: int) -> EncodedSteps:
        """A single schedule of them."""
        chosen = slice(place, place + 1)
        return replace(
            self,
            nodes=self.nodes[:, chosen],
            seconds=self.seconds[:, chosen],
            **{
                name: getattr(self, name)[chosen]
                for name in ("events", "steps", "step_s", "busy_s", "peak_bytes")
            },
        )


class StepEncoder:
    """Encodes schedules of one problem on one rank; what belongs to the problem is made once.

    Args:
        problem: graph, costs and hardware.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        chain = problem.chain
        self._options = OptionTable(chain, host_link_rates(problem, chain))
        self._edges = _edges(chain)
        self._ops = np.array(
            [(u.forward[1] - u.forward[0], u.backward[1] - u.backward[0]) for u in chain.units],
            dtype=np.float64,
        )
        self._rerun_ops = np.array([u.stop_op - u.forward[0] for u in chain.units])
        self._sizes = np.array(
            [(u.saved_bytes, chain.input_bytes(u.index)) for u in chain.units], dtype=np.float64
        )
        self._weights = _weight_bytes(chain)
        self._keep_all = simulator_of(problem).figures(keep_all_schedule(problem.graph))
        self._static_bytes = _static_bytes(problem)
        self._trained = [s.num_bytes for s in problem.graph.storages if s.role == GRADIENT]
        launches_s = problem.hardware.kernel_launch_s * np.array(list(EVENT_LAUNCHES.values()))
        self._event_s = np.append(launches_s, 1 / problem.hardware.memory_bandwidth_bytes_per_s)
        self._workspace_bytes = max(problem.cost.op_workspace_bytes, default=0)

    def encode(
        self, schedules: Sequence[Schedule], figures: Sequence[Figures] | None = None
    ) -> EncodedSteps:
        """Encode valid schedules.

        Args:
            schedules: on one rank, with one micro-batch.
            figures: the simulator's, if they are at hand.
        """
        if figures is None:
            figures = simulator_of(self._problem).batch(schedules)
        plan = self._options.plan([schedule.memory for schedule in schedules])
        seconds = unit_seconds(self._problem.chain, plan)
        step_s = np.array([one.step_time_s for one in figures])
        peak_bytes = np.array([one.max_peak_bytes for one in figures], dtype=np.int64)
        part_s = seconds.sum(axis=0)  # [n, P]
        # Copies may run beside the computation, so that the parts add up to more than the step.
        busy_s = np.maximum(step_s, part_s.sum(axis=1))
        events = self._events(plan)
        return EncodedSteps(
            nodes=self._nodes(plan, seconds, busy_s),
            seconds=seconds,
            events=events,
            steps=self._steps(part_s, events, step_s, busy_s, peak_bytes),
            step_s=step_s,
            busy_s=busy_s,
            peak_bytes=peak_bytes,
            event_s=self._event_s,
            edges=self._edges,
        )

    def _nodes(self, plan: SchedulePlan, seconds: Floats, busy_s: Floats) -> NDArray[np.float32]:
        units, count = plan.depth.shape
        ops = np.maximum(self._ops, 1)
        options = plan.options
        nodes = np.empty((units, count, len(NODE_FEATURES)), dtype=np.float32)
        columns = (
            *(_log(seconds[:, :, part], _MICRO) for part in range(len(PARTS))),
            *(_log(seconds[:, :1, part] / ops[:, part : part + 1], _MICRO) for part in (0, 1)),
            seconds.sum(axis=2) / busy_s,
            *(np.log(ops[:, part : part + 1]) for part in (0, 1)),
            *(_log(self._sizes[:, part : part + 1], 1) for part in (0, 1)),
            _log(self._weights[:, None], 1),
            _log(options["kept_bytes"], 1),
            _log(options["recomputed_bytes"], 1),
            _log(options["moved_bytes"] + plan.checkpoint_bytes, 1),
            _log(options["compressed_bytes"], 1),
            np.log1p(options["recomputed_tensors"]),
            np.log1p(options["moved_tensors"]),
            plan.full_reruns + plan.stopped_reruns + options["partial"],
            plan.depth,
            np.linspace(0, 1, units)[:, None],
        )
        for place, column in enumerate(columns):
            nodes[:, :, place] = column
        return nodes

    def _events(self, plan: SchedulePlan) -> Floats:
        options = plan.options
        reruns = plan.full_reruns + plan.stopped_reruns
        rerun_ops = plan.full_reruns * self._ops[:, :1]
        rerun_ops += plan.stopped_reruns * self._rerun_ops[:, None] + options["rerun_ops"]
        rerun_tensors = options["recomputed_tensors"] * np.maximum(reruns, 1)
        everywhere = np.ones_like(plan.depth)
        counts = (
            self._ops[:, :1] * everywhere,
            self._ops[:, 1:] * everywhere,
            rerun_ops,
            rerun_tensors,
            options["moved_tensors"],
            plan.starts,
            options["partial"],
        )
        sums = [count.sum(axis=0) for count in counts]
        ones = np.ones(plan.depth.shape[1])
        return np.stack([*sums, len(self._trained) * ones, sum(self._trained) * ones], axis=1)

    def _steps(
        self, part_s: Floats, events: Floats, step_s: Floats, busy_s: Floats, peak_bytes: Ints
    ) -> Floats:
        num_ops = events[:, :3].sum(axis=1)
        columns = (
            np.log(step_s),
            *(part_s / busy_s[:, None]).T,
            1 - part_s.sum(axis=1) / busy_s,
            np.log(step_s / self._keep_all.step_time_s),
            np.log(part_s[:, :3].sum(axis=1) / num_ops),
            np.log(step_s / len(self._ops)),
            np.log(peak_bytes),
            np.log(peak_bytes / self._keep_all.max_peak_bytes),
            self._static_bytes / peak_bytes,
            self._workspace_bytes / peak_bytes,
        )
        return np.stack(columns, axis=1)


def encoder_of(problem: Problem) -> StepEncoder:
    """The encoder of a problem; the same object for the same problem."""
    if _MEMO not in problem.memo:
        problem.memo[_MEMO] = StepEncoder(problem)
    encoder: StepEncoder = problem.memo[_MEMO]
    return encoder


def _log(values: Floats, unit: float) -> Floats:
    return np.log1p(values / unit)


def _edges(chain: Chain) -> Ints:
    """Neighbours in the chain, and units with those whose activations they read, both ways."""
    pairs = {(index - 1, index) for index in range(1, len(chain.units))}
    pairs |= {
        (chain.creator_unit[storage], unit.index) for unit in chain.units for storage in unit.inputs
    }
    forward = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    return np.concatenate([forward, forward[::-1]], axis=1)


def _weight_bytes(chain: Chain) -> Floats:
    """Bytes of the weights that every unit reads.  # [U]."""
    sizes = np.zeros(len(chain.units))
    for static in chain.statics.all:
        for unit in static.units:
            sizes[unit] += static.num_bytes
    return sizes


def _static_bytes(problem: Problem) -> int:
    """Bytes of weights, buffers, batch and optimizer state, as on one rank without placement."""
    graph = problem.graph
    state = problem.optimizer.state_per_parameter * graph.parameter_bytes
    return graph.parameter_bytes + graph.buffer_bytes + graph.input_bytes + state
