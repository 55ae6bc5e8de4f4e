"""Scheduler ``chen_sqrt``: about sqrt(n) segments, each recomputed from its first input.

Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost",
arXiv 1604.06174.
"""

from __future__ import annotations

import itertools
import math

from remora.agents.fixed_plan import FixedPlan
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.spans import Span, without_units
from remora.schedule.problem import Problem
from remora.schedule.schedule import Schedule

__all__ = ["ChenSqrt"]


class ChenSqrt(FixedPlan):
    """Cut n units into sqrt(n) segments of almost equal length; the last one is kept."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        return "chen_sqrt"

    def plan(self, problem: Problem) -> Schedule:
        """The segments as recompute groups without inner groups.

        The last segment is kept because its backward begins as soon as its forward has ended, so
        recomputing it would free nothing at the peak.
        """
        space = Space(problem, mixed=False)
        segments = equal_segments(space.num_units, round(math.sqrt(space.num_units)))
        keep = space.keep_all.memory.options
        return space.build(keep, without_units(segments[:-1], space.fixed))


def equal_segments(num_units: int, num_segments: int) -> tuple[Span, ...]:
    """Cut ``num_units`` units into segments whose lengths differ by at most one."""
    borders = [num_units * index // num_segments for index in range(num_segments + 1)]
    return tuple(Span(a, b) for a, b in itertools.pairwise(borders) if b > a)
