"""What the rows of a comparison say: gaps over the best, wins, and the worth of joint decisions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from remora.api.bench.rows import Row

__all__ = [
    "REFERENCE",
    "SINGLE_LEVERS",
    "Against",
    "MethodSummary",
    "Times",
    "against",
    "best_times",
    "joint_times",
    "method_times",
    "ratios",
    "summarise",
]

REFERENCE = "greedy"
"""What a method has to beat at equal time."""

SINGLE_LEVERS = ("pipeline_only", "recompute_only", "offload_only")
"""Methods that decide one thing and leave the rest as it is."""

_SAME = 1e-3
"""Times that differ by less than this share count as equal."""

Times = Mapping[str, float]
"""Step time by problem; a problem that is not there has no answer."""


@dataclass(frozen=True)
class MethodSummary:
    """One method over some problems.

    Attributes:
        method: its label.
        problems: number of problems that it was run on.
        infeasible: number of them without an answer in at least one run.
        median, p95, worst: step time over that of the best known, of the runs with an answer;
            nan if there is none.
        median_over_bound: step time over the lower bound.
        wins: problems on which no method was faster.
        search_s: median seconds of a run.
    """

    method: str
    problems: int
    infeasible: int
    median: float
    p95: float
    worst: float
    median_over_bound: float
    wins: int
    search_s: float


@dataclass(frozen=True)
class Against:
    """One method against other step times.

    Attributes:
        method: its label.
        both: problems that both have an answer to.
        faster, slower: problems among those where it is faster or slower by 0.1 % or more.
        only_mine, only_theirs: problems that one alone has an answer to.
        median, best, worst: seconds of the others over its own, less 1: how much slower they are;
            nan without common problems.
    """

    method: str
    both: int
    faster: int
    slower: int
    only_mine: int
    only_theirs: int
    median: float
    best: float
    worst: float


def best_times(rows: Iterable[Row]) -> dict[str, float]:
    """The fastest step time known of every problem, from these rows and from before them."""
    best: dict[str, float] = {}
    for row in rows:
        for time_s in (row.best_known_s, row.step_time_s if row.feasible else None):
            if time_s is not None:
                best[row.problem] = min(time_s, best.get(row.problem, math.inf))
    return best


def ratios(row: Row, best: Mapping[str, float]) -> tuple[float, float]:
    """Step time of a row over the best known one and over the lower bound; nan where unknown.

    Args:
        row: of one run.
        best: see :func:`best_times`.
    """
    time_s = row.step_time_s
    if time_s is None:
        return math.nan, math.nan
    bound_s = row.lower_bound_s
    return time_s / best.get(row.problem, math.nan), time_s / bound_s if bound_s else math.nan


def method_times(rows: Iterable[Row], method: str) -> dict[str, float]:
    """Step time by problem: the median over seeds, where every seed has an answer."""
    runs: dict[str, list[float]] = {}
    for row in rows:
        if row.method == method:
            time_s = row.step_time_s if row.feasible and row.step_time_s is not None else math.inf
            runs.setdefault(row.problem, []).append(time_s)
    return {
        problem: statistics.median(times)
        for problem, times in runs.items()
        if max(times) < math.inf
    }


def joint_times(rows: Sequence[Row]) -> dict[str, float]:
    """The fastest step time of every problem by a method that decides everything together."""
    found: dict[str, float] = {}
    for method in dict.fromkeys(row.method for row in rows):
        if method in SINGLE_LEVERS:
            continue
        for problem, time_s in method_times(rows, method).items():
            found[problem] = min(time_s, found.get(problem, math.inf))
    return found


def summarise(
    rows: Sequence[Row], keep: Callable[[Row], bool] = lambda row: True
) -> list[MethodSummary]:
    """Summarise every method over the rows that ``keep`` chooses.

    Args:
        rows: of a whole comparison; the best step times come from all of them.
        keep: chooses rows by their problem.

    Returns:
        One record per method, in the order of the rows.
    """
    best = best_times(rows)
    chosen = [row for row in rows if keep(row)]
    fastest = _fastest(chosen)
    return [
        _summary([row for row in chosen if row.method == method], best, fastest)
        for method in dict.fromkeys(row.method for row in chosen)
    ]


def against(times: Times, others: Times, method: str) -> Against:
    """Hold the step times of a method against others of the same problems."""
    both = sorted(set(times) & set(others))
    gains = [others[problem] / times[problem] - 1 for problem in both]
    return Against(
        method=method,
        both=len(both),
        faster=sum(gain >= _SAME for gain in gains),
        slower=sum(1 / (1 + gain) - 1 >= _SAME for gain in gains),
        only_mine=len(set(times) - set(others)),
        only_theirs=len(set(others) - set(times)),
        median=statistics.median(gains) if gains else math.nan,
        best=max(gains, default=math.nan),
        worst=min(gains, default=math.nan),
    )


def _fastest(rows: Sequence[Row]) -> dict[str, float]:
    fastest: dict[str, float] = {}
    for row in rows:
        if row.feasible and row.step_time_s is not None:
            fastest[row.problem] = min(row.step_time_s, fastest.get(row.problem, math.inf))
    return fastest


def _summary(
    rows: Sequence[Row], best: Mapping[str, float], fastest: Mapping[str, float]
) -> MethodSummary:
    answers = [(row, row.step_time_s) for row in rows if row.feasible and row.step_time_s]
    pairs = [ratios(row, best) for row, _ in answers]
    over_best = sorted(pair[0] for pair in pairs)
    over_bound = [pair[1] for pair in pairs if not math.isnan(pair[1])]
    return MethodSummary(
        method=rows[0].method,
        problems=len({row.problem for row in rows}),
        infeasible=len({row.problem for row in rows if not row.feasible}),
        median=statistics.median(over_best) if over_best else math.nan,
        p95=_percentile(over_best, 0.95),
        worst=over_best[-1] if over_best else math.nan,
        median_over_bound=statistics.median(over_bound) if over_bound else math.nan,
        wins=len({r.problem for r, time_s in answers if time_s < fastest[r.problem] * (1 + _SAME)}),
        search_s=statistics.median(row.search_s for row in rows),
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of the values does not exceed."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
