"""Tables of many problems as arrays of one shape each, filled up with zeros."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import NUM_STATES
from remora.envs.arrays import Tables
from remora.envs.columns import HELD_END
from remora.envs.intervals import largest_inside
from remora.envs.pipeline_links import link_rates
from remora.envs.pipeline_stacking import stack_pipelines
from remora.envs.pipeline_tables import tied_bytes

if TYPE_CHECKING:
    from remora.envs.count_tables import CountTables
    from remora.envs.problem_tables import ProblemTables

__all__ = ["first_rows", "stack", "stack_with"]

Ints = NDArray[np.int64]


def first_rows(problems: Sequence[ProblemTables]) -> list[int]:
    """Where the rows of every problem begin."""
    counts = [len(problem.counts) for problem in problems]
    return list(itertools.accumulate(counts[:-1], initial=0))


def stack(problems: Sequence[ProblemTables]) -> Tables:
    """Put the tables of all problems into arrays, one row per number of micro-batches."""
    known = [problem.least_budgets for problem in problems]
    return stack_with(problems, [entry[0] for entry in known], [entry[1] for entry in known])


def stack_with(
    problems: Sequence[ProblemTables],
    shares: Sequence[NDArray[np.float64]],
    least: Sequence[Ints],
) -> Tables:
    """The same with budgets of pipelines that are given, see :func:`.stack_pipelines`."""
    rows = [(problem, count) for problem in problems for count in problem.counts]
    shapes = [len(problem.shapes) for problem in problems]
    first_shape = dict(zip(problems, itertools.accumulate(shapes, initial=0), strict=False))
    borders = [_border(count) for _, count in rows]
    options = [_options(count) for _, count in rows]
    return Tables(
        ints=np.array([_ints(*row, first_shape[row[0]]) for row in rows], dtype=np.int64),
        reals=np.array([_reals(*row) for row in rows]),
        storage=_padded([_storages(count) for _, count in rows]),
        border_start=_padded([start for start, _ in borders]),
        border=_padded([entries for _, entries in borders]),
        option=_padded([sizes for sizes, _, _ in options]),
        option_s=_padded([seconds for _, seconds, _ in options], np.float64),
        option_held=_padded([held for _, _, held in options]),
        unit=_padded([[(u.fixed, bool(u.saved)) for u in p.problem.chain.units] for p, _ in rows]),
        span=_padded([_spans(*row) for row in rows]),
        near=_padded([_near(count) for _, count in rows]),
        again_s=_padded([count.again_s for _, count in rows], np.float64),
        price=_padded([count.prices.sums for _, count in rows], np.float64),
        placed=np.array([_placed(count) for _, count in rows], dtype=np.int64),
        pipelines=stack_pipelines(problems, shares, least),
    )


def _padded(arrays: Sequence[Any], dtype: Any = np.int64) -> NDArray[Any]:
    """Stack arrays of one rank; shorter ones are filled up with zeros.  # [rows][...]."""
    parts = [np.asarray(array, dtype=dtype) for array in arrays]
    shape = [max(1, *(part.shape[axis] for part in parts)) for axis in range(parts[0].ndim)]
    stacked = np.zeros((len(parts), *shape), dtype=dtype)
    for place, part in enumerate(parts):
        inside = tuple(slice(0, length) for length in part.shape)
        stacked[place][inside] = part
    return stacked


def _ints(problem: ProblemTables, count: CountTables, first_shape: int) -> tuple[int, ...]:
    """The columns of ``Tables.ints``."""
    hardware = problem.problem.hardware
    return (
        problem.num_units,
        count.micro_batches,
        hardware.host.memory_bytes,
        int(problem.offloads),
        len(problem.counts),
        len(count.places),
        first_shape,
        len(problem.shapes),
        problem.problem.optimizer.step_temporaries,
        int(hardware.device_type == "cuda"),
        hardware.devices_per_node,
        *(tied_bytes(problem.problem) if problem.shapes else (0, 0, 0, 0)),
    )


def _reals(problem: ProblemTables, count: CountTables) -> tuple[float, ...]:
    """The columns of ``Tables.reals``."""
    cost, counted = problem.problem.cost, problem.problem.optimizer.counted
    step_s = [0.0] * NUM_STATES
    for place in count.places:
        step_s[place.code] = place.step_s
    return (
        count.work_s,
        *count.copies,
        problem.keep_all_s,
        problem.span_bytes,
        cost.optimizer_time_s if counted else 0.0,
        cost.host_optimizer_time_s if counted else 0.0,
        problem.floor_bytes if problem.shapes else 0,
        *link_rates(problem.problem),
        count.prices.over_price,
        *step_s,
    )


def _storages(count: CountTables) -> Ints:
    """The columns of ``Tables.storage``.  # [x][columns]."""
    known = count.storages
    columns = (known.size, known.maker, known.stays, known.first_reader, known.last_reader)
    return np.stack([column.astype(np.int64) for column in columns], axis=1)


def _border(count: CountTables) -> tuple[list[int], Ints]:
    """Where every border begins, its storages, and the first unit from there on that reads each."""
    start: list[int] = [0]
    entries: list[tuple[int, int]] = []
    for unit, border in enumerate(count.storages.border):
        entries += [(number, count.storages.next_reader(number, unit)) for number in border]
        start.append(len(entries))
    return start, np.array(entries, dtype=np.int64).reshape(-1, 2)


def _options(count: CountTables) -> tuple[Ints, NDArray[np.float64], list[int]]:
    """Menu entries: the columns of ``Tables.option``, seconds, and all that they hold."""
    most = max(map(len, count.options))
    sizes = np.zeros((len(count.options), most, HELD_END + 1), dtype=np.int64)
    seconds = np.zeros((len(count.options), most, 3))
    held: list[int] = []
    for unit, options in enumerate(count.options):
        for place, option in enumerate(options):
            kept = (option.forward, option.backward, option.inside, option.moved, option.doubled)
            sizes[unit, place] = (1, *kept, len(held), len(held) + len(option.held))
            seconds[unit, place] = option.compute_s, option.store_s, option.load_s
            held += option.held
    return sizes, seconds, held


def _spans(problem: ProblemTables, count: CountTables) -> Ints:
    """The columns of ``Tables.span``.  # [n + 1][n + 1][columns]."""
    groups = count.segments
    made = count.storages.border_made_since.T
    known = np.stack((groups.forward, groups.plain, groups.nested, made), axis=2)
    if count.stages is None:
        return known
    rises = np.stack([largest_inside(row.tolist()) for row in count.prices.rises], axis=2)
    parts = (known, count.stages.spans, problem.statics, rises, count.stages.ways)
    return np.concatenate(parts, axis=2)


def _near(count: CountTables) -> Ints:
    """Peaks of completions, the whole one first.  # [n + 1][NEAR_UNITS + 1]."""
    near = count.completions.near.copy()
    near[:, 0] = count.completions.rest
    return near


def _placed(count: CountTables) -> list[tuple[int, int, int, int]]:
    found = [(0, 0, 0, 0)] * NUM_STATES
    for place in count.places:
        found[place.code] = (place.device_bytes, place.host_bytes, place.step_bytes, 1)
    return found
