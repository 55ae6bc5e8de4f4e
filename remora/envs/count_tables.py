"""What is known of one problem at one number of micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from remora.envs.backward_base import BackwardBase, backward_base
from remora.envs.levels import UnitLevels
from remora.envs.places import Place, places_of
from remora.envs.price_levels import PriceLevels, price_levels
from remora.envs.segments import Completions, Segments, completions, segments_of
from remora.envs.stage_completions import stage_completions
from remora.envs.stage_tables import stage_base, stage_spans
from remora.envs.storages import CrossingStorages
from remora.envs.unit_options import OptionRow, option_row, plain_options
from remora.schedule.chain import Chain
from remora.schedule.layout import Layout, host_link_rates
from remora.schedule.menu import keep_all_schedule
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelinePlan, UnitOption

__all__ = ["CountTables", "StageTables", "count_tables"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class StageTables:
    """What is known of spans of units as stages of pipelines.

    Attributes:
        spans: see :func:`.stage_spans`.  # [n + 1][n + 1][columns]
        ways: see :func:`.stage_completions`.  # [n + 1][n + 1][columns]
    """

    spans: Ints
    ways: Ints


@dataclass(frozen=True)
class CountTables:
    """One problem cut into some number of micro-batches.

    Attributes:
        micro_batches: that number.
        storages: what crosses units.
        options: menu entries outside of groups, keep first.  # [n][options]
        segments: peaks of groups.
        completions: peaks of completions.
        work_s: seconds of all forwards and backwards.
        again_s: seconds of running the units before c again: whole; up to what is saved last; the
            same without units that save nothing of their own; and seconds of their forwards and
            backwards.  # [n + 1][4]
        copies: latency and rates of the host link.  # [3]
        places: of the state on one device.
        prices: what units give up at a price.
        stages: of pipelines; None on one device.
    """

    micro_batches: int
    storages: CrossingStorages
    options: tuple[tuple[OptionRow, ...], ...]
    segments: Segments
    completions: Completions
    work_s: float
    again_s: NDArray[np.float64]
    copies: tuple[float, float, float]
    places: tuple[Place, ...]
    prices: PriceLevels
    stages: StageTables | None = None


def count_tables(
    problem: Problem, menus: Sequence[Sequence[UnitOption]], count: int
) -> CountTables:
    """Work the tables of a problem out.

    Args:
        problem: what is planned.
        menus: options of every unit.
        count: number of micro-batches.
    """
    chain = problem.chains[count]
    keep = keep_all_schedule(problem.graph, PipelinePlan(micro_batches=count))
    storages, levels = CrossingStorages(chain), UnitLevels(chain)
    base = _base(problem, chain, storages, _gradients(Layout(problem, keep)), levels, count)
    rates = host_link_rates(problem, chain)
    options = tuple(
        tuple(
            option_row(chain, storages, levels, base, rates, unit, option)
            for option in plain_options(menu)
        )
        for unit, menu in enumerate(menus)
    )
    segments = segments_of(chain, storages, levels, base)
    made_since = storages.border_made_since
    kept = [row[0] for row in options]
    hold = [row.inside + _new_bytes(storages, unit, row) for unit, row in enumerate(kept)]
    found = completions(np.array([row.peak for row in kept]), np.array(hold), segments, made_since)
    work_s = count * sum(u.forward_s + u.backward_s for u in chain.units)
    known = CountTables(
        micro_batches=count,
        storages=storages,
        options=options,
        segments=segments,
        completions=found,
        work_s=work_s,
        again_s=_again_s(chain),
        copies=(rates.latency_s, rates.d2h_bytes_per_s, rates.h2d_bytes_per_s),
        places=places_of(problem, keep),
        prices=price_levels(chain, storages, options, segments),
    )
    if problem.world_size == 1:
        return known
    peaks = np.array([(row.forward, row.backward) for row in kept])
    ways = stage_completions(peaks, np.array(hold), segments, made_since)
    spans = stage_spans(chain, storages, base, levels, menus)
    return replace(known, stages=StageTables(spans, ways))


def _base(
    problem: Problem,
    chain: Chain,
    storages: CrossingStorages,
    gradients: Ints,
    levels: UnitLevels,
    count: int,
) -> BackwardBase:
    if problem.world_size > 1:
        return stage_base(chain, storages, gradients, levels)
    return backward_base(chain, storages, gradients, levels, count)


def _again_s(chain: Chain) -> NDArray[np.float64]:
    """Seconds of running the units before c again, and for the first time.  # [n + 1][4]."""
    rows = [(0.0, 0.0, 0.0, 0.0)]
    for unit in chain.units:
        stopped_s = unit.hooks_s + unit.rerun_s
        saving_s = stopped_s if unit.saved else 0.0
        work_s = unit.forward_s + unit.backward_s
        rows.append((unit.hooks_s + unit.forward_s, stopped_s, saving_s, work_s))
    return np.cumsum(rows, axis=0)


def _gradients(layout: Layout) -> Ints:
    """Bytes of gradients of weights that every unit's backward completes.  # [n]."""
    found = np.zeros(len(layout.chain.units), dtype=np.int64)
    for unit, entries in layout.gradient_units(0).items():
        found[unit] = sum(entry.gradient_bytes for entry in entries)
    return found


def _new_bytes(storages: CrossingStorages, unit: int, row: OptionRow) -> int:
    """Crossing storages that a unit makes and that are there when the next one begins."""
    there = {*row.held, *storages.border[unit + 1]}
    return int(sum(storages.size[x] for x in there if storages.maker[x] >= unit))
