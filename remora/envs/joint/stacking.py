"""Tables of many problems as arrays of one shape each, filled up with zeros."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remora.envs.joint.arrays import Tables
from remora.envs.joint.problem_tables import CountTables, ProblemTables
from remora.envs.joint.unit_options import OptionRow

__all__ = ["Row", "first_rows", "stack"]

Row = tuple[ProblemTables, CountTables]
"""A problem and one of its numbers of micro-batches."""


def first_rows(problems: Sequence[ProblemTables]) -> list[int]:
    """Where the rows of every problem begin."""
    counts = [len(problem.counts) for problem in problems]
    return list(itertools.accumulate(counts[:-1], initial=0))


def stack(problems: Sequence[ProblemTables]) -> Tables:
    """Put the tables of all problems into arrays, one row per number of micro-batches."""
    rows = [(problem, count) for problem in problems for count in problem.counts]
    most_options = max(len(options) for _, count in rows for options in count.options)
    borders = [_border(count) for _, count in rows]
    held = [_held(count, most_options) for _, count in rows]
    each = _Each(rows)
    return Tables(
        units=np.array([problem.num_units for problem, _ in rows], dtype=np.int64),
        size=each(lambda row: row[1].storages.size),
        maker=each(lambda row: row[1].storages.maker),
        stays=each(lambda row: row[1].storages.stays),
        first_reader=each(lambda row: row[1].storages.first_reader),
        last_reader=each(lambda row: row[1].storages.last_reader),
        border_start=_padded([start for start, _, _ in borders]),
        border=_padded([storages for _, storages, _ in borders]),
        border_next=_padded([readers for _, _, readers in borders]),
        option_ok=each(lambda row: _options(row[1], most_options, lambda option: 1)),
        option_bytes=each(lambda row: _options(row[1], most_options, _bytes_of)),
        option_s=_padded(
            [
                _options(count, most_options, lambda o: (o.compute_s, o.store_s, o.load_s), float)
                for _, count in rows
            ],
            np.float64,
        ),
        option_start=_padded([start for start, _ in held]),
        option_held=_padded([storages for _, storages in held]),
        keep_only=each(lambda row: [unit.fixed for unit in row[0].problem.chain.units]),
        saves=each(lambda row: [bool(unit.saved) for unit in row[0].problem.chain.units]),
        forward=each(lambda row: row[1].segments.forward),
        plain=each(lambda row: row[1].segments.plain),
        nested=each(lambda row: row[1].segments.nested),
        made_since=each(lambda row: row[1].storages.border_made_since),
        rest=each(lambda row: row[1].completions.rest),
        near=each(lambda row: row[1].completions.near),
        again_s=_padded([count.again_s for _, count in rows], np.float64),
        copies=np.array([count.copies for _, count in rows]),
        placed=each(lambda row: _placed(row[1])),
        step_s=_padded([np.array([p.step_s for p in c.places]) for _, c in rows], np.float64),
        work_s=np.array([count.work_s for _, count in rows]),
        sizes=np.array([_sizes(*row) for row in rows], dtype=np.int64),
        scale=np.array([_scale(problem) for problem, _ in rows]),
    )


class _Each:
    """Takes one array of integers from every row."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(self, value: Callable[[Row], Any]) -> NDArray[np.int64]:
        return _padded([np.asarray(value(row), dtype=np.int64) for row in self._rows])


def _padded(arrays: Sequence[Any], dtype: Any = np.int64) -> NDArray[Any]:
    """Stack arrays of one rank; shorter ones are filled up with zeros.  # [rows][...]."""
    parts = [np.asarray(array, dtype=dtype) for array in arrays]
    shape = [max(1, *(part.shape[axis] for part in parts)) for axis in range(parts[0].ndim)]
    stacked = np.zeros((len(parts), *shape), dtype=dtype)
    for place, part in enumerate(parts):
        inside = tuple(slice(0, length) for length in part.shape)
        stacked[place][inside] = part
    return stacked


def _border(count: CountTables) -> tuple[list[int], list[int], list[int]]:
    """Where every border begins, its storages, and the first unit from there on that reads each."""
    start: list[int] = [0]
    storages: list[int] = []
    readers: list[int] = []
    for unit, border in enumerate(count.storages.border):
        storages += border
        readers += [count.storages.next_reader(number, unit) for number in border]
        start.append(len(storages))
    return start, storages, readers


def _held(count: CountTables, most_options: int) -> tuple[list[int], list[int]]:
    """Where what every menu entry holds begins, and what it holds."""
    start: list[int] = [0]
    storages: list[int] = []
    for options in count.options:
        for place in range(most_options):
            storages += options[place].held if place < len(options) else ()
            start.append(len(storages))
    return start, storages


def _options(
    count: CountTables, most_options: int, values: Callable[[Any], Any], dtype: Any = np.int64
) -> NDArray[Any]:
    """Values of every menu entry.  # [n][most_options][...]."""
    first = np.asarray(values(count.options[0][0]), dtype=dtype)
    found = np.zeros((len(count.options), most_options, *first.shape), dtype=dtype)
    for unit, options in enumerate(count.options):
        for place, option in enumerate(options):
            found[unit, place] = values(option)
    return found


def _bytes_of(option: OptionRow) -> tuple[int, int, int, int]:
    return option.forward, option.backward, option.inside, option.moved


def _placed(count: CountTables) -> list[tuple[int, int, int]]:
    return [(p.device_bytes, p.host_bytes, p.step_bytes) for p in count.places]


def _sizes(problem: ProblemTables, count: CountTables) -> tuple[int, ...]:
    hardware = problem.problem.hardware
    return (
        count.micro_batches,
        hardware.host.memory_bytes,
        int(problem.offloads),
        len(problem.counts),
        len(count.places),
    )


def _scale(problem: ProblemTables) -> tuple[float, float]:
    """Seconds and bytes that features are relative to."""
    return problem.keep_all_s, max(problem.keep_all_bytes - problem.least_bytes, 1)
