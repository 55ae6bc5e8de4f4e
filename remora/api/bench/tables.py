"""The tables of a comparison as plain cells, for the terminal and for Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from remora.api.bench.rows import Row
from remora.api.bench.summary import (
    REFERENCE,
    SINGLE_LEVERS,
    Against,
    against,
    best_times,
    joint_times,
    method_times,
    ratios,
    summarise,
)
from remora.report.wording import bytes_text, duration_text

__all__ = ["Section", "problem_section", "sections"]

_NONE = "-"


@dataclass(frozen=True)
class Section:
    """A table with its heading.

    Attributes:
        title: heading.
        about: a sentence on how to read it.
        header: names of the columns.
        rows: cells.
    """

    title: str
    about: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(rows: Sequence[Row]) -> list[Section]:
    """All tables about methods; one that would say nothing is left out."""
    if not rows:
        return []
    return [
        _methods(rows),
        *_by(rows, "world size", lambda row: str(row.world_size)),
        *_by(rows, "range of the budget", _range_band),
        *_over_reference(rows),
        *_over_single_levers(rows),
    ]


def problem_section(rows: Sequence[Row]) -> Section:
    """Every run of every problem."""
    best = best_times(rows)
    return Section(
        "Runs",
        "Step times are simulated; over best = step time over that of the best known, less 1.",
        ("problem", "method", "seed", "step time", "over best", "over bound", "peak", "search", ""),
        tuple(_run_cells(row, *ratios(row, best)) for row in rows),
    )


def _methods(rows: Sequence[Row]) -> Section:
    cells = [
        (
            one.method,
            str(one.problems),
            _over(one.median),
            _over(one.p95),
            _over(one.worst),
            _over(one.median_over_bound),
            str(one.wins),
            str(one.infeasible),
            duration_text(one.search_s),
        )
        for one in summarise(rows)
    ]
    return Section(
        "Methods",
        "How much slower than the best known (median, 95th percentile and worst of the runs) and "
        "than the lower bound; wins = problems on which no method was faster by 0.1 %; none = "
        "problems without an answer in at least one run.",
        ("method", "problems", "median", "95 %", "worst", "over bound", "wins", "none", "search"),
        tuple(cells),
    )


def _by(rows: Sequence[Row], what: str, band: Callable[[Row], str]) -> Iterator[Section]:
    """Median over the best known by band; nothing where all rows are in one."""
    bands = sorted({band(row) for row in rows}, key=_natural)
    if len(bands) < 2:
        return
    columns = [{one.method: one for one in summarise(rows, _chooser(band, name))} for name in bands]
    methods = dict.fromkeys(row.method for row in rows)
    cells = []
    for method in methods:
        found = [column.get(method) for column in columns]
        texts = [_NONE if one is None else _with_none(one.median, one.infeasible) for one in found]
        cells.append((method, *texts))
    yield Section(
        f"By {what}",
        "Median over the best known; in brackets problems without an answer in some run.",
        ("method", *bands),
        tuple(cells),
    )


def _chooser(band: Callable[[Row], str], name: str) -> Callable[[Row], bool]:
    return lambda row: band(row) == name


def _over_reference(rows: Sequence[Row]) -> Iterator[Section]:
    reference = method_times(rows, REFERENCE)
    others = [m for m in dict.fromkeys(row.method for row in rows) if m != REFERENCE]
    if not reference or not others:
        return
    yield Section(
        f"Against {REFERENCE}",
        f"By how much the step of {REFERENCE} with its clean-up is longer than that of each method "
        "at equal time, on the problems that both have an answer to; the median over seeds counts.",
        _AGAINST_HEADER,
        tuple(_against_cells(against(method_times(rows, m), reference, m)) for m in others),
    )


def _over_single_levers(rows: Sequence[Row]) -> Iterator[Section]:
    present = [name for name in SINGLE_LEVERS if any(row.method == name for row in rows)]
    joint = joint_times(rows)
    if not present or not joint:
        return
    yield Section(
        "Joint decisions against one at a time",
        "By how much the step with one lever alone is longer than the best one of the other "
        "methods; only joint = problems that the lever alone does not fit.",
        ("lever", "both", "joint faster", "joint slower", "only joint", *_AGAINST_HEADER[5:]),
        tuple(_against_cells(against(joint, method_times(rows, name), name)) for name in present),
    )


_AGAINST_HEADER = (
    "method",
    "both",
    "faster",
    "slower",
    "only it",
    "median",
    "most",
    "least",
)


def _against_cells(one: Against) -> tuple[str, ...]:
    counts = (one.both, one.faster, one.slower, one.only_mine)
    gains = (one.median, one.best, one.worst)
    return (one.method, *map(str, counts), *(_percent(gain) for gain in gains))


def _run_cells(row: Row, over_best: float, over_bound: float) -> tuple[str, ...]:
    time_s = row.step_time_s
    return (
        row.problem,
        row.method,
        _NONE if row.seed is None else str(row.seed),
        _NONE if time_s is None else duration_text(time_s),
        _over(over_best),
        _over(over_bound),
        _NONE if row.peak_bytes is None else bytes_text(row.peak_bytes),
        duration_text(row.search_s),
        row.note,
    )


def _over(ratio: float) -> str:
    return _percent(ratio - 1)


def _percent(share: float) -> str:
    # Adding zero turns a rounded minus zero into plus zero.
    return _NONE if math.isnan(share) else f"{round(share * 100, 2) + 0.0:+.2f} %"


def _with_none(ratio: float, infeasible: int) -> str:
    return f"{_over(ratio)} ({infeasible})" if infeasible else _over(ratio)


def _range_band(row: Row) -> str:
    for limit in (0.1, 0.2, 0.4):
        if row.range <= limit:
            return f"to {limit:g}"
    return "above 0.4"


def _natural(text: str) -> tuple[bool, float, str]:
    """Numbers by size, words after them; ``above`` last."""
    number = text.rsplit(" ", maxsplit=1)[-1]
    return (text.startswith("above"), float(number), text)
