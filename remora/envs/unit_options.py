"""What every menu entry of a unit takes and holds, for units outside of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from remora.envs.backward_base import BackwardBase
from remora.envs.levels import UnitLevels
from remora.envs.storages import CrossingStorages
from remora.schedule.chain import Chain
from remora.schedule.host_copies import HostLinkRates
from remora.schedule.menu import is_recompute
from remora.schedule.schedule import Action, UnitOption
from remora.schedule.stage import unit_plan

__all__ = ["OptionRow", "option_row", "plain_options"]


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One menu entry of one unit.

    Attributes:
        forward: peak of its forward above the base.
        backward: peak of its backward above what earlier units and it hold of earlier ones.
        inside: bytes that it holds and nobody else may.
        held: numbers of crossing storages that it holds.
        moved: bytes that go to the host.
        doubled: those of them that somebody else may hold too.
        compute_s: seconds beyond forward and backward.
        store_s, load_s: seconds of its copies.
    """

    forward: int
    backward: int
    inside: int
    held: tuple[int, ...]
    moved: int
    doubled: int
    compute_s: float
    store_s: float
    load_s: float

    @property
    def peak(self) -> int:
        """Of both, above the base."""
        return max(self.forward, self.backward)


def plain_options(menu: Sequence[UnitOption]) -> tuple[UnitOption, ...]:
    """Menu entries that stand for a unit outside of groups: keep, then those that mix actions."""
    return tuple(
        option
        for option in menu
        if not is_recompute(option) and Action.COMPRESS not in option.distinct
    )


def option_row(
    chain: Chain,
    storages: CrossingStorages,
    levels: UnitLevels,
    base: BackwardBase,
    rates: HostLinkRates,
    index: int,
    option: UnitOption,
) -> OptionRow:
    """Work one menu entry out.

    A storage that goes to the host comes back as a copy of its own, beside the original if
    somebody else holds that.

    Args:
        chain: the units.
        storages: what crosses them.
        levels: rises of single runs.
        base: what takes memory whatever the plan.
        rates: of the host link.
        index: of the unit.
        option: of its menu, without compression.
    """
    unit, plan = chain.units[index], unit_plan(chain, index, option)
    number, size = storages.number, chain.num_bytes
    rerun = plan.rerun
    late = int(storages.held_into_backward[index])
    doubled = sum(
        size(s) for s in plan.offload if s in number and storages.maker[number[s]] < index
    )
    made = [s.storage for s in unit.saved if s.created_here]
    left = [s for s in (*plan.keep, *plan.offload) if s in made]
    backward = sum(map(size, made)) + doubled + late + int(base.during[index])
    if rerun is not None:
        before = sum(map(size, left)) + doubled + late + int(base.before[index])
        backward = max(backward, before + rerun.transient_bytes)
    holds = (*plan.keep, *(rerun.reads if rerun is not None else ()))
    moved = [size(s) for s in plan.offload]
    extra_s = plan.record_overhead_s
    if rerun is not None:
        extra_s += rerun.duration_s + plan.rerun_overhead_s
    return OptionRow(
        forward=levels.forward(unit, plan) + base.forward,
        backward=backward,
        inside=levels.inside_bytes(plan.keep),
        held=tuple(number[s] for s in holds if s in number),
        moved=sum(moved),
        doubled=doubled,
        compute_s=extra_s,
        store_s=unit.hooks_s + rates.store_s(moved) if moved else 0.0,
        load_s=rates.load_s(moved) if moved else 0.0,
    )
