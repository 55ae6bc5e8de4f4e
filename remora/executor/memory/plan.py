"""What a memory plan means for the modules of one model: regions, offloads and program points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from remora.errors import InvalidInputError
from remora.executor.memory.call_records import Expected
from remora.executor.memory.private_inputs import StorageKey, private_input_keys
from remora.graph.model_graph import ModelGraph, Unit
from remora.schedule.closure import RELABELLING
from remora.schedule.recompute import effective_actions, is_recompute, partial_closure
from remora.schedule.regions import Region, region_tree
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelineKind,
    Schedule,
    UnitOption,
)
from remora.schedule.validate import validate_for_graph
from remora.schedule.validate_state import check_state_of_graph

__all__ = ["PartialSpec", "RegionSpec", "RuntimePlan", "runtime_plan", "stage_runtime_plan"]


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """Units ``start`` to ``end - 1`` recomputed together.

    Attributes:
        start, end: half-open range of units.
        label: names the units, for messages.
        offloaded_inputs: the inputs of its first unit that wait on the host.
    """

    start: int
    end: int
    label: str
    offloaded_inputs: frozenset[StorageKey] = frozenset()


@dataclass(frozen=True, slots=True)
class PartialSpec:
    """What a unit of its own kind of option does, see :mod:`remora.executor.memory.partial`.

    Attributes:
        label: names the unit, for messages.
        actions: of its saved tensors, in its order of packing.
        names: of the same.
        recomputes: whether calls have to be written down.
        expected: the calls of the trace.
    """

    label: str
    actions: tuple[Action, ...]
    names: tuple[str, ...]
    recomputes: bool
    expected: tuple[Expected, ...]


@dataclass(frozen=True)
class RuntimePlan:
    """A memory plan for the units of one stage, looked up by unit.

    Attributes:
        start, end: half-open range of units of the stage.
        regions: outer before inner, in order.
        partial: by unit, those that compress or that recompute a part.
        offloaded: by other unit, positions in its order of packing that go to the host.
        window, distance: pace of the host copies.
        unit_names: of all units of the model, for messages.
        last_inner_unit: the last unit of the stage that runs inside the wrapped forward.
        moves_state: whether weights, gradients or caches come and go with the units.
        forward_only: of passes of inference.
    """

    start: int
    end: int
    regions: tuple[RegionSpec, ...]
    partial: Mapping[int, PartialSpec]
    offloaded: Mapping[int, frozenset[int]]
    window: int
    distance: int
    unit_names: tuple[str, ...]
    last_inner_unit: int
    moves_state: bool = False
    forward_only: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept, so that nothing needs to be installed."""
        return not self.regions and not self.packs

    @cached_property
    def offloads(self) -> bool:
        """Whether anything goes to the host."""
        checkpoints = any(region.offloaded_inputs for region in self.regions)
        mixed = any(Action.OFFLOAD in spec.actions for spec in self.partial.values())
        return checkpoints or mixed or any(self.offloaded.values())

    @property
    def packs(self) -> bool:
        """Whether saved tensors outside of regions have to be looked at."""
        return self.follows_units or bool(self.partial)

    @property
    def follows_units(self) -> bool:
        """Whether something happens wherever the forward or backward of a unit begins."""
        return self.offloads or self.moves_state

    @property
    def records_calls(self) -> bool:
        """Whether the calls of some unit have to be written down."""
        return any(spec.recomputes for spec in self.partial.values())

    @cached_property
    def starting(self) -> dict[int, tuple[RegionSpec, ...]]:
        """Regions that begin with a unit, outer first."""
        found: dict[int, tuple[RegionSpec, ...]] = {}
        for region in self.regions:
            found[region.start] = (*found.get(region.start, ()), region)
        return found

    def marker_units(self) -> frozenset[int]:
        """Units whose beginning the runtime has to notice."""
        if self.follows_units:
            return frozenset(range(self.start, self.end))
        borders = {border for region in self.regions for border in (region.start, region.end)}
        borders |= {border for unit in self.partial for border in (unit, unit + 1)}
        return frozenset(border for border in borders if border < self.end)


def runtime_plan(graph: ModelGraph, schedule: Schedule, allow_lossy: bool = False) -> RuntimePlan:
    """Look the schedule's memory plan up in the graph.

    Args:
        graph: of the model that will run.
        schedule: for that graph, on one device.
        allow_lossy: whether it may compress saved tensors.

    Raises:
        InvalidInputError: the schedule is for another graph, is not valid, has a pipeline or
            shards the state.
    """
    validate_for_graph(graph, schedule, allow_lossy)
    if schedule.pipeline.kind is not PipelineKind.NONE:
        raise InvalidInputError(
            f"pipeline.kind is {schedule.pipeline.kind.value!r}; allowed on one device: 'none'"
        )
    if schedule.state.zero_stage:
        raise InvalidInputError(
            f"state.zero_stage is {schedule.state.zero_stage}; allowed on one device: 0"
        )
    check_state_of_graph(graph, schedule.state)
    plan = stage_runtime_plan(graph, schedule.memory, 0, (0, len(graph.units)))
    return dataclasses.replace(
        plan,
        last_inner_unit=_last_inner_unit(graph.units),
        moves_state=schedule.state.moves_with_units or bool(schedule.state.host_caches),
        forward_only=graph.forward_only,
    )


def stage_runtime_plan(
    graph: ModelGraph, memory: MemoryPlan, stage: int, span: tuple[int, int]
) -> RuntimePlan:
    """Look up what a valid memory plan means for the units of one stage.

    Args:
        graph: of one micro-batch.
        memory: of the whole model; no group crosses the stage's borders.
        stage: its number.
        span: half-open range of its units.
    """
    start, end = span
    units = graph.units[start:end]
    window, distance = memory.pace_of(stage)
    partial = {
        unit.index: spec
        for unit in units
        if (spec := _partial_spec(graph, unit, memory.options[unit.index])) is not None
    }
    return RuntimePlan(
        start=start,
        end=end,
        regions=tuple(
            _region_spec(graph, region, start)
            for tree in region_tree(memory)
            if start <= tree.start < end
            for region in tree.walk()
        ),
        partial=partial,
        offloaded={
            unit.index: _offloaded(graph, unit, memory.options[unit.index])
            for unit in units
            if unit.index not in partial
        },
        window=window,
        distance=distance,
        unit_names=tuple(unit.name for unit in graph.units),
        last_inner_unit=end - 1,
    )


def _region_spec(graph: ModelGraph, region: Region, first_unit: int) -> RegionSpec:
    first, last = graph.units[region.start], graph.units[region.end - 1]
    label = f"unit {first.name!r}" if first is last else f"units {first.name!r} to {last.name!r}"
    keys: frozenset[StorageKey] = frozenset()
    if region.offload_checkpoint:
        # What other stages made lies in receive buffers, which nothing frees.
        private = private_input_keys(graph, region.start, region.end)
        keys = frozenset(key for key in private if key[0] >= first_unit)
    return RegionSpec(region.start, region.end, label, keys)


def _offloaded(graph: ModelGraph, unit: Unit, option: UnitOption) -> frozenset[int]:
    """Positions to offload: views of activations of which the unit keeps no other view."""
    actions = _actions(graph, unit, option)
    return frozenset(i for i, action in enumerate(actions) if action is Action.OFFLOAD)


def _actions(graph: ModelGraph, unit: Unit, option: UnitOption) -> tuple[Action, ...]:
    """What really happens to every saved tensor, in order of packing."""
    by_storage = effective_actions(graph, unit, option)
    return tuple(by_storage.get(graph.storage_of(saved), Action.KEEP) for saved in unit.saved)


def _partial_spec(graph: ModelGraph, unit: Unit, option: UnitOption) -> PartialSpec | None:
    """None for an option that keeps, offloads or recomputes as a whole."""
    actions = _actions(graph, unit, option)
    if is_recompute(option) or not {Action.RECOMPUTE, Action.COMPRESS} & set(actions):
        return None
    return PartialSpec(
        label=f"unit {unit.name!r}",
        actions=actions,
        names=tuple(f"{unit.name} {saved.name}" for saved in unit.saved),
        recomputes=Action.RECOMPUTE in actions,
        expected=_expected(graph, unit, option),
    )


def _expected(graph: ModelGraph, unit: Unit, option: UnitOption) -> tuple[Expected, ...]:
    """The calls that change or make memory: which run again, and what none of these reads."""
    closure = partial_closure(graph, unit, option)
    needed = closure.sources - effective_actions(graph, unit, option).keys()
    again = set(closure.steps)
    expected = []
    for index, op in graph.forward_ops(unit):
        if op.view or op.name.split(".")[1] in RELABELLING:
            continue
        storages = [graph.tensors[tensor].storage for tensor in op.inputs]
        loose = [
            position
            for position, storage in enumerate(storages)
            if 0 <= graph.storages[storage].created < unit.forward[0] and storage not in needed
        ]
        expected.append(Expected(op.name, frozenset(loose), index - unit.forward[0] in again))
    return tuple(expected)


def _last_inner_unit(units: Sequence[Unit]) -> int:
    """A loss computed outside of the model is a unit without a module call at its beginning."""
    last = units[-1]
    return last.index - 1 if last.index > units[0].index and last.marker is None else last.index
