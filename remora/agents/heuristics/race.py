"""Climb from several starts, and give those that do best more and more of the time.

Source: Jamieson, Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization", AISTATS 2016 (successive halving). Kind, ranks and micro-batches of a pipeline make
basins that a walk hardly leaves, and which one is best shows only after some climbing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from remora.agents.evaluation import Evaluator
from remora.agents.heuristics.local_search import improve
from remora.agents.heuristics.shapes import shape_of
from remora.agents.heuristics.space import Space
from remora.agents.heuristics.stretch import Stretch
from remora.schedule.schedule import Schedule

__all__ = ["race"]

_MOST = 16
"""Most starts that take part."""


def race(
    space: Space, evaluator: Evaluator, starts: Sequence[Schedule], stretch: Stretch, rng: Random
) -> Schedule | None:
    """Climb from every start, leave out the slower half, and again until one is left.

    Every round takes an equal part of the stretch, and every start in it an equal part of that.
    Climbing stays in the shape of its start. The evaluator remembers the best one met.

    Args:
        space: where to choose from.
        evaluator: scores and limits.
        starts: schedules that fit, the most promising first.
        stretch: how long it takes.
        rng: source of all choices.

    Returns:
        The start from which the fastest was reached; None without starts.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    left = [(start, start) for start in starts[:_MOST]]
    rounds = max(1, math.ceil(math.log2(max(1, len(left)))))
    for number in range(rounds):
        here = stretch.part((number + 1) / rounds)
        climbed = []
        for place, (reached, start) in enumerate(left, start=1):
            part = here.part(_share(here.progress, place, len(left)))
            own = space.within(shape_of(reached.pipeline))
            climbed.append((improve(own, evaluator, reached, part, rng), start))
        climbed.sort(key=lambda pair: evaluator.score(pair[0]).step_time_s)
        left = climbed[: math.ceil(len(climbed) / 2)]
    return left[0][1] if left else None


def _share(progress: float, place: int, count: int) -> float:
    """Where the turn of a start ends: an equal part of what is left, the earlier ones done."""
    return progress + (1 - progress) / (count - place + 1)
