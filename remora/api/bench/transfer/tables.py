"""The tables of ``bench transfer`` as plain cells, for the terminal and for Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from remora.api.bench.rows import Row
from remora.api.bench.summary import Against, against, method_times, summarise
from remora.api.bench.tables import Section
from remora.api.bench.transfer.methods import (
    FINE_TUNED,
    FROM_SCRATCH,
    UNLEARNED,
    ZERO_SHOT,
    label_of,
)
from remora.api.bench.transfer.trainings import Training
from remora.report.wording import duration_text

__all__ = ["group_of", "in_group", "transfer_sections"]

_NONE = "-"
_PAIRS = (
    (label_of(ZERO_SHOT), UNLEARNED),
    (label_of(FINE_TUNED), UNLEARNED),
    (label_of(FINE_TUNED), label_of(ZERO_SHOT)),
    (label_of(FINE_TUNED, "greedy"), label_of(ZERO_SHOT, "greedy")),
    (label_of(FINE_TUNED), label_of(FROM_SCRATCH)),
    (label_of(FINE_TUNED, "greedy"), label_of(FROM_SCRATCH, "greedy")),
)
"""Which method is held against which."""


def transfer_sections(rows: Sequence[Row], trainings: Sequence[Training]) -> list[Section]:
    """All tables; one that would say nothing is left out.

    Args:
        rows: of all groups.
        trainings: of the policies that practised.
    """
    groups = list(dict.fromkeys(map(group_of, rows)))
    if not groups:
        return []
    return [
        _overview(rows, groups),
        *(_group(rows, group) for group in groups),
        *_pairs(rows, groups),
        *_trainings(trainings),
    ]


def group_of(row: Row) -> str:
    """Name of the group that a row belongs to."""
    return row.problem.split("/", maxsplit=1)[0]


def in_group(group: str) -> Callable[[Row], bool]:
    """Choose the rows of a group."""
    return lambda row: group_of(row) == group


def _overview(rows: Sequence[Row], groups: Sequence[str]) -> Section:
    columns = [{one.method: one for one in summarise(rows, in_group(group))} for group in groups]
    cells = []
    for method in dict.fromkeys(row.method for row in rows):
        found = [column.get(method) for column in columns]
        texts = [_NONE if one is None else _percent(one.median - 1) for one in found]
        cells.append((method, *texts))
    return Section(
        "Median over the best known",
        "How much slower a step is than the best one known, in the median of the runs of a group.",
        ("method", *groups),
        tuple(cells),
    )


def _group(rows: Sequence[Row], group: str) -> Section:
    cells = [
        (
            one.method,
            str(one.problems),
            str(one.infeasible),
            _percent(one.median - 1),
            _percent(one.worst - 1),
            str(one.wins),
            duration_text(one.search_s),
        )
        for one in summarise(rows, in_group(group))
    ]
    return Section(
        f"Group {group}",
        "Over the best known: median and worst of the runs with an answer; none = problems without "
        "an answer in at least one run; wins = problems on which no method was faster by 0.1 %; "
        "seconds of a run in the median.",
        ("method", "problems", "none", "median", "worst", "wins", "seconds"),
        tuple(cells),
    )


def _pairs(rows: Sequence[Row], groups: Sequence[str]) -> Iterator[Section]:
    cells = []
    for group in groups:
        own = [row for row in rows if group_of(row) == group]
        for method, other in _PAIRS:
            found = against(method_times(own, method), method_times(own, other), method)
            if found.both:
                cells.append((group, method, other, *_against_cells(found)))
    if cells:
        yield Section(
            "One method against another",
            "By how much the step of the other method is longer, on the problems that both have an "
            "answer to; the median over seeds counts. Faster and slower by 0.1 % or more.",
            ("group", "method", "other", "both", "faster", "slower", "median", "most", "least"),
            tuple(cells),
        )


def _trainings(trainings: Sequence[Training]) -> Iterator[Section]:
    if not trainings:
        return
    yield Section(
        "Practice",
        "Greedy plans of the validation problems before and after: step time over that of keeping "
        "everything, which does not fit, less 1, in the mean of the logarithms.",
        ("group", "policy", "seed", "seconds", "rounds", "before", "after", ""),
        tuple(
            (
                one.group,
                one.policy,
                str(one.seed),
                f"{one.seconds:.0f}",
                str(one.rounds),
                _NONE if one.before is None else _percent(math.expm1(one.before)),
                _NONE if one.after is None else _percent(math.expm1(one.after)),
                one.fault,
            )
            for one in trainings
        ),
    )


def _against_cells(one: Against) -> tuple[str, ...]:
    counts = (one.both, one.faster, one.slower)
    gains = (one.median, one.best, one.worst)
    return (*map(str, counts), *map(_percent, gains))


def _percent(share: float) -> str:
    # Adding zero turns a rounded minus zero into plus zero.
    return _NONE if math.isnan(share) else f"{round(share * 100, 2) + 0.0:+.2f} %"
