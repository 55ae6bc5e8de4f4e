"""What a memory plan means for the modules of one model: regions, offloads and program points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from remora.errors import InvalidInputError
from remora.executor.memory.private_inputs import StorageKey, private_input_keys
from remora.graph.model_graph import STATIC_ROLES, ModelGraph, Unit
from remora.schedule.regions import Region, region_tree
from remora.schedule.schedule import Action, PipelineKind, Schedule, UnitOption
from remora.schedule.validate import validate_for_graph

__all__ = ["RegionSpec", "RuntimePlan", "runtime_plan"]


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


@dataclass(frozen=True)
class RuntimePlan:
    """A memory plan, looked up by unit.

    Attributes:
        num_units: units of the model.
        regions: outer before inner, in order.
        offloaded: for every unit, positions in its order of packing that go to the host.
        window, distance: pace of the host copies.
        unit_names: for messages.
        last_inner_unit: the last unit that runs inside the model's forward.
    """

    num_units: int
    regions: tuple[RegionSpec, ...]
    offloaded: tuple[frozenset[int], ...]
    window: int
    distance: int
    unit_names: tuple[str, ...]
    last_inner_unit: int

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept, so that nothing needs to be installed."""
        return not self.regions and not self.offloads

    @cached_property
    def offloads(self) -> bool:
        """Whether anything goes to the host."""
        checkpoints = any(region.offloaded_inputs for region in self.regions)
        return checkpoints or any(self.offloaded)

    @cached_property
    def starting(self) -> dict[int, tuple[RegionSpec, ...]]:
        """Regions that begin with a unit, outer first."""
        found: dict[int, tuple[RegionSpec, ...]] = {}
        for region in self.regions:
            found[region.start] = (*found.get(region.start, ()), region)
        return found

    def marker_units(self) -> frozenset[int]:
        """Units whose beginning the runtime has to notice."""
        if self.offloads:
            return frozenset(range(self.num_units))
        borders = {border for region in self.regions for border in (region.start, region.end)}
        return frozenset(border for border in borders if border < self.num_units)


def runtime_plan(graph: ModelGraph, schedule: Schedule) -> RuntimePlan:
    """Look the schedule's memory plan up in the graph.

    Args:
        graph: of the model that will run.
        schedule: for that graph, on one device.

    Raises:
        InvalidInputError: the schedule is for another graph, is not valid, or has a pipeline.
    """
    validate_for_graph(graph, schedule)
    if schedule.pipeline.kind is not PipelineKind.NONE:
        raise InvalidInputError(
            f"pipeline.kind is {schedule.pipeline.kind.value!r}; allowed on one device: 'none'"
        )
    memory = schedule.memory
    pairs = zip(graph.units, memory.options, strict=True)
    return RuntimePlan(
        num_units=len(graph.units),
        regions=tuple(
            _region_spec(graph, region) for tree in region_tree(memory) for region in tree.walk()
        ),
        offloaded=tuple(_offloaded(graph, unit, option) for unit, option in pairs),
        window=memory.offload_window,
        distance=memory.prefetch_distance,
        unit_names=tuple(unit.name for unit in graph.units),
        last_inner_unit=_last_inner_unit(graph),
    )


def _region_spec(graph: ModelGraph, region: Region) -> RegionSpec:
    first, last = graph.units[region.start], graph.units[region.end - 1]
    label = f"unit {first.name!r}" if first is last else f"units {first.name!r} to {last.name!r}"
    keys: frozenset[StorageKey] = frozenset()
    if region.offload_checkpoint:
        keys = private_input_keys(graph, region.start, region.end)
    return RegionSpec(region.start, region.end, label, keys)


def _offloaded(graph: ModelGraph, unit: Unit, option: UnitOption) -> frozenset[int]:
    """Positions to offload: views of activations of which the unit keeps no other view."""
    actions = dict(option.actions)
    storages = {saved.index: graph.storage_of(saved) for saved in unit.saved}
    staying = {
        storages[saved.index]
        for saved in unit.saved
        if actions[saved.name] is not Action.OFFLOAD
        or graph.storages[storages[saved.index]].role in STATIC_ROLES
    }
    return frozenset(index for index, storage in storages.items() if storage not in staying)


def _last_inner_unit(graph: ModelGraph) -> int:
    """A loss computed outside of the model is a unit without a module call at its beginning."""
    last = len(graph.units) - 1
    return last - 1 if last > 0 and graph.units[last].marker is None else last
