"""The tables of ``bench fidelity`` as plain cells, for the terminal and for Markdown alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from operator import attrgetter

from remora.api.bench.fidelity.figures import Figures, Over, figures_of, over_seeds
from remora.api.bench.fidelity.methods import GNN
from remora.api.bench.fidelity.points import Judgement
from remora.api.bench.tables import Section

__all__ = ["fidelity_sections"]

Read = Callable[[Figures], float]

_UNIT, _STEP, _TAU, _PEAK = map(attrgetter, ("unit_error", "step_error", "tau", "peak_error"))
_COVERED, _WIDTH = map(attrgetter, ("covered", "width"))

_SIDES = ("seen", "left out")

_ROWS: tuple[tuple[str, Read, str, str], ...] = (
    ("unit time, median error", _UNIT, "<= 7 %", "<= 12 %"),
    ("step time, median error", _STEP, "<= 5 %", "<= 8 %"),
    ("Kendall tau over the schedules of a graph, median", _TAU, ">= 0.9", ">= 0.75"),
    ("peak memory, median error", _PEAK, "<= 2 %", "<= 3 %"),
    ("peaks under their 95 % bound", _COVERED, "-", ">= 93 %"),
    ("mean width of the bound", _WIDTH, "-", "<= 8 %"),
)


def fidelity_sections(judgements: Sequence[Judgement]) -> list[Section]:
    """All tables; none without judgements."""
    learned = [one for one in judgements if one.method == GNN]
    if not learned:
        return []
    return [_headline(learned), *_methods(judgements), _families(learned)]


def _headline(learned: Sequence[Judgement]) -> Section:
    rows = []
    for name, read, seen, left_out in _ROWS:
        cells = [_over(over_seeds(learned, _pooled(read, side)), read) for side in (True, False)]
        rows.append((name, seen, cells[0], left_out, cells[1]))
    pooled = figures_of(learned, seen=False)
    low, high = pooled.interval
    wall_s = statistics.median(one.training_s for one in learned)
    cpu_s = statistics.median(one.training_cpu_s for one in learned)
    return Section(
        "The learned cost model",
        f"Seen: held-out graphs of families that were learned from. Left out: a family of which "
        f"nothing was learned. Mean over seeds, least and largest in brackets. "
        f"Bounds on {pooled.steps} peaks of left-out families hold for {pooled.covered:.1%}, 95 % "
        f"Wilson interval {low:.1%} to {high:.1%}. A training took {cpu_s:.0f} s of "
        f"processor time in the median, and {wall_s:.0f} s with others at the same time.",
        ("figure", "asked, seen", "seen", "asked, left out", "left out"),
        tuple(rows),
    )


def _methods(judgements: Sequence[Judgement]) -> list[Section]:
    """Every method with the seeds that all of them have."""
    methods = list(dict.fromkeys(one.method for one in judgements))
    if len(methods) < 2:
        return []
    seeds = set.intersection(
        *({one.seed for one in judgements if one.method == method} for method in methods)
    )
    rows = []
    for method in methods:
        own = [one for one in judgements if one.method == method and one.seed in seeds]
        sides = (figures_of(own, seen=True), figures_of(own, seen=False))
        cells = [_cell(read(side), read) for read in (_UNIT, _STEP, _TAU, _PEAK) for side in sides]
        rows.append((method, *cells))
    columns = [f"{name}, {side}" for name in ("unit", "step", "tau", "peak") for side in _SIDES]
    return [
        Section(
            "Against other methods",
            f"Seeds {', '.join(map(str, sorted(seeds)))}. profiled has measured the operators of "
            "the very graph, so it is what remains to be gained by measuring. The trees have the "
            "same features; on steps they correct the same simulation. The end-to-end network has "
            "neither operator times nor simulator.",
            ("method", *columns),
            tuple(rows),
        )
    ]


def _families(learned: Sequence[Judgement]) -> Section:
    rows = []
    for family in sorted({one.left_out for one in learned}):
        own = [one for one in learned if one.left_out == family]
        pooled = figures_of(own, seen=False)
        reads = (_UNIT, _STEP, _TAU, _PEAK, _COVERED, _WIDTH)
        cells = [_over(over_seeds(own, _pooled(read, False)), read) for read in reads]
        seeds = len({one.seed for one in own})
        rows.append((family, str(pooled.units // seeds), str(pooled.steps // seeds), *cells))
    return Section(
        "By left-out family",
        "Each family by a model that learned nothing of it.",
        ("family", "units", "steps", "unit", "step", "tau", "peak", "covered", "width"),
        tuple(rows),
    )


def _pooled(read: Read, seen: bool) -> Callable[[Sequence[Judgement]], float]:
    return lambda judgements: read(figures_of(judgements, seen))


def _over(figure: Over, read: Read) -> str:
    if math.isnan(figure.mean):
        return "-"
    mean, least, largest = (_cell(v, read) for v in (figure.mean, figure.least, figure.largest))
    return mean if least == largest else f"{mean} ({least} to {largest})"


def _cell(value: float, read: Read) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2f}" if read is _TAU else f"{value:.1%}"
