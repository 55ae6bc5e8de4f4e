"""What the options of a unit cost, and which few of them serve best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.schedule.chain import Chain
from remora.schedule.costs import CostTable
from remora.schedule.recompute import compressed_bytes, is_recompute, rerun_of, storage_actions
from remora.schedule.schedule import Action, UnitOption

__all__ = ["PricedOption", "cover_prices", "price_option", "unbeaten"]

_NUM_PRICES = 12
_COPY_SHARES = (0.0, 0.3, 1.0)
"""Shares of the time of host copies that a schedule may fail to hide."""


@dataclass(frozen=True, slots=True)
class PricedOption:
    """An option and what it costs.

    Attributes:
        option: the option.
        time_s: seconds added to the compute stream.
        held_bytes: left on the device between forward and backward.
        moved_bytes: over the host link, one way.
    """

    option: UnitOption
    time_s: float
    held_bytes: int
    moved_bytes: int


def price_option(chain: Chain, unit: int, option: UnitOption) -> PricedOption:
    """Say what an option of a unit outside of groups costs."""
    costs, record = chain.costs, chain.units[unit]
    if is_recompute(option):
        time_s = record.rerun_s + record.hooks_s
        return PricedOption(option, time_s, chain.input_bytes(record.index), 0)
    actions = storage_actions(chain, record.index, option)
    by_action = {way: [s for s, a in actions.items() if a is way] for way in Action}
    packed = by_action[Action.COMPRESS]
    original_bytes = sum(chain.num_bytes(s) for s in packed)
    time_s = original_bytes / costs.compress_bytes_per_s
    time_s += original_bytes / costs.restore_bytes_per_s
    held = [*by_action[Action.KEEP]]
    rerun = rerun_of(chain, record.index, option)
    if rerun is not None:
        again = sum(1 for _, action in option.actions if action is Action.RECOMPUTE)
        time_s += rerun.duration_s + again * costs.saved_tensor_overhead_s
        held += rerun.reads
        ops = record.forward[1] - record.forward[0]
        time_s += ops * costs.recorded_op_overhead_s
    held_bytes = sum(chain.num_bytes(s) for s in held)
    held_bytes += sum(compressed_bytes(chain, s) for s in packed)
    moved_bytes = sum(chain.num_bytes(s) for s in by_action[Action.OFFLOAD])
    return PricedOption(option, time_s, held_bytes, moved_bytes)


def cover_prices(
    costs: CostTable, base: Sequence[PricedOption], others: Sequence[PricedOption], count: int
) -> list[PricedOption]:
    """Choose options one by one, each time the one that lowers the costs most over all prices.

    Args:
        costs: rates of the host link.
        base: options that are there in any case.
        others: options to choose from.
        count: most options to choose; fewer if no more of them lowers any cost.
    """
    if not others:
        return []
    prices = np.array(_prices(costs, [*base, *others])).reshape(-1, 2)
    best = _costs_s(base, prices).min(axis=0)  # [prices]
    costs_s = _costs_s(others, prices)  # [others, prices]
    chosen: list[int] = []
    while len(chosen) < min(count, len(others)):
        shares = np.divide(costs_s, best, out=np.ones_like(costs_s), where=best > 0)
        # One after the other, so that the sum is the same wherever it is worked out.
        gains = np.add.accumulate(np.maximum(0.0, 1.0 - shares), axis=1)[:, -1]
        gains[chosen] = 0.0
        position = int(np.argmax(gains))
        if gains[position] <= 0:
            break
        chosen.append(position)
        best = np.minimum(best, costs_s[position])
    return [others[position] for position in chosen]


def unbeaten(options: Sequence[PricedOption], rivals: Sequence[PricedOption]) -> list[PricedOption]:
    """Those of ``options`` that no rival beats: none is nowhere worse and somewhere better."""
    if not options:
        return []
    mine, theirs = _figures(options)[:, None], _figures(rivals)[None]  # [options, rivals, 3]
    beaten = (theirs <= mine).all(axis=2) & (theirs != mine).any(axis=2)
    return [option for option, by in zip(options, beaten.any(axis=1), strict=True) if not by]


def _figures(options: Sequence[PricedOption]) -> NDArray[np.float64]:
    """Seconds, bytes held and bytes moved.  # [options, 3]."""
    return np.array([(p.time_s, p.held_bytes, p.moved_bytes) for p in options], dtype=np.float64)


def _costs_s(options: Sequence[PricedOption], prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of every option at every price of a byte held and one moved.  # [options, prices]."""
    time_s, held, moved = _figures(options).T[:, :, None]  # [options, 1]
    found: NDArray[np.float64] = time_s + prices[:, 0] * held + prices[:, 1] * moved
    return found


def _prices(costs: CostTable, options: Sequence[PricedOption]) -> list[tuple[float, float]]:
    """Prices of a byte held and a byte moved: from too low to too high to change anything."""
    most = max(p.held_bytes for p in options)
    rates = [
        p.time_s / (most - p.held_bytes) for p in options if p.time_s > 0 and p.held_bytes < most
    ]
    copy_s = 1 / costs.d2h_bytes_per_s + 1 / costs.h2d_bytes_per_s
    low, high = 0.5 * min(rates, default=copy_s), 2 * max(rates, default=copy_s)
    step = (high / low) ** (1 / (_NUM_PRICES - 1))
    held = [low * step**i for i in range(_NUM_PRICES)]
    return [(price, share * copy_s) for price in held for share in _COPY_SHARES]
