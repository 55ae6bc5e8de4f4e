"""Sets of units to stream that simple rules find, and their repair by single changes.

Source: the rules follow Beaumont, Eyraud-Dubois, Shilova, Zhao, "Weight offloading strategies for
training large DNN models", hal-03580767 (2022): weights should be away that are large for the time
in which their copies do not hide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from remora.agents.evaluation import Evaluator
from remora.agents.exact.weights.program import Limits
from remora.agents.exact.weights.tables import StreamTables

__all__ = ["flip_units", "simple_choices"]

Units = frozenset[int]

_MAX_PASSES = 4


def simple_choices(tables: StreamTables, limits: Limits) -> Iterator[Units]:
    """Sets that fit, found by four rules.

    Units go by price, cheapest first, and those that make the step faster in any case; or the
    first ones go, or the last ones, or every k-th; each time no more of them than it takes.
    """
    units, prices = tables.units, _prices(tables)
    counts = range(len(units) + 1)
    cheapest = sorted(units, key=lambda unit: (prices[unit], unit))
    useful = sum(1 for price in prices.values() if price < 0)
    rules: list[Sequence[Units]] = [
        [frozenset(cheapest[:count]) for count in counts[useful:]],
        [frozenset(units[:count]) for count in counts],
        [frozenset(units[len(units) - count :]) for count in counts],
        [frozenset(units[::step]) for step in reversed(counts[1:])],
    ]
    for sets in rules:
        found = next((chosen for chosen in sets if _fits(tables, limits, chosen)), None)
        if found is not None:
            yield found


def flip_units(evaluator: Evaluator, tables: StreamTables, start: Units) -> Units:
    """Stream or keep single units as long as the simulated step gets faster.

    Args:
        evaluator: simulates.
        tables: of the memory plan.
        start: a set that fits.

    Raises:
        SearchEnded: a limit of the evaluator is reached.
    """
    current, score = start, evaluator.score(tables.with_streamed(start))
    for _ in range(_MAX_PASSES):
        before = current
        for unit in tables.units:
            trial = current ^ {unit}
            trial_score = evaluator.score(tables.with_streamed(trial))
            if trial_score.feasible and trial_score.faster_than(score):
                current, score = trial, trial_score
        if current == before:
            break
    return current


def _fits(tables: StreamTables, limits: Limits, units: Units) -> bool:
    device = tables.peak_bytes(units) <= limits.device_bytes
    return device and tables.host_peak_bytes(units) <= limits.host_bytes


def _prices(tables: StreamTables) -> dict[int, float]:
    """Seconds per byte of streaming each unit alone; below 0 where the step gets faster.

    They are those of the whole step: a load counts only as far as the tasks beside it do not hide
    it, and a weight that is streamed need not come back after the optimizer step.
    """
    before_s = tables.step_time_s(())
    prices = {}
    for unit in tables.units:
        num_bytes = sum(bundle.num_bytes for bundle in tables.streamed((unit,)))
        prices[unit] = (tables.step_time_s((unit,)) - before_s) / max(1, num_bytes)
    return prices
