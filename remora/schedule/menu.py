"""The memory options of a unit, found from its operators."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from remora.graph.model_graph import ModelGraph, Unit
from remora.schedule.chain import Chain
from remora.schedule.closure import ClosureFinder
from remora.schedule.option_prices import PricedOption, cover_prices, price_option, unbeaten
from remora.schedule.recompute import can_compress, is_recompute, unit_steps
from remora.schedule.schedule import (
    Action,
    MemoryPlan,
    PipelinePlan,
    PrecisionPlan,
    Schedule,
    TensorPlan,
    UnitOption,
)

if TYPE_CHECKING:
    from remora.schedule.problem import Problem

__all__ = [
    "MENU_SIZE",
    "is_recompute",
    "keep_all_schedule",
    "keep_option",
    "offload_option",
    "plain_menu",
    "recompute_all_schedule",
    "recompute_option",
    "unit_menu",
]

MIN_OFFLOAD_BYTES = 4096
"""A smaller saved tensor stays: the copy's latency costs more than its bytes."""

MENU_SIZE = 8
"""Most options of a unit."""

_LEAST_SHARE = 0.005
"""A storage with less than this share of what the unit saves is not worth a decision."""

_CUT_SHARE = 1 / 16
"""Least share of what a unit saves by which two options differ."""


def keep_option(unit: Unit) -> UnitOption:
    """Keep every saved tensor."""
    return UnitOption(tuple((saved.name, Action.KEEP) for saved in unit.saved))


def recompute_option(unit: Unit) -> UnitOption:
    """Keep nothing and run the unit again from its inputs."""
    return UnitOption(tuple((saved.name, Action.RECOMPUTE) for saved in unit.saved))


def offload_option(graph: ModelGraph, unit: Unit) -> UnitOption:
    """Move every saved activation of some size to the host; keep parameters and small ones.

    Args:
        graph: the traced step.
        unit: one of its units.
    """
    return UnitOption(
        tuple(
            (
                saved.name,
                Action.OFFLOAD if _can_move(graph, graph.storage_of(saved)) else Action.KEEP,
            )
            for saved in unit.saved
        )
    )


def keep_all_schedule(graph: ModelGraph, pipeline: PipelinePlan | None = None) -> Schedule:
    """The schedule that keeps every saved tensor; without a pipeline it changes nothing.

    Args:
        graph: the traced step.
        pipeline: None for one rank and one micro-batch.
    """
    memory = MemoryPlan(tuple(keep_option(u) for u in graph.units))
    return Schedule(
        graph.content_hash,
        memory,
        pipeline or PipelinePlan(),
        tensor=TensorPlan(graph.tensor_degree),
        precision=PrecisionPlan(graph.precisions),
    )


def recompute_all_schedule(problem: Problem, pipeline: PipelinePlan | None = None) -> Schedule:
    """The schedule that recomputes every unit by itself, as far as its menu has that.

    Args:
        problem: what is planned.
        pipeline: None for one rank and one micro-batch.
    """
    kept = keep_all_schedule(problem.graph, pipeline)
    options = tuple(
        recompute_option(unit) if _may_recompute(problem, unit) else keep_option(unit)
        for unit in problem.graph.units
    )
    return replace(kept, memory=replace(kept.memory, options=options))


def _may_recompute(problem: Problem, unit: Unit) -> bool:
    """Whether a unit can run again, and frees something by that."""
    return not unit.fixed_reason and bool(problem.chain.units[unit.index].saved)


def plain_menu(problem: Problem, unit: Unit) -> tuple[UnitOption, ...]:
    """Options that treat the unit as a whole: keep first, then recompute, then offload.

    Only keep where nothing else helps or is allowed.

    Args:
        problem: its hardware says whether anything can be moved.
        unit: one of the units of its graph.
    """
    options = [keep_option(unit)]
    if not _may_recompute(problem, unit):
        return tuple(options)
    options.append(recompute_option(unit))
    offload = offload_option(problem.graph, unit)
    if problem.hardware.can_offload and Action.OFFLOAD in offload.distinct:
        options.append(offload)
    return tuple(options)


def unit_menu(problem: Problem, unit: Unit) -> tuple[UnitOption, ...]:
    """Options of ``unit``: the plain menu, then the best of those that mix actions.

    Saved storages are put in order of the seconds it takes to make them again per byte, with the
    operators that this really runs. A mixed option recomputes the first of them, moves or, where
    the problem allows it, compresses the last and keeps those between. Of these stay the ones
    that no other beats in time, bytes left on the device and bytes over the host link, and of them
    the few that serve best over a wide range of prices of a byte. Equal units have equal menus.

    Args:
        problem: its costs decide what is worth having.
        unit: one of the units of its graph.

    Returns:
        Keep first; see :func:`plain_menu` for the next ones.
    """
    plain = plain_menu(problem, unit)
    if len(plain) == 1:
        return plain
    key = ("menu", unit.kind, len(plain), problem.allow_lossy)
    memo = problem.chain.memo
    if key not in memo:
        mixed = _Mixer(problem, unit).best(plain)
        memo[key] = tuple(tuple(action for _, action in option.actions) for option in mixed)
    names = [saved.name for saved in unit.saved]
    mixed_options = [UnitOption(tuple(zip(names, row, strict=True))) for row in memo[key]]
    return (*plain, *mixed_options)


class _Mixer:
    """Makes and chooses the mixed options of one unit."""

    def __init__(self, problem: Problem, unit: Unit) -> None:
        self._problem = problem
        self._chain: Chain = problem.chain
        self._unit = unit
        saved = self._chain.units[unit.index].saved
        least = _LEAST_SHARE * self._chain.units[unit.index].saved_bytes
        self._worthy = [s for s in saved if s.num_bytes >= max(least, 1)]
        self._steps = unit_steps(problem.graph, unit)
        self._finder = ClosureFinder(self._steps)

    def best(self, plain: Sequence[UnitOption]) -> list[UnitOption]:
        """The mixed options to offer beside the plain ones, fastest first."""
        known = {option.actions for option in plain}
        found: dict[object, PricedOption] = {}
        for option in self._candidates():
            if option.actions not in known:
                found.setdefault(
                    option.actions, price_option(self._chain, self._unit.index, option)
                )
        base = [price_option(self._chain, self._unit.index, option) for option in plain]
        others = list(found.values())
        front = unbeaten(others, [*base, *others])
        chosen = cover_prices(self._chain.costs, base, front, MENU_SIZE - len(base))
        chosen.sort(key=lambda p: (p.time_s, p.moved_bytes, -p.held_bytes))
        return [priced.option for priced in chosen]

    def _candidates(self) -> Iterator[UnitOption]:
        """Recompute the first of the order, treat the last in another way, keep the rest."""
        order, recomputable = self._order()
        ways: list[Action] = [Action.OFFLOAD] if self._problem.hardware.can_offload else []
        ways += [Action.COMPRESS] if self._problem.allow_lossy else []
        able = {way: {s for s in order if self._allows(way, s)} for way in ways}
        cuts = self._cuts(order, recomputable)
        for first in (cut for cut in cuts if cut <= recomputable):
            again = dict.fromkeys(order[:first], Action.RECOMPUTE)
            yield self._option(again)
            for way in ways:
                for last in (cut for cut in cuts if first <= cut < len(order)):
                    treated = dict.fromkeys((s for s in order[last:] if s in able[way]), way)
                    yield self._option(again | treated)

    def _cuts(self, order: Sequence[int], recomputable: int) -> list[int]:
        """Places at which the order is cut, some bytes apart, ends of both parts included."""
        sizes = [self._chain.num_bytes(storage) for storage in order]
        cuts, since = [0], 0
        for position, size in enumerate(sizes, start=1):
            since += size
            if since >= _CUT_SHARE * sum(sizes) or position in (recomputable, len(order)):
                cuts.append(position)
                since = 0
        return cuts

    def _order(self) -> tuple[list[int], int]:
        """Storages by seconds per byte to make again after those before, then all others.

        Returns:
            the order, and how many of them can be made again.
        """
        left = [s.storage for s in self._worthy if s.created_here]
        order: list[int] = []
        spent_s = 0.0
        while left:
            prices = {s: self._rerun_s([*order, s]) - spent_s for s in left}
            nearest = min(left, key=lambda s: (prices[s] / self._chain.num_bytes(s), s))
            if math.isinf(prices[nearest]):
                break
            spent_s += prices[nearest]
            order.append(nearest)
            left.remove(nearest)
        others = [s.storage for s in self._worthy if s.storage not in order]
        return [*order, *others], len(order)

    def _rerun_s(self, storages: Sequence[int]) -> float:
        saved = {s.storage for s in self._chain.units[self._unit.index].saved}
        again = self._finder.find(storages, saved.difference(storages)).steps
        if any(self._steps[position].barrier for position in again):
            return math.inf
        times, first = self._chain.costs.op_time_s, self._unit.forward[0]
        return sum(times[first + position] for position in again)

    def _option(self, actions: dict[int, Action]) -> UnitOption:
        graph = self._chain.graph
        return UnitOption(
            tuple(
                (saved.name, actions.get(graph.storage_of(saved), Action.KEEP))
                for saved in self._unit.saved
            )
        )

    def _allows(self, action: Action, storage: int) -> bool:
        graph = self._chain.graph
        if action is Action.OFFLOAD:
            return _can_move(graph, storage)
        return can_compress(graph, self._unit, storage)


def _can_move(graph: ModelGraph, storage: int) -> bool:
    record = graph.storages[storage]
    return record.created >= 0 and record.num_bytes >= MIN_OFFLOAD_BYTES
