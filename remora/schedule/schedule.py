"""The decision language: what a schedule says, as frozen records that know nothing about time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from remora.graph.precision.precision import Precision
from remora.schedule.orders.registry import PipelineKind

__all__ = [
    "SCHEDULE_VERSION",
    "Action",
    "Group",
    "MemoryPlan",
    "PipelineKind",
    "PipelinePlan",
    "Placement",
    "PrecisionPlan",
    "Schedule",
    "StatePlan",
    "TensorPlan",
    "UnitOption",
]

SCHEDULE_VERSION = 4


class Action(StrEnum):
    """What happens to one saved or boundary tensor."""

    KEEP = "keep"
    RECOMPUTE = "recompute"
    OFFLOAD = "offload"
    COMPRESS = "compress"


class Placement(StrEnum):
    """Where a kind of state lives between its uses."""

    DEVICE = "device"
    HOST = "host"
    EIGHT_BIT = "8bit"


@dataclass(frozen=True, slots=True)
class UnitOption:
    """An action for every saved tensor of one unit: (tensor name, action), in packing order."""

    actions: tuple[tuple[str, Action], ...]

    def action_of(self, name: str) -> Action:
        """Return the action of the tensor called ``name``; KEEP if the option does not list it."""
        return dict(self.actions).get(name, Action.KEEP)

    @property
    def distinct(self) -> frozenset[Action]:
        """The actions that occur."""
        return frozenset(action for _, action in self.actions)


@dataclass(frozen=True, slots=True)
class Group:
    """Units ``start`` to ``end - 1`` recomputed together from the inputs of unit ``start``.

    Attributes:
        start, end: half-open range of unit indices.
        checkpoint: KEEP or OFFLOAD the tensors that only this group reads.
        children: nested groups, in order, disjoint, inside the range.
    """

    start: int
    end: int
    checkpoint: Action = Action.KEEP
    children: tuple[Group, ...] = ()

    def walk(self) -> Iterator[Group]:
        """Yield this group and all nested ones, outer before inner."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Memory option of every unit, recompute groups, and the pace of host copies.

    Attributes:
        options: one option per unit. A unit whose option recomputes everything is a group of one.
        groups: outermost groups, in order, disjoint; none crosses a cut of the pipeline.
        offload_window: a copy to the host is waited for before the rank's ``window``-th next
            forward of a unit starts, and at the latest where its own backward begins.
            In inference the same holds for what a pass adds to a cache on the host.
        prefetch_distance: the copy back for unit i is issued with the backward of unit
            i + distance of its stage, or where the stage's backward begins. In inference the
            weights and the cache of unit i are asked for with the forward of unit i - distance.
        paces: (window, distance) of every stage; empty if all stages have the above.
    """

    options: tuple[UnitOption, ...]
    groups: tuple[Group, ...] = ()
    offload_window: int = 2
    prefetch_distance: int = 1
    paces: tuple[tuple[int, int], ...] = ()

    def pace_of(self, stage: int) -> tuple[int, int]:
        """(window, distance) of a stage."""
        return self.paces[stage] if self.paces else (self.offload_window, self.prefetch_distance)


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """How the chain of units is cut into stages and how micro-batches pass them.

    Attributes:
        kind: order of the micro-batches.
        cuts: index of the first unit of every stage but the first, ascending.
        chunks: stages per rank; chimera has one, and a second set of stages of its own.
        micro_batches: number of micro-batches of one step.
    """

    kind: PipelineKind = PipelineKind.NONE
    cuts: tuple[int, ...] = ()
    chunks: int = 1
    micro_batches: int = 1

    @property
    def num_stages(self) -> int:
        """Stages that the units are cut into."""
        return len(self.cuts) + 1

    @property
    def num_ranks(self) -> int:
        """Ranks of one replica."""
        return self.num_stages // self.chunks

    def spans(self, num_units: int) -> tuple[tuple[int, int], ...]:
        """Half-open range of units of every stage.  # [num_stages]."""
        borders = (0, *self.cuts, num_units)
        return tuple(itertools.pairwise(borders))


@dataclass(frozen=True, slots=True)
class StatePlan:
    """Where weights, gradients and optimizer state live.

    Attributes:
        weights: ``host`` streams the weights of ``streamed_units`` in for every use.
        gradients: ``host`` moves each unit's gradients out as soon as its backward has run.
        optimizer: ``host`` keeps its state there and steps there; ``8bit`` quantises the state.
        zero_stage: sharding over data-parallel replicas, 0 to 3.
        streamed_units: units whose weights wait on the host, ascending.
        host_caches: units whose keys and values wait on the host, ascending; in inference only.
    """

    weights: Placement = Placement.DEVICE
    gradients: Placement = Placement.DEVICE
    optimizer: Placement = Placement.DEVICE
    zero_stage: int = 0
    streamed_units: tuple[int, ...] = ()
    host_caches: tuple[int, ...] = ()

    @property
    def moves_with_units(self) -> bool:
        """Whether weights or gradients move to or from the host unit by unit."""
        return Placement.HOST in (self.weights, self.gradients)


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """How many ranks share every layer (Shoeybi et al. 2019, arXiv 1909.08053).

    Which layers are cut, and how, is the model's own plan; the graph of the schedule is that of
    one of these ranks.

    Attributes:
        degree: ranks that together are one rank of a pipeline.
    """

    degree: int = 1


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """In how many bits units compute; what passes between them has the model's own dtype.

    The graph of the schedule is that of the model with these units in fewer bits.

    Attributes:
        units: one entry per unit; empty where all compute in the model's own.
            # [num_units] or [0]
    """

    units: tuple[Precision, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A complete plan for one graph: memory, pipeline, state, shared layers and precision."""

    graph_hash: str
    memory: MemoryPlan
    pipeline: PipelinePlan = field(default_factory=PipelinePlan)
    state: StatePlan = field(default_factory=StatePlan)
    tensor: TensorPlan = field(default_factory=TensorPlan)
    precision: PrecisionPlan = field(default_factory=PrecisionPlan)

    @property
    def num_devices(self) -> int:
        """Devices of one replica."""
        return self.pipeline.num_ranks * self.tensor.degree
