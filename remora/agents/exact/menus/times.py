"""Seconds of all plans of a menu at once.

Instructions of a plan follow each other as the simulator runs them. With copies beside the
computation a micro-batch takes the longest way through them, whose lengths are sums over the
options; with copies in line, or none, it takes the sum of everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remora.agents.exact.menus.model import MenuChoices
from remora.schedule.layout import Layout

__all__ = ["MenuTimes", "menu_times", "micro_batch_s"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class MenuTimes:
    """Seconds of every option, by what they belong to.

    Attributes:
        forward_s, backward_s: the unit's instructions on the compute stream in both phases; all
            that is restored or runs again belongs to the backward.  # [num_columns]
        store_s, load_s: its copies to the host and back.  # [num_columns]
        end_s: of the optimizer.
        overlap: copies run beside the computation.
        moved_bytes: to the host.  # [num_columns]
    """

    forward_s: FloatArray
    backward_s: FloatArray
    store_s: FloatArray
    load_s: FloatArray
    end_s: float
    overlap: bool
    moved_bytes: NDArray[np.int64]

    @property
    def total_s(self) -> FloatArray:
        """Everything in sequence.  # [num_columns]."""
        return self.forward_s + self.backward_s + self.store_s + self.load_s


def menu_times(choices: MenuChoices) -> MenuTimes:
    """Seconds of all options of all units."""
    chain, problem = choices.chain, choices.problem
    rates = _layout(choices).host_rates
    rows: list[tuple[float, float, float, float, int]] = []
    for unit in chain.units:
        for index, plan in enumerate(choices.plans[unit.index]):
            forward_s, again_s, hooks_s = unit.forward_s, unit.hooks_s + unit.rerun_s, 0.0
            moved: Sequence[int] = choices.moved_inputs(unit.index, index)
            if not choices.reruns(unit.index, index):
                forward_s += plan.record_overhead_s + plan.compress_s
                again_s, hooks_s, moved = plan.restore_s, unit.hooks_s, plan.offload
                if plan.rerun is not None:
                    again_s += plan.rerun.duration_s + plan.rerun_overhead_s
            sizes = [chain.num_bytes(storage) for storage in moved]
            store_s = hooks_s + rates.store_s(sizes) if sizes else 0.0
            load_s = rates.load_s(sizes) if sizes else 0.0
            rows.append((forward_s, again_s + unit.backward_s, store_s, load_s, sum(sizes)))
    columns = np.array(rows, dtype=np.float64).T
    counted = problem.optimizer.counted
    return MenuTimes(
        forward_s=columns[0],
        backward_s=columns[1],
        store_s=columns[2],
        load_s=columns[3],
        end_s=_layout(choices).step_costs(0).step_s if counted else 0.0,
        overlap=problem.hardware.copies_overlap and bool(columns[4].any()),
        moved_bytes=np.array([row[4] for row in rows], dtype=np.int64),
    )


def micro_batch_s(times: MenuTimes, columns: Sequence[int], window: int, distance: int) -> float:
    """Seconds of one micro-batch of a plan.

    Args:
        times: of all options.
        columns: of the plan.  # [num_units]
        window: offload window.
        distance: prefetch distance.
    """
    chosen = list(columns)
    if not times.overlap:
        return float(times.total_s[chosen].sum())
    last = len(chosen) - 1
    stored_s = [0.0] * len(chosen)
    ended_s = [0.0] * len(chosen)
    computed_s = copied_s = 0.0
    for unit, column in enumerate(chosen):
        waited_s = stored_s[unit - window] if unit >= window else 0.0
        computed_s = max(computed_s, waited_s) + times.forward_s[column]
        copied_s = stored_s[unit] = max(computed_s, copied_s) + times.store_s[column]
    begin_s = max(computed_s, copied_s)
    computed_s = copied_s = begin_s
    for unit in range(last, -1, -1):
        issued_s = ended_s[unit + distance + 1] if unit + distance < last else begin_s
        copied_s = max(copied_s, issued_s) + times.load_s[chosen[unit]]
        computed_s = max(computed_s, copied_s) + times.backward_s[chosen[unit]]
        ended_s[unit] = computed_s
    return float(computed_s)


def _layout(choices: MenuChoices) -> Layout:
    return Layout(choices.problem, choices.schedule([0] * len(choices.menus), 1, 1))
