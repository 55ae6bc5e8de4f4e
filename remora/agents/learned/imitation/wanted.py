"""What a schedule asks for in every phase of an episode, as far as actions can say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from remora.envs.actions import FIRST_OPTION, NUM_DECISIONS, UnitDecision
from remora.envs.passes.choices import DECISIONS
from remora.envs.problem_tables import ProblemTables
from remora.schedule.chain import Chain
from remora.schedule.menu import is_recompute
from remora.schedule.option_prices import PricedOption, price_option
from remora.schedule.schedule import Action, Group, PipelinePlan, Schedule, StatePlan, UnitOption

__all__ = ["Reading", "Wanted", "pass_wanted", "wanted_of"]


class Reading(Enum):
    """How to say a group inside of which something is recomputed by itself.

    OUTER closes it with CLOSE_NESTED; PLAIN leaves out what is inside; INNER leaves out the group
    and closes the groups inside one after the other.
    """

    OUTER = "outer"
    PLAIN = "plain"
    INNER = "inner"


@dataclass(frozen=True)
class Wanted:
    """What a schedule asks for.

    Attributes:
        pipeline: kind, chunks, ranks, cuts and micro-batches.
        state: where the state lives.
        pace: offload window and prefetch distance, means over stages where they differ.
        units: one action per unit, cuts included.  # [num_units]
    """

    pipeline: PipelinePlan
    state: StatePlan
    pace: tuple[float, float]
    units: tuple[int, ...]


def wanted_of(
    tables: ProblemTables, schedule: Schedule, reading: Reading = Reading.OUTER
) -> Wanted:
    """Say a schedule in actions; where that cannot be done, the closest ones.

    Args:
        tables: of the problem.
        schedule: a valid one for that problem.
        reading: what to do with nested groups.
    """
    memory, pipeline = schedule.memory, schedule.pipeline
    chain = tables.problem.chains[pipeline.micro_batches]
    units = [
        _alone(chain, unit, option, tables.menus[unit])
        for unit, option in enumerate(memory.options)
    ]
    for group in _said(memory.groups, reading):
        closing = _closing(group, memory.options, reading)
        inside = range(group.start, group.end - 1)
        units[group.start : group.end] = [*(UnitDecision.OPEN for _ in inside), closing]
    for cut in pipeline.cuts:
        units[cut - 1] += NUM_DECISIONS
    paces = [memory.pace_of(stage) for stage in range(pipeline.num_stages)]
    windows, distances = zip(*paces, strict=True)
    pace = sum(windows) / len(paces), sum(distances) / len(paces)
    return Wanted(pipeline, schedule.state, pace, tuple(map(int, units)))


def pass_wanted(schedule: Schedule) -> Wanted:
    """Say a schedule of passes in actions; those say all of it but odd paces."""
    state, memory, pipeline = schedule.state, schedule.memory, schedule.pipeline
    units = [
        DECISIONS[unit in state.streamed_units, unit in state.host_caches]
        for unit in range(len(memory.options))
    ]
    for cut in pipeline.cuts:
        units[cut - 1] += NUM_DECISIONS
    pace = float(memory.offload_window), float(memory.prefetch_distance)
    return Wanted(pipeline, StatePlan(), pace, tuple(units))


def _said(groups: Iterable[Group], reading: Reading) -> Iterable[Group]:
    """Groups of one level, in order."""
    for group in groups:
        if reading is Reading.INNER and group.children:
            yield from _said(group.children, reading)
        else:
            yield group


def _closing(group: Group, options: Sequence[UnitOption], reading: Reading) -> UnitDecision:
    inside = any(is_recompute(option) for option in options[group.start : group.end])
    nested = bool(group.children) or inside
    if nested and reading is not Reading.PLAIN and group.end - group.start > 1:
        return UnitDecision.CLOSE_NESTED
    if group.checkpoint is Action.OFFLOAD:
        return UnitDecision.CLOSE_OFFLOADED
    return UnitDecision.CLOSE


def _alone(chain: Chain, unit: int, option: UnitOption, menu: Sequence[UnitOption]) -> int:
    """The decision about a unit outside of groups; options that no menu has go to the nearest."""
    if option not in menu:
        option = _nearest(chain, unit, option, menu)
    place = menu.index(option)
    if place == 0:
        return UnitDecision.KEEP
    if is_recompute(option):
        return UnitDecision.CLOSE
    return FIRST_OPTION + place - 2


def _nearest(chain: Chain, unit: int, option: UnitOption, menu: Sequence[UnitOption]) -> UnitOption:
    """The menu entry that costs about as many seconds and leaves about as many bytes."""
    wanted = price_option(chain, unit, option)
    priced = [price_option(chain, unit, entry) for entry in menu]
    rivals = [wanted, *priced]
    seconds = max(*(p.time_s for p in rivals), 1e-12)
    held = max(*(p.held_bytes for p in rivals), 1)
    moved = max(*(p.moved_bytes for p in rivals), 1)

    def distance(other: PricedOption) -> float:
        return (
            abs(other.time_s - wanted.time_s) / seconds
            + abs(other.held_bytes - wanted.held_bytes) / held
            + abs(other.moved_bytes - wanted.moved_bytes) / moved
        )

    return min(priced, key=distance).option
