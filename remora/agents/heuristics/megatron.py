"""Scheduler ``megatron``: stages of equally many units, 1f1b, one rule of recomputation for all.

Source: Narayanan et al., "Efficient large-scale language model training on GPU clusters using
Megatron-LM", SC 2021: what its users set by hand.
"""

from __future__ import annotations

from contextlib import suppress

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.selective import selective_options
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, without_units
from remora.schedule.cuts import default_pipeline, uniform_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, PipelinePlan, Schedule

__all__ = ["Megatron", "uniform_pipeline"]


class Megatron:
    """The fastest of: keep, selective, every unit, every block of equally many units."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "megatron"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Try the rules; see :class:`remora.agents.scheduler.Scheduler`."""
        evaluator = Evaluator(problem, time_limit_s)
        space = Space(problem, uniform_pipeline(problem))
        with suppress(SearchEnded):
            evaluator.score(space.keep_all)
            evaluator.score(space.build(selective_options(space)))
            again = space.with_action(Action.RECOMPUTE)
            for length in range(1, _longest_stage(space) + 1):
                spans = [
                    Span(start, min(start + length, end))
                    for first, end in space.pipeline.spans(space.num_units)
                    for start in range(first, end, length)
                ]
                evaluator.score(space.build(again, without_units(spans, space.fixed)))
            if evaluator.best is None:
                find_fitting(space, evaluator)
        return evaluator.answer(self.name)


def uniform_pipeline(problem: Problem) -> PipelinePlan:
    """The default pipeline, cut into equally many units."""
    pipeline = default_pipeline(problem)
    cuts = uniform_cuts(len(problem.graph.units), pipeline.num_stages)
    return PipelinePlan(pipeline.kind, cuts, pipeline.chunks, pipeline.micro_batches)


def _longest_stage(space: Space) -> int:
    return max(end - start for start, end in space.pipeline.spans(space.num_units))
