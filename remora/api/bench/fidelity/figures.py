"""Figures of judgements: medians, order, coverage; over one family or all, seen or left out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from remora.api.bench.fidelity.points import Judgement, StepPoint
from remora.cost_models.gnn.conformal import wilson_interval

__all__ = ["Figures", "Over", "figures_of", "over_seeds"]

_LEAST_SCHEDULES = 3
"""Fewer schedules of one graph have no order worth a figure."""


@dataclass(frozen=True)
class Figures:
    """One method on some predictions; NaN where there are none.

    Attributes:
        units, steps: how many.
        unit_error, step_error, peak_error: medians of |predicted / measured - 1|.
        tau: median over graphs of Kendall's tau over the schedules of a graph.
        covered: share of measured peaks that are not above their bound.
        interval: 95 % Wilson interval of it.
        width: mean of bound / predicted - 1.
    """

    units: int
    steps: int
    unit_error: float
    step_error: float
    tau: float
    peak_error: float
    covered: float
    interval: tuple[float, float]
    width: float


@dataclass(frozen=True)
class Over:
    """A figure over several seeds: mean, least and largest."""

    mean: float
    least: float
    largest: float


def figures_of(
    judgements: Iterable[Judgement], seen: bool | None, family: str | None = None
) -> Figures:
    """Pool predictions of one method.

    Args:
        judgements: of the method.
        seen: True takes families that were learned from, False the left-out one, None all.
        family: only this one; None takes all.
    """

    def wanted(judgement: Judgement, name: str) -> bool:
        right_side = seen is None or seen == (name != judgement.left_out)
        return right_side and family in (None, name)

    found = list(judgements)
    units = [u for one in found for u in one.units if wanted(one, u.family)]
    graphs = [_by_graph(s for s in one.steps if wanted(one, s.family)) for one in found]
    steps = [step for groups in graphs for group in groups for step in group]
    taus = [_tau(group) for groups in graphs for group in groups if len(group) >= _LEAST_SCHEDULES]
    hits = sum(step.measured_bytes <= step.bound_bytes for step in steps)
    nan = float("nan")
    return Figures(
        units=len(units),
        steps=len(steps),
        unit_error=_median(abs(u.predicted_s / u.measured_s - 1) for u in units),
        step_error=_median(abs(s.predicted_s / s.measured_s - 1) for s in steps),
        tau=_median(taus),
        peak_error=_median(abs(s.predicted_bytes / s.measured_bytes - 1) for s in steps),
        covered=hits / len(steps) if steps else nan,
        interval=wilson_interval(hits, len(steps)) if steps else (nan, nan),
        width=statistics.fmean(s.bound_bytes / s.predicted_bytes - 1 for s in steps)
        if steps
        else nan,
    )


def over_seeds(
    judgements: Sequence[Judgement], figure: Callable[[Sequence[Judgement]], float]
) -> Over:
    """Take a figure of every seed by itself; at least one judgement."""
    seeds = sorted({one.seed for one in judgements})
    values = [figure([one for one in judgements if one.seed == seed]) for seed in seeds]
    return Over(statistics.fmean(values), min(values), max(values))


def _by_graph(steps: Iterable[StepPoint]) -> list[list[StepPoint]]:
    groups: dict[str, list[StepPoint]] = {}
    for step in steps:
        groups.setdefault(step.subject, []).append(step)
    return list(groups.values())


def _tau(group: Sequence[StepPoint]) -> float:
    """Kendall's tau-b; a prediction that is the same for all has no order: 0."""
    from scipy.stats import kendalltau

    tau = float(kendalltau([s.predicted_s for s in group], [s.measured_s for s in group]).statistic)
    return 0.0 if math.isnan(tau) else tau


def _median(values: Iterable[float]) -> float:
    found = list(values)
    return statistics.median(found) if found else float("nan")
