"""What a memory plan means for the modules of one model: regions, offloads and program points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from remora.errors import InvalidInputError
from remora.executor.memory.private_inputs import StorageKey, private_input_keys
from remora.graph.model_graph import STATIC_ROLES, ModelGraph
from remora.schedule.schedule import Action, Group, MemoryPlan, PipelineKind, Schedule

__all__ = ["RegionSpec", "RuntimePlan", "runtime_plan"]


@dataclass(frozen=True, slots=True)
class RegionSpec:
    """Units ``start`` to ``end - 1`` recomputed together.

    Attributes:
        start, end: half-open range of units.
        label: names the units, for messages.
        offloaded_inputs: the inputs whose checkpoint goes to the host.
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
        kept: for every unit, positions that a region keeps instead of recomputing them.
        window, distance: pace of the host copies.
        unit_names: for messages.
        last_inner_unit: the last unit that runs inside the model's forward.
    """

    num_units: int
    regions: tuple[RegionSpec, ...]
    offloaded: tuple[frozenset[int], ...]
    kept: tuple[frozenset[int], ...]
    window: int
    distance: int
    unit_names: tuple[str, ...]
    last_inner_unit: int

    @property
    def is_empty(self) -> bool:
        """Whether everything is kept, so that nothing needs to be installed."""
        return not self.regions and not self.offloads

    @property
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

    def inside_region(self, unit: int) -> bool:
        """Whether some region holds the unit."""
        return any(region.start <= unit < region.end for region in self.regions)

    def marker_units(self) -> frozenset[int]:
        """Units whose beginning the runtime has to notice."""
        if self.offloads:
            return frozenset(range(self.num_units))
        borders = {border for region in self.regions for border in (region.start, region.end)}
        return frozenset(border for border in borders if border < self.num_units)


def runtime_plan(graph: ModelGraph, schedule: Schedule, device_type: str) -> RuntimePlan:
    """Look the schedule's memory plan up in the graph.

    Args:
        graph: of the model that will run.
        schedule: for that graph, on one device.
        device_type: ``cpu`` or ``cuda``.

    Raises:
        InvalidInputError: the schedule is for another graph, has a pipeline, or asks for an action
            that this runtime does not have.
    """
    _check(graph, schedule, device_type)
    memory = schedule.memory
    return RuntimePlan(
        num_units=len(graph.units),
        regions=tuple(_regions(graph, memory)),
        offloaded=tuple(_offloaded(graph, memory, unit) for unit in range(len(graph.units))),
        kept=tuple(_kept(graph, memory, unit) for unit in range(len(graph.units))),
        window=memory.offload_window,
        distance=memory.prefetch_distance,
        unit_names=tuple(unit.name for unit in graph.units),
        last_inner_unit=_last_inner_unit(graph),
    )


def _last_inner_unit(graph: ModelGraph) -> int:
    """A loss computed outside of the model is a unit without a module call at its beginning."""
    last = len(graph.units) - 1
    return last - 1 if last > 0 and graph.units[last].marker is None else last


def _check(graph: ModelGraph, schedule: Schedule, device_type: str) -> None:
    if schedule.graph_hash != graph.content_hash:
        raise InvalidInputError(
            f"graph_hash of the schedule is {schedule.graph_hash!r}; the model's graph has "
            f"{graph.content_hash!r}"
        )
    if schedule.pipeline.kind is not PipelineKind.NONE:
        raise InvalidInputError(
            f"pipeline.kind is {schedule.pipeline.kind.value!r}; one device runs 'none' only"
        )
    if device_type not in ("cpu", "cuda"):
        raise InvalidInputError(f"the model is on {device_type!r}; allowed are 'cpu' and 'cuda'")
    options = schedule.memory.options
    if len(options) != len(graph.units):
        raise InvalidInputError(
            f"memory.options has {len(options)} entries; the graph has {len(graph.units)} units"
        )
    for unit, option in zip(graph.units, options, strict=True):
        if Action.COMPRESS in option.distinct:
            raise InvalidInputError(
                f"memory.options[{unit.index}] asks for 'compress'; allowed are 'keep', "
                "'recompute' and 'offload'"
            )
        grouped = any(g.start <= unit.index < g.end for g in schedule.memory.groups)
        if unit.fixed_reason and (grouped or option.distinct - {Action.KEEP}):
            raise InvalidInputError(
                f"memory.options[{unit.index}] changes unit {unit.name!r}, which must be kept: "
                f"{unit.fixed_reason}"
            )
    for name, least in (("offload_window", 1), ("prefetch_distance", 0)):
        value = getattr(schedule.memory, name)
        if value < least:
            raise InvalidInputError(f"memory.{name} is {value}; at least {least} is allowed")


def _regions(graph: ModelGraph, memory: MemoryPlan) -> Iterator[RegionSpec]:
    """Yield regions outer before inner: groups, and recomputed units as groups of one."""
    unit = 0
    for group in (*memory.groups, None):
        end = group.start if group is not None else len(graph.units)
        yield from _single_units(graph, memory, range(unit, end))
        if group is not None:
            yield from _group_regions(graph, memory, group, outermost=True)
            unit = group.end


def _group_regions(
    graph: ModelGraph, memory: MemoryPlan, group: Group, outermost: bool
) -> Iterator[RegionSpec]:
    offload = group.checkpoint is Action.OFFLOAD
    if offload and not outermost:
        raise InvalidInputError(
            f"group {group.start}-{group.end} lies inside another and offloads its checkpoint; "
            "allowed there is 'keep'"
        )
    keys = private_input_keys(graph, group.start, group.end) if offload else frozenset()
    yield RegionSpec(group.start, group.end, _label(graph, group.start, group.end), keys)
    unit = group.start
    for child in group.children:
        yield from _single_units(graph, memory, range(unit, child.start))
        yield from _group_regions(graph, memory, child, outermost=False)
        unit = child.end
    if group.end - group.start > 1:
        yield from _single_units(graph, memory, range(unit, group.end))


def _single_units(graph: ModelGraph, memory: MemoryPlan, units: range) -> Iterator[RegionSpec]:
    for unit in units:
        if Action.RECOMPUTE in memory.options[unit].distinct:
            yield RegionSpec(unit, unit + 1, _label(graph, unit, unit + 1))


def _label(graph: ModelGraph, start: int, end: int) -> str:
    if end - start == 1:
        return f"unit {graph.units[start].name!r}"
    return f"units {graph.units[start].name!r} to {graph.units[end - 1].name!r}"


def _offloaded(graph: ModelGraph, memory: MemoryPlan, index: int) -> frozenset[int]:
    """Positions to offload; parameters, buffers and inputs stay on the device anyway."""
    unit, option = graph.units[index], memory.options[index]
    positions = frozenset(
        saved.index
        for saved in unit.saved
        if option.action_of(saved.name) is Action.OFFLOAD
        and graph.storages[graph.storage_of(saved)].role not in STATIC_ROLES
    )
    if positions and any(group.start <= index < group.end for group in memory.groups):
        raise InvalidInputError(
            f"memory.options[{index}] offloads inside a group; allowed there are 'keep' and "
            "'recompute'"
        )
    return positions


def _kept(graph: ModelGraph, memory: MemoryPlan, index: int) -> frozenset[int]:
    option = memory.options[index]
    if Action.RECOMPUTE not in option.distinct:
        return frozenset()
    listed = dict(option.actions)
    return frozenset(s.index for s in graph.units[index].saved if listed.get(s.name) is Action.KEEP)
