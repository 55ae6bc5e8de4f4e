"""What episodes need to know of one problem of inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import KINDS, NUM_ACTIONS, NUM_DECISIONS, PACES, Setting
from remora.envs.graphs import UnitGraph
from remora.envs.passes.choices import DECISIONS, WAITING
from remora.envs.passes.engine import PassEngine
from remora.envs.passes.graph import pass_graph
from remora.envs.plan_tables import PlanTables
from remora.errors import InvalidInputError
from remora.schedule.cuts import balanced_cuts
from remora.schedule.host_copies import copy_s
from remora.schedule.layout import host_link_rates
from remora.schedule.pass_space import PassSpace, Waiting
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan, Schedule
from remora.simulator.compiled import simulator_of
from remora.simulator.compiled.figures import Figures
from remora.simulator.records import CostModel

__all__ = ["PassCount", "PassTables"]

Floats = NDArray[np.float64]

_NEVER = 2**62
"""Bytes that no device has."""


@dataclass(frozen=True)
class PassCount:
    """What one number of micro-batches costs; seconds are those of one of them.

    Attributes:
        micro_batches: the number.
        forward_s: of every unit.  # [n]
        weights_s: until the weights of a unit have come in.  # [n]
        own_weights_s: the same of those that no other unit reads.  # [n]
        cache_load_s, cache_store_s: until the cache of a unit has come in, and until what the
            pass adds has gone.  # [n]
        held_bytes: weights of every unit, and caches of all micro-batches.  # [n][2]
        movable_bytes: those of them that can wait on the host.  # [n][2]
    """

    micro_batches: int
    forward_s: Floats
    weights_s: Floats
    own_weights_s: Floats
    cache_load_s: Floats
    cache_store_s: Floats
    held_bytes: Floats
    movable_bytes: Floats

    def copies_s(self, unit: int, decision: int, sure: bool = False) -> tuple[float, float]:
        """Seconds of copies to and from the host that a decision brings about.

        Args:
            unit: that is decided about.
            decision: about it.
            sure: leave out weights that other units read too: they stay if one of these keeps them.
        """
        weights, cache = WAITING[decision % NUM_DECISIONS]
        store_s, load_s = 0.0, 0.0
        if weights:
            load_s += (self.own_weights_s if sure else self.weights_s)[unit]
        if cache:
            store_s, load_s = self.cache_store_s[unit], load_s + self.cache_load_s[unit]
        return float(store_s), float(load_s)

    def kept_bytes(self, start: int, decisions: Sequence[int]) -> float:
        """Bytes of what could wait and was decided to stay, of units from one on."""
        kept = 0.0
        for unit, decision in enumerate(decisions, start=start):
            weights, cache = WAITING[decision % NUM_DECISIONS]
            sizes = self.movable_bytes[unit]
            kept += (not weights) * sizes[0] + (not cache) * sizes[1]
        return float(kept)


class PassTables(PlanTables):
    """Tables of passes of inference.

    Args:
        name: shown in infos.
        problem: of inference; its budget plays no part.
        cost_model: predicts the time of finished plans; None for the simulator.

    Raises:
        InvalidInputError: the problem is one of training.
    """

    def __init__(self, name: str, problem: Problem, cost_model: CostModel | None = None) -> None:
        if problem.inference is None:
            raise InvalidInputError(f"problem {name!r} is of mode 'train'; allowed: 'inference'")
        super().__init__(name, problem, cost_model)
        self.space = PassSpace(problem)
        self._ends: dict[tuple[int, int, int], tuple[int, ...]] = {}
        self._leanest: dict[tuple[int, int, int], Figures] = {}

    @classmethod
    def engine(cls, problems: Sequence[PassTables]) -> PassEngine:
        """The rules of passes."""
        return PassEngine(problems)

    @cached_property
    def unit_graph(self) -> UnitGraph:
        """Units and edges as numbers."""
        return pass_graph(self)

    @cached_property
    def rank_choices(self) -> tuple[int, ...]:
        """Ranks that one pipeline may have, most first."""
        sizes = self.problem.pipeline_sizes
        return tuple(ranks for ranks in sizes if ranks <= self.num_units)[:NUM_ACTIONS]

    @cached_property
    def paces(self) -> tuple[int, ...]:
        """Places in ``PACES`` that differ; one where nothing can wait."""
        if not self.space.streamable and not self.space.caching:
            return (PACES.index((1, 1)),)
        if self.space.caching:
            return tuple(range(len(PACES)))
        by_distance = {distance: place for place, (_, distance) in reversed([*enumerate(PACES)])}
        return tuple(sorted({**by_distance, 1: PACES.index((1, 1))}.values()))

    @cached_property
    def menus(self) -> tuple[tuple[int, ...], ...]:
        """Decisions about every unit, the one that leaves most memory last.  # [n][options]."""
        streamable, caching = set(self.space.streamable), set(self.space.caching)
        return tuple(
            tuple(
                decision
                for (weights, cache), decision in DECISIONS.items()
                if (unit in streamable or not weights) and (unit in caching or not cache)
            )
            for unit in range(self.num_units)
        )

    @cached_property
    def counts(self) -> tuple[PassCount, ...]:
        """Costs by number of micro-batches, ascending."""
        return tuple(map(self._count, self.micro_batches))

    @cached_property
    def overlap(self) -> bool:
        """Whether copies have streams of their own."""
        return self.problem.hardware.copies_overlap

    @cached_property
    def floor_bytes(self) -> int:
        """The peak at ``range`` 0: the standard pipeline with everything on the host."""
        plan = self.space.build(self.keep_all.pipeline, self.space.everything)
        return simulator_of(self.problem).figures(plan).max_peak_bytes

    @cached_property
    def least_bytes(self) -> int:
        """The smallest budget that an episode can have; more than any where none can."""
        least = PACES.index((1, 1))
        found = (
            self.leanest(ranks, count, least)
            for ranks in self.rank_choices
            for count in range(len(self.micro_batches))
        )
        host = self.problem.hardware.host.memory_bytes
        fitting = [one.max_peak_bytes for one in found if max(one.host_peak_bytes) <= host]
        return min(fitting, default=_NEVER)

    def leanest(self, ranks: int, count: int, pace: int) -> Figures:
        """Figures of everything on the host in a pipeline with balanced stages.

        Args:
            ranks: of one pipeline.
            count: place of the number of micro-batches.
            pace: place in ``PACES``.
        """
        key = (ranks, count, pace)
        if key not in self._leanest:
            pipeline = self.pipeline(count, self.ends(count, 0, ranks))
            window, distance = PACES[pace]
            plan = self.space.build(pipeline, self.space.everything, distance, window)
            self._leanest[key] = simulator_of(self.problem).figures(plan)
        return self._leanest[key]

    def pipeline(self, count: int, cuts: tuple[int, ...]) -> PipelinePlan:
        """The pipeline with some cuts; none on one rank."""
        times = self.micro_batches[count]
        if not cuts:
            return PipelinePlan(micro_batches=times)
        return PipelinePlan(PipelineKind.GPIPE, cuts, 1, times)

    def ends(self, count: int, start: int, stages: int) -> tuple[int, ...]:
        """Where stages of about the same seconds end that hold all units from one on.

        Those behind the first are what they would be from there on, so that an episode that has
        come there still goes by the same ends.

        Args:
            count: place of the number of micro-batches.
            start: first unit of the first of them.
            stages: how many.

        Returns:
            First units of all of them but the first.  # [stages - 1]
        """
        key = (count, start, stages)
        if key not in self._ends:
            seconds = self.counts[count].forward_s[start:].tolist()
            first = tuple(start + cut for cut in balanced_cuts(seconds, stages)[:1])
            rest = self.ends(count, first[0], stages - 1) if first else ()
            self._ends[key] = (*first, *rest)
        return self._ends[key]

    def planned(
        self, pipeline: PipelinePlan, decisions: Sequence[int], window: int, distance: int
    ) -> Schedule:
        """The schedule of some first decisions, everything after them on the host."""
        decided = [WAITING[action % NUM_DECISIONS] for action in decisions]
        rest = range(len(decisions), self.num_units)
        everything = self.space.everything
        weights = {unit for unit, waits in enumerate(decided) if waits[0]}
        caches = {unit for unit, waits in enumerate(decided) if waits[1]}
        waiting = Waiting(
            frozenset(weights | everything.weights.intersection(rest)),
            frozenset(caches | everything.caches.intersection(rest)),
        )
        return self.space.build(pipeline, waiting, distance, window)

    def schedule(self, setting: Setting, decisions: Sequence[int]) -> Schedule:
        """The schedule of a complete row of decisions.  # [num_units]."""
        cuts = tuple(unit + 1 for unit, action in enumerate(decisions) if action >= NUM_DECISIONS)
        kind, chunks = KINDS[setting.kind]
        pipeline = PipelinePlan(kind, cuts, chunks, setting.micro_batches)
        return self.planned(pipeline, decisions, setting.window, setting.distance)

    def option_s(self, unit: int, decision: int, micro_batches: int) -> float:
        """Seconds of a decision about a unit, on the scale of observations."""
        count = self.counts[self.micro_batches.index(micro_batches)]
        return 10 * micro_batches * max(count.copies_s(unit, decision)) / self.keep_all_s

    def _count(self, micro_batches: int) -> PassCount:
        chain, spec = self.problem.chains[micro_batches], self.problem.inference
        assert spec is not None
        rates = host_link_rates(self.problem, chain)
        caches = [spec.cache_of(unit, micro_batches) for unit in range(self.num_units)]
        entries = [chain.statics.weights_of((unit,)) for unit in range(self.num_units)]
        weights = [sum(entry.num_bytes for entry in found) for found in entries]
        alone = [sum(e.num_bytes for e in found if len(e.units) == 1) for found in entries]
        held = [
            (float(size), float(cache.held * micro_batches))
            for size, cache in zip(weights, caches, strict=True)
        ]
        space = self.space
        can = [(unit in space.streamable, unit in space.caching) for unit in range(self.num_units)]
        return PassCount(
            micro_batches,
            np.array([unit.forward_s for unit in chain.units]),
            np.array([copy_s(size, rates.h2d_bytes_per_s) for size in weights]),
            np.array([copy_s(size, rates.h2d_bytes_per_s) for size in alone]),
            np.array([copy_s(cache.loaded, rates.h2d_bytes_per_s) for cache in caches]),
            np.array([copy_s(cache.stored, rates.d2h_bytes_per_s) for cache in caches]),
            np.array(held),
            np.array(held) * np.array(can),
        )
