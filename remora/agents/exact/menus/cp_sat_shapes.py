"""Pipelines to choose from, cuts included, with the time of each if memory were unlimited."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from remora.agents.heuristics.shapes import Shape, shapes_of
from remora.schedule.cuts import balanced_cuts
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, Schedule
from remora.simulator.bounds import lower_bounds_like
from remora.simulator.compiled import simulator_of

__all__ = ["CutPipelines", "cut_pipelines"]


@dataclass(frozen=True)
class CutPipelines:
    """What there is to choose from.

    Attributes:
        problem: what is planned.
        plans: (seconds if everything is kept, pipeline), fastest first.
        partly: one pipeline of every shape that is not cut in all ways.
    """

    problem: Problem
    plans: tuple[tuple[float, PipelinePlan], ...]
    partly: tuple[PipelinePlan, ...]

    def others_s(self) -> float:
        """Seconds that no pipeline that was left out goes below; infinite if none was."""
        like = [_kept(self.problem, pipeline) for pipeline in self.partly]
        bounds = (lower_bounds_like(self.problem, schedule).best_s for schedule in like)
        return min(bounds, default=math.inf)


def cut_pipelines(problem: Problem, most_cuts: int) -> CutPipelines:
    """List pipelines of all shapes that a problem allows.

    Keeping everything is as fast as any choice of options, whatever the cuts: other options only
    add instructions and seconds.

    Args:
        problem: what is planned.
        most_cuts: pipelines to list; shapes with the fewest ways to be cut are cut in all of them,
            the rest into balanced stages only.
    """
    found: list[PipelinePlan] = []
    partly: list[PipelinePlan] = []
    for shape in sorted(shapes_of(problem), key=lambda shape: _num_cuts(problem, shape)):
        if len(found) + _num_cuts(problem, shape) <= most_cuts:
            found += _all_cuts(problem, shape)
        else:
            partly.append(_balanced(problem, shape))
    listed = [*found, *partly]
    figures = simulator_of(problem).batch([_kept(problem, pipeline) for pipeline in listed])
    timed = sorted((f.step_time_s, place) for place, f in enumerate(figures))
    plans = tuple((seconds, listed[place]) for seconds, place in timed)
    return CutPipelines(problem, plans, tuple(partly))


def _num_cuts(problem: Problem, shape: Shape) -> int:
    return math.comb(len(problem.graph.units) - 1, shape.num_stages - 1)


def _all_cuts(problem: Problem, shape: Shape) -> Iterator[PipelinePlan]:
    borders = range(1, len(problem.graph.units))
    return map(shape.cut, itertools.combinations(borders, shape.num_stages - 1))


def _balanced(problem: Problem, shape: Shape) -> PipelinePlan:
    units = problem.chains[shape.micro_batches].units
    seconds = [unit.forward_s + unit.backward_s for unit in units]
    return shape.cut(balanced_cuts(seconds, shape.num_stages))


def _kept(problem: Problem, pipeline: PipelinePlan) -> Schedule:
    return replace(keep_all_schedule(problem.graph), pipeline=pipeline)
