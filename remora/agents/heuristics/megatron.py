"""Scheduler ``megatron``: what users of Megatron-LM set by hand, from the rules of its authors.

Source: Narayanan et al., "Efficient large-scale language model training on GPU clusters using
Megatron-LM", SC 2021 (arXiv 2104.04473), takeaways 1 to 3: layers are shared by the devices of a
node, pipelines go over nodes, both only as far as the model needs to fit, and replicas take the
rest; the size of micro-batches is tried. Stages have equally many units and run 1f1b, and one rule
of recomputation holds for all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import ClassVar

from remora.agents.evaluation import Evaluator, SearchEnded, check_time_limit
from remora.agents.heuristics.least_memory import find_fitting
from remora.agents.heuristics.selective import selective_options
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, without_units
from remora.errors import InfeasibleError, TimeLimitError
from remora.schedule.cuts import default_pipeline, uniform_cuts
from remora.schedule.problem import Problem
from remora.schedule.schedule import Action, PipelineKind, PipelinePlan, Schedule

__all__ = ["Megatron", "model_parallel_sizes", "uniform_pipeline"]


class Megatron:
    """The fastest of: keep, selective, every unit, every block of equally many units."""

    plans_variants: ClassVar = True

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "megatron"

    def propose(self, problem: Problem, time_limit_s: float) -> Schedule:
        """Try the rules; see :class:`remora.agents.scheduler.Scheduler`."""
        if problem.variants:
            return self._smallest_that_fits(problem, time_limit_s)
        evaluator = Evaluator(problem, time_limit_s)
        self._try(evaluator, [uniform_pipeline(problem)], anything=True)
        return evaluator.answer(self.name)

    def _smallest_that_fits(self, problem: Problem, time_limit_s: float) -> Schedule:
        """The least ranks that share a model so that it fits; replicas take the rest."""
        check_time_limit(time_limit_s)
        deadline = time.perf_counter() + time_limit_s
        failure: InfeasibleError | TimeLimitError | None = None
        for variant in model_parallel_sizes(problem):
            left_s = deadline - time.perf_counter()
            if left_s <= 0:
                break
            evaluator = Evaluator(variant, left_s)
            self._try(evaluator, _pipelines(variant), anything=False)
            try:
                return evaluator.answer(self.name)
            except (InfeasibleError, TimeLimitError) as error:
                failure = error
        raise failure or TimeLimitError(
            f"scheduler {self.name!r} found no schedule that fits within {time_limit_s:g} s"
        )

    def _try(
        self, evaluator: Evaluator, pipelines: Sequence[PipelinePlan], *, anything: bool
    ) -> None:
        """Score all rules in some pipelines; ``anything`` goes on below them if none fits."""
        with suppress(SearchEnded):
            for pipeline in pipelines:
                space = Space(evaluator.problem, pipeline)
                _score_rules(space, evaluator)
                if anything and evaluator.best is None:
                    find_fitting(space, evaluator)


def uniform_pipeline(problem: Problem) -> PipelinePlan:
    """The default pipeline, cut into equally many units."""
    pipeline = default_pipeline(problem)
    cuts = uniform_cuts(len(problem.graph.units), pipeline.num_stages)
    return PipelinePlan(pipeline.kind, cuts, pipeline.chunks, pipeline.micro_batches)


def model_parallel_sizes(problem: Problem) -> list[Problem]:
    """Variants in the order of ranks that share one model: first within a node, then pipelines.

    Of those with equally many ranks the one with the most of them sharing layers, none over the
    border of a node.
    """
    node = problem.hardware.devices_per_node
    best: dict[int, Problem] = {}
    for variant in problem.family:
        degree = variant.tensor_degree
        size = degree * uniform_pipeline(variant).num_ranks
        if degree <= node and (size not in best or best[size].tensor_degree < degree):
            best[size] = variant
    return [best[size] for size in sorted(best)]


def _pipelines(problem: Problem) -> list[PipelinePlan]:
    """One pipeline for every size of micro-batches, cut into equally many units."""
    ranks = min(problem.pipeline_sizes[0], len(problem.graph.units))
    counts = sorted(problem.graphs) if problem.micro_batches is None else [problem.micro_batches]
    if ranks == 1:
        return [PipelinePlan(micro_batches=count) for count in counts]
    cuts = uniform_cuts(len(problem.graph.units), ranks)
    return [
        PipelinePlan(PipelineKind.ONE_F_ONE_B, cuts, 1, count) for count in counts if count >= ranks
    ]


def _score_rules(space: Space, evaluator: Evaluator) -> None:
    evaluator.score(space.keep_all)
    evaluator.score(space.build(selective_options(space)))
    again = space.with_action(Action.RECOMPUTE)
    for spans in _blocks(space):
        evaluator.score(space.build(again, without_units(spans, space.fixed)))


def _blocks(space: Space) -> Iterator[list[Span]]:
    """Blocks of equally many units, from one to a whole stage."""
    stages = space.pipeline.spans(space.num_units)
    for length in range(1, max(end - start for start, end in stages) + 1):
        yield [
            Span(start, min(start + length, end))
            for first, end in stages
            for start in range(first, end, length)
        ]
