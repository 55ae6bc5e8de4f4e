"""Tables by span of units: entry [a, e] is about the units a to e - 1; n units."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_exports", "add_imports", "add_present", "largest_inside", "new_table"]

Ints = NDArray[np.int64]


def new_table(num_units: int) -> Ints:
    """Zeros.  # [n + 1][n + 1]."""
    return np.zeros((num_units + 1, num_units + 1), dtype=np.int64)


def add_present(table: Ints, units: Iterable[int], value: int) -> None:
    """Add a value to every span that holds any of some units."""
    before = -1
    for unit in sorted(units):
        table[before + 1 : unit + 1, unit + 1 :] += value
        before = unit


def add_imports(table: Ints, maker: int, readers: Sequence[int], value: int) -> None:
    """Add a value to every span after the maker that holds any of the readers, in order."""
    before = maker
    for unit in readers:
        table[before + 1 : unit + 1, unit + 1 :] += value
        before = unit


def add_exports(table: Ints, maker: int, reader: int, value: int) -> None:
    """Add a value to every span that holds the maker and ends before or at the reader."""
    table[: maker + 1, maker + 1 : reader + 1] += value


def largest_inside(values: Sequence[int]) -> Ints:
    """The largest value of any unit of a span; 0 for none, values being 0 or more."""
    table = new_table(len(values))
    for start in range(len(values)):
        table[start, start + 1 :] = np.maximum.accumulate(values[start:])
    return table
