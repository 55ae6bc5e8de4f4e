"""The partition program for shapes that a search thinks well of."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from remora.agents.evaluation import Evaluator, SearchEnded
from remora.agents.exact.partition.scheduler import partition_search
from remora.agents.heuristics.shapes import Shape
from remora.agents.heuristics.space import Space
from remora.schedule.schedule import Schedule

__all__ = ["programmed"]

_SLOTS = 200


def programmed(
    space: Space, evaluator: Evaluator, shapes: Sequence[Shape], time_limit_s: float
) -> list[Schedule]:
    """The best plan of the partition program for some shapes, if there is one in time.

    Args:
        space: shapes and menus.
        evaluator: scores that plan; what the program simulates does not count for it.
        shapes: of pipelines.
        time_limit_s: seconds for the program.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    if time_limit_s <= 0 or not shapes:
        return []
    program = Evaluator(space.problem, time_limit_s)
    with suppress(SearchEnded):
        partition_search(space, program, shapes, _SLOTS)
    plan = program.best
    return [] if plan is None or not evaluator.score(plan).feasible else [plan]
