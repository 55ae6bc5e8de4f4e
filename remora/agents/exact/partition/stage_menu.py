"""The memory options of all units as arrays: bytes held per micro-batch against seconds added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.schedule.chain import Chain
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.layout import host_link_rates
from remora.schedule.option_prices import PricedOption, price_option
from remora.schedule.problem import Problem
from remora.schedule.schedule import UnitOption

__all__ = ["StageMenu", "stage_menu"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StageMenu:
    """Options of every unit, none worse than another of its unit in both figures.

    Shapes: L = units, O = most options of a unit. The fastest comes first; rows of units that
    have fewer are filled up with infinity.

    Attributes:
        options: what can be chosen.  # [L][<= O]
        held_bytes: left on the device between forward and backward.  # [L, O]
        extra_s: seconds added to one micro-batch.  # [L, O]
    """

    options: tuple[tuple[UnitOption, ...], ...]
    held_bytes: Floats
    extra_s: Floats

    @property
    def kept_bytes(self) -> Floats:
        """Bytes that the fastest options hold.  # [L]."""
        return self.held_bytes[:, 0]

    @property
    def least_bytes(self) -> Floats:
        """Bytes that the leanest options hold.  # [L]."""
        least: Floats = self.held_bytes.min(axis=1)
        return least


def stage_menu(
    problem: Problem, micro_batches: int, menus: Sequence[Sequence[UnitOption]]
) -> StageMenu:
    """Price the options of every unit at one number of micro-batches.

    A copy to the host costs what the forward of its unit does not hide of it, and the way back
    what the backward does not hide; where copies do not run beside computation, all of it.

    Args:
        problem: costs and hardware.
        micro_batches: of one step.
        menus: options of every unit, keep first.  # [L][num_options]
    """
    chain = problem.chains[micro_batches]
    rates = host_link_rates(problem, chain)
    overlap = problem.hardware.copies_overlap
    rows = []
    for unit, menu in enumerate(menus):
        priced = [price_option(chain, unit, option) for option in menu]
        seconds = [p.time_s + _copies_s(chain, unit, p, rates, overlap) for p in priced]
        rows.append(_front(priced, seconds))
    width = max(len(row) for row in rows)
    held = np.full((len(rows), width), np.inf)
    extra = np.full((len(rows), width), np.inf)
    for unit, row in enumerate(rows):
        held[unit, : len(row)] = [size for _, size, _ in row]
        extra[unit, : len(row)] = [seconds for _, _, seconds in row]
    return StageMenu(tuple(tuple(o for o, _, _ in row) for row in rows), held, extra)


def _copies_s(
    chain: Chain, unit: int, priced: PricedOption, rates: HostLinkRates, overlap: bool
) -> float:
    if not priced.moved_bytes:
        return 0.0
    store_s, load_s = rates.store_s([priced.moved_bytes]), rates.load_s([priced.moved_bytes])
    if not overlap:
        return store_s + load_s
    record = chain.units[unit]
    return max(0.0, store_s - record.forward_s) + max(0.0, load_s - record.backward_s)


def _front(
    priced: Sequence[PricedOption], seconds: Sequence[float]
) -> list[tuple[UnitOption, int, float]]:
    """Options by seconds, without those that hold no less than a faster one."""
    front: list[tuple[UnitOption, int, float]] = []
    order = sorted(range(len(priced)), key=lambda i: (seconds[i], priced[i].held_bytes, i))
    for index in order:
        held = priced[index].held_bytes
        if not front or held < front[-1][1]:
            front.append((priced[index].option, held, seconds[index]))
    return front
