"""The schedules of one problem that a search chooses from: menus, groups, construction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property

from remora.agents.heuristics.shapes import Shape, shapes_of
from remora.agents.heuristics.spans import Span, covered_units, flatten, nest, split_at
from remora.agents.heuristics.states import states_of
from remora.schedule.cuts import default_pipeline
from remora.schedule.menu import is_recompute, plain_menu, unit_menu
from remora.schedule.problem import Problem
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelinePlan,
    PrecisionPlan,
    Schedule,
    StatePlan,
    TensorPlan,
    UnitOption,
)
from remora.simulator.floor import floor_schedule

__all__ = ["Choice", "Space"]

_WHOLE: tuple[frozenset[Action], ...] = (
    frozenset(),
    frozenset({Action.KEEP}),
    frozenset({Action.RECOMPUTE}),
)
"""Actions of options that a unit inside a group may have."""

_DEFAULT = MemoryPlan(())


@dataclass(frozen=True, slots=True)
class Choice:
    """What one unit by itself can do: an option, or recomputing from a checkpoint on the host.

    Attributes:
        option: what becomes of its saved tensors.
        offload_checkpoint: recompute it as a group of its own, whose input waits on the host.
    """

    option: UnitOption
    offload_checkpoint: bool = False


class Space:
    """What a search over schedules may choose from; every schedule it makes is valid.

    Args:
        problem: the problem.
        pipeline: of the schedules it starts from; by default that of
            :func:`remora.schedule.cuts.default_pipeline`.
        allowed: actions that options may take besides keeping; all by default.
        shapes: pipelines that a search may change to; all that the problem allows by default.
            Without any, kind and cuts stay as they are.
        state: the only place of the state; None for all that the problem allows.
        mixed: whether menus hold options that treat the tensors of a unit differently, which
            take a while to find.

    Attributes:
        menus: options of every unit, keep first.  # [num_units][num_options]
        fixed: units that no group may hold.
        choices: the menu of every unit, and recomputation from an offloaded checkpoint where that
            moves anything.  # [num_units][num_choices]
        allowed, shapes: as given, or the default.
    """

    def __init__(
        self,
        problem: Problem,
        pipeline: PipelinePlan | None = None,
        allowed: Collection[Action] = tuple(Action),
        shapes: Sequence[Shape] | None = None,
        state: StatePlan | None = None,
        mixed: bool = True,
    ) -> None:
        self.problem = problem
        self._state = state
        self._find_menu = unit_menu if mixed else plain_menu
        self.shapes = shapes_of(problem) if shapes is None else tuple(shapes)
        self.pipeline = pipeline or default_pipeline(problem)
        self.allowed = frozenset(allowed) | {Action.KEEP}
        self.menus = tuple(self._menu(unit) for unit in range(len(problem.graph.units)))
        self.fixed = frozenset(u.index for u in problem.chain.units if u.fixed)
        self._recompute = tuple(next((o for o in m if is_recompute(o)), m[0]) for m in self.menus)
        # By identity, since options come out of menus and are looked at all the time.
        self._offloads = {id(o): Action.OFFLOAD in o.distinct for m in self.menus for o in m}
        self._groupable = {id(o): o.distinct in _WHOLE for m in self.menus for o in m}
        self.choices = tuple(self._choices(unit) for unit in range(len(self.menus)))

    @property
    def num_units(self) -> int:
        """Number of units in the chain."""
        return len(self.menus)

    @property
    def can_offload(self) -> bool:
        """Whether tensors may move to the host."""
        return Action.OFFLOAD in self.allowed and self.problem.hardware.can_offload

    @property
    def can_group(self) -> bool:
        """Whether units may be recomputed together."""
        return Action.RECOMPUTE in self.allowed

    @cached_property
    def states(self) -> tuple[StatePlan, ...]:
        """Places of the state to choose from, the device first.

        Sharded ones are there if some shape has replicas.
        """
        if self._state is not None or not self.shapes:
            return (self._state or StatePlan(),)
        replicated = min(self.shapes, key=lambda shape: shape.num_ranks)
        cuts = tuple(range(1, replicated.num_stages))
        return states_of(self.problem, replicated.cut(cuts))

    @cached_property
    def weighty_units(self) -> tuple[int, ...]:
        """Units that have weights."""
        statics = self.problem.chain.statics
        return tuple(u for u in range(self.num_units) if statics.weights_of((u,)))

    @cached_property
    def free_units(self) -> tuple[int, ...]:
        """Units that have a choice."""
        return tuple(unit for unit, choices in enumerate(self.choices) if len(choices) > 1)

    @cached_property
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """For every unit all those of its kind, itself included, in order."""
        by_kind: dict[str, list[int]] = {}
        kinds = [unit.kind for unit in self.problem.graph.units]
        for unit, kind in enumerate(kinds):
            by_kind.setdefault(kind, []).append(unit)
        return tuple(tuple(by_kind[kind]) for kind in kinds)

    @cached_property
    def free_ranges(self) -> tuple[Span, ...]:
        """Maximal ranges of units that groups may hold."""
        if not self.can_group:
            return ()
        ranges: list[Span] = []
        start = 0
        for unit in (*sorted(self.fixed), self.num_units):
            if unit > start:
                ranges.append(Span(start, unit))
            start = unit + 1
        return tuple(ranges)

    @cached_property
    def keep_all(self) -> Schedule:
        """Everything kept, in the pipeline that the space begins with."""
        return self.build([menu[0] for menu in self.menus])

    @cached_property
    def floor(self) -> Schedule:
        """The schedule of least peak by recomputation alone, in the same pipeline."""
        if not self.can_group:
            return self.keep_all
        found = floor_schedule(self.problem, self.pipeline)
        kept = self.keep_all.memory.options
        again = [
            self._recompute[unit] if is_recompute(option) else kept[unit]
            for unit, option in enumerate(found.memory.options)
        ]
        return self.with_parts(found, options=again, state=self._state)

    def within(self, shape: Shape) -> Space:
        """The same space without other pipelines to change to; cuts still move."""
        found = copy(self)
        found.shapes = (shape,)
        return found

    def in_state(self, state: StatePlan) -> Space:
        """The same space with the state in one place alone."""
        return Space(self.problem, self.pipeline, self.allowed, self.shapes, state)

    def with_action(self, action: Action) -> list[UnitOption]:
        """For every unit the option that takes ``action`` for most of it, else keep."""
        return [
            next((option for option in menu[1:] if action in option.distinct), menu[0])
            for menu in self.menus
        ]

    def build(
        self,
        options: Sequence[UnitOption],
        spans: Iterable[Span] = (),
        window: int | None = None,
        distance: int | None = None,
        pipeline: PipelinePlan | None = None,
        paces: Sequence[tuple[int, int]] = (),
        state: StatePlan | None = None,
    ) -> Schedule:
        """A valid schedule of these options and groups.

        Equal plans come out equal: a group of one unit whose checkpoint stays is that unit's
        recompute option. A unit inside a group is kept there or recomputed as a whole, and groups
        end at the cuts of the pipeline.

        Args:
            options: one option per unit.  # [num_units]
            spans: groups; no two cross and none holds a fixed unit.
            window: offload window, None for the default.
            distance: prefetch distance, None for the default.
            pipeline: None for that of the space.
            paces: window and distance of every stage; none to use the above for all.
            state: None for that of the space, or else everything on the device.
        """
        pipeline = pipeline or self.pipeline
        spans = split_at(spans, pipeline.cuts)
        chosen = list(options)
        if spans:
            chosen, spans = self._settled(chosen, spans)
        memory = MemoryPlan(
            tuple(chosen),
            nest(spans),
            _DEFAULT.offload_window if window is None else window,
            _DEFAULT.prefetch_distance if distance is None else distance,
            tuple(paces) if len(paces) == pipeline.num_stages else (),
        )
        state = state or self._state or StatePlan()
        if state.zero_stage and pipeline.num_ranks == self.problem.num_groups:
            state = replace(state, zero_stage=0)  # no replicas to spread it over
        graph = self.problem.graph
        tensor = TensorPlan(graph.tensor_degree)
        precision = PrecisionPlan(graph.precisions)
        return Schedule(graph.content_hash, memory, pipeline, state, tensor, precision)

    def recompute(self, unit: int) -> UnitOption:
        """The unit's option that recomputes it; keep where the menu has none."""
        return self._recompute[unit]

    def offloads(self, option: UnitOption) -> bool:
        """Whether an option copies anything to the host."""
        known = self._offloads.get(id(option))
        return Action.OFFLOAD in option.distinct if known is None else known

    def uses_host(self, schedule: Schedule) -> bool:
        """Whether any saved tensor or checkpoint is copied to the host."""
        memory = schedule.memory
        return any(map(self.offloads, memory.options)) or any(
            group.checkpoint is Action.OFFLOAD for group in memory.groups
        )

    def choice_of(self, schedule: Schedule, unit: int) -> Choice:
        """What a unit does by itself in a schedule.

        Args:
            schedule: a schedule of this space.
            unit: index of the unit.
        """
        alone = any(g.start == unit and g.end == unit + 1 for g in schedule.memory.groups)
        option = self.recompute(unit) if alone else schedule.memory.options[unit]
        return Choice(option, offload_checkpoint=alone)

    def with_choices(self, schedule: Schedule, choices: Mapping[int, Choice]) -> Schedule:
        """Return a schedule with other choices for some units.

        Args:
            schedule: a schedule of this space.
            choices: by index of the unit; groups of several units that hold one stay.
        """
        options = list(schedule.memory.options)
        spans = [
            span
            for span in flatten(schedule.memory.groups)
            if span.end - span.start > 1 or span.start not in choices
        ]
        for unit, choice in choices.items():
            options[unit] = choice.option
            if choice.offload_checkpoint:
                spans.append(Span(unit, unit + 1, offload=True))
        return self.with_parts(schedule, options=options, spans=spans)

    def with_parts(
        self,
        schedule: Schedule,
        options: Sequence[UnitOption] | None = None,
        spans: Iterable[Span] | None = None,
        window: int | None = None,
        distance: int | None = None,
        pipeline: PipelinePlan | None = None,
        paces: Sequence[tuple[int, int]] | None = None,
        state: StatePlan | None = None,
    ) -> Schedule:
        """Return a schedule with the parts that are given; None keeps the old part.

        Args:
            schedule: a schedule of this space.
            options: one per unit.  # [num_units]
            spans: recompute groups, inner ones after those around them.
            window: offload window, in units.
            distance: prefetch distance, in units.
            pipeline: kind, cuts, chunks and micro-batches.
            paces: window and distance of every stage.  # [num_stages]
            state: where weights, gradients and optimizer state lie.
        """
        memory = schedule.memory
        return self.build(
            memory.options if options is None else options,
            flatten(memory.groups) if spans is None else spans,
            memory.offload_window if window is None else window,
            memory.prefetch_distance if distance is None else distance,
            pipeline or schedule.pipeline,
            memory.paces if paces is None else paces,
            state or schedule.state,
        )

    def _settled(
        self, chosen: list[UnitOption], spans: Sequence[Span]
    ) -> tuple[list[UnitOption], list[Span]]:
        """Options and spans without what says the same twice or is not allowed in a group."""
        longer = [span for span in spans if span.end - span.start > 1]
        grouped = covered_units(longer)
        alone = []
        for span in spans:
            if span.end - span.start == 1:
                unit = span.start
                outermost = span.offload and unit not in grouped
                chosen[unit] = self.menus[unit][0] if outermost else self._recompute[unit]
                alone += [span] if outermost else []
        for unit in grouped:
            option = chosen[unit]
            if not self._groupable.get(id(option), option.distinct in _WHOLE):
                chosen[unit] = self.menus[unit][0]
        return chosen, [*longer, *alone]

    def _menu(self, unit: int) -> tuple[UnitOption, ...]:
        keep, *others = self._find_menu(self.problem, self.problem.graph.units[unit])
        return (keep, *(option for option in others if option.distinct <= self.allowed))

    def _choices(self, unit: int) -> tuple[Choice, ...]:
        choices = [Choice(option) for option in self.menus[unit]]
        moves = self.can_offload and self.problem.chain.private_inputs(unit, unit + 1)
        if moves and self.recompute(unit) != self.menus[unit][0]:
            choices.append(Choice(self.recompute(unit), offload_checkpoint=True))
        return tuple(choices)
