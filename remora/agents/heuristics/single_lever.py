"""Schedulers that search one kind of decision alone, to show what deciding jointly is worth."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.annealing import anneal
from remora.agents.heuristics.rank_greedy import rank_greedy_search
from remora.agents.heuristics.seeded_search import SeededSearch
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, Schedule

__all__ = ["OffloadOnly", "PipelineOnly", "RecomputeOnly"]


@dataclass(frozen=True)
class _SingleLever(SeededSearch):
    """Greedy, then annealing, over a part of the language; the state stays on the device."""

    name: ClassVar[str]
    allowed: ClassVar[Collection[Action]] = ()
    shapes: ClassVar[tuple[Shape, ...] | None] = ()

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Search; see :class:`remora.agents.scheduler.Scheduler`."""
        resident = replace(problem, state_on_device=True)
        evaluator = Evaluator(resident, time_limit_s)
        space = Space(resident, allowed=self.allowed, shapes=self.shapes)
        with suppress(SearchEnded):
            start = rank_greedy_search(space, evaluator)
            if start is not None:
                stretch = Stretch(evaluator, self.evaluations)
                anneal(space, evaluator, start, stretch, Random(self.seed))
        return evaluator.answer(self.name)


class RecomputeOnly(_SingleLever):
    """Options and groups that recompute, in the default pipeline."""

    name = "recompute_only"
    allowed = (Action.RECOMPUTE,)


class OffloadOnly(_SingleLever):
    """Options that offload, in the default pipeline."""

    name = "offload_only"
    allowed = (Action.OFFLOAD,)


class PipelineOnly(_SingleLever):
    """Kind, micro-batches and cuts, with everything kept."""

    name = "pipeline_only"
    shapes = None
