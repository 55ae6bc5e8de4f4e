"""The least time that one micro-batch loses because memory is short, all of it on one rank.

The compute stream runs the forward, then the backward. What a schedule does in between obeys:

- The backward begins when the forward and every copy to the host have ended; a copy of what unit
  i makes begins after the forward of unit i.
- What is not in memory when the backward of a unit begins, and comes back from the host, begins to
  come after that backward, and is there before that of the first unit that saves it.
- At the start of each backward there is what ``backward_points`` finds; every other saved storage
  of an earlier unit is there too, or free.

A schedule's own choices meet the rows of a linear program over the shares that are free at some
time: one row for the memory at each backward, the others for the two phases. So its optimum is a
lower bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TypeVar

from remora.simulator.bounds.linear_program import LinearProgram
from remora.simulator.bounds.releases import Releases, Term, Transfer, Ways
from remora.simulator.bounds.tables import ChainTables

__all__ = ["extra_seconds"]

_Value = TypeVar("_Value")

# Rows are made for this many units, which keeps the program small.
_MOST_MEMORY_ROWS = 10
_MOST_COPY_ROWS = 6


def extra_seconds(
    tables: ChainTables,
    needs: Sequence[int],
    ways: Ways,
    overlap: bool,
    saved_s_per_byte: float = 0.0,
) -> float:
    """Least seconds that a micro-batch takes beyond its forward and backward.

    Args:
        tables: of the chain.
        needs: bytes that must be free at the start of each unit's backward.  # [num_units]
        ways: how.
        overlap: whether host copies run beside the computation.
        saved_s_per_byte: what a byte of trained weights saves by waiting on the host, which makes
            less than 0 seconds possible.
    """
    rows = _rows_that_count(needs)
    if not rows and not (ways.streamed and saved_s_per_byte):
        return 0.0
    work_s = tables.forward_s + tables.backward_s
    time_unit_s = work_s or 1.0
    program = LinearProgram()
    releases = Releases(program, tables.chain, tables.groups, ways, time_unit_s)
    for position, need in rows.items():
        program.at_least(releases.freed_at(position), need)
    for variable, entry in releases.streamed:
        if entry.gradient_bytes:
            program.add_cost(variable, -saved_s_per_byte * entry.num_bytes / time_unit_s)
    if overlap:
        backward = _add_phases(program, tables, releases, time_unit_s)
        if ways.rates is not None:
            rate = ways.rates.h2d_bytes_per_s * time_unit_s
            for position, need in rows.items():
                hidden = _between_s(tables, position) / time_unit_s
                kept = [*releases.freed_at(position, copied=False), (backward, rate)]
                program.at_least(kept, need - rate * hidden)
    else:
        _add_one_stream(program, releases)
    return program.lower_bound() * time_unit_s


def _rows_that_count(needs: Sequence[int]) -> dict[int, int]:
    """Needs above those of all earlier units, whose storages they may free too; some of them."""
    most = 0
    rows: dict[int, int] = {}
    for position, need in enumerate(needs):
        if need > most:
            rows[position] = most = need
    return dict(_spread(list(rows.items()), _MOST_MEMORY_ROWS))


def _add_one_stream(program: LinearProgram, releases: Releases) -> None:
    """Copies run in line with the computation."""
    copies = [(t.variable, t.seconds) for t in (*releases.stores, *releases.loads)]
    copies += [(t.variable, 2 * t.seconds) for t in releases.weights]
    terms = [*releases.compress, *releases.recompute, *releases.restore, *copies]
    total = program.variable(_most(terms), cost=1.0)
    program.at_least([(total, 1.0), *_negative(terms)], 0.0)


def _between_s(tables: ChainTables, position: int) -> float:
    """Seconds after the backward of a unit and before that of the first whose tensors were free."""
    first = min((group.low for group in tables.free_at(position)), default=0)
    return sum(unit.backward_s for unit in tables.chain.units[first + 1 : position])


def _add_phases(
    program: LinearProgram, tables: ChainTables, releases: Releases, time_unit_s: float
) -> int:
    """Copies run beside the computation: rows for the time of the forward and the backward.

    Returns:
        the variable of the time that the backward takes longer.
    """
    units = tables.chain.units
    forward_s = list(itertools.accumulate(unit.forward_s for unit in units))
    backward_s = list(itertools.accumulate(unit.backward_s for unit in units))
    again = [*releases.recompute, *releases.restore]
    stores, loads, weights = (
        [(t.variable, t.seconds) for t in transfers]
        for transfers in (releases.stores, releases.loads, releases.weights)
    )
    forward = program.variable(_most([*releases.compress, *stores, *weights]), cost=1.0)
    backward = program.variable(_most([*again, *loads, *weights]), cost=1.0)
    program.at_least([(forward, 1.0), *_negative(releases.compress)], 0.0)
    program.at_least([(backward, 1.0), *_negative(again)], 0.0)
    if not stores and not weights:
        return backward
    for unit, copies in _from_units(releases.stores):
        left_s = forward_s[-1] - forward_s[unit]
        program.at_least([(forward, 1.0), *_negative(copies)], -left_s / time_unit_s)
    for unit, copies in _from_units(releases.loads):
        between_s = sum(u.backward_s for u in units[unit + 1 : -1])
        program.at_least([(backward, 1.0), *_negative(copies)], -between_s / time_unit_s)
    if weights:
        work_s = forward_s[-1] + backward_s[-1]
        program.at_least([(forward, 1.0), *_negative(weights)], -forward_s[-1] / time_unit_s)
        both = [(forward, 1.0), (backward, 1.0), *_negative([*loads, *weights, *weights])]
        program.at_least(both, -work_s / time_unit_s)
    return backward


def _from_units(transfers: Sequence[Transfer]) -> Iterable[tuple[int, list[Term]]]:
    """Some units, and the copies that concern each of them or a later one."""
    units = sorted({transfer.unit for transfer in transfers})
    for unit in _spread(units, _MOST_COPY_ROWS):
        yield unit, [(t.variable, t.seconds) for t in transfers if t.unit >= unit]


def _spread(values: Sequence[_Value], most: int) -> Sequence[_Value]:
    """At most so many values, first and last among them; leaving rows out stays a bound."""
    if len(values) <= most:
        return values
    places = {round(place * (len(values) - 1) / (most - 1)) for place in range(most)}
    return [values[place] for place in sorted(places)]


def _most(terms: Sequence[Term]) -> float:
    """An upper limit of a sum of shares."""
    return sum(factor for _, factor in terms)


def _negative(terms: Iterable[Term]) -> list[Term]:
    return [(variable, -factor) for variable, factor in terms]
