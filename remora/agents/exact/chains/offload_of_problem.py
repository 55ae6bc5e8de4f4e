"""From the units of a problem to the chain of recomputation and host copies, and back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from remora.agents.exact.chains.offload_chain import OffloadChain, StageOption
from remora.agents.exact.chains.offload_table import Block
from remora.agents.exact.chains.rotor import Group, Segment
from remora.agents.exact.chains.rotor_of_problem import rotor_chain
from remora.agents.heuristics.space import Choice, Space
from remora.agents.heuristics.spans import Span, without_units
from remora.schedule.chain import Chain
from remora.schedule.option_prices import price_option
from remora.schedule.problem import Problem
from remora.schedule.recompute import storage_actions
from remora.schedule.schedule import Action, Schedule

__all__ = ["offload_chain", "schedule_of"]


def offload_chain(problem: Problem, choices: Sequence[Sequence[Choice]]) -> OffloadChain:
    """Map units to stages; times in seconds, sizes in bytes.

    The latency of a copy counts as the bytes that would pass in it.
    Beside what `rotor_chain` rounds: memory is free as it leaves, an
    option's recomputation has the unit's whole saved set at hand, and tensors that a unit and the
    one before it both save go with the move of either. So a plan is replayed in the simulator
    before anyone trusts it.

    Args:
        problem: the problem.
        choices: what every unit can do by itself, keep first; the others become the options of
            its stage, in the same order.  # [num_units][num_choices]
    """
    chain, costs, hardware = problem.chain, problem.cost, problem.hardware
    moves = [hardware.can_offload and not unit.fixed for unit in chain.units]
    return OffloadChain(
        chain=rotor_chain(problem),
        options=[
            [_stage_option(chain, unit, choice) for choice in menu[1:]]
            for unit, menu in enumerate(choices)
        ],
        moved_input=[
            _copied_bytes(chain, chain.private_inputs(i, i + 1)) if move else 0
            for i, move in enumerate(moves)
        ],
        out_time=1 / costs.d2h_bytes_per_s,
        in_time=1 / costs.h2d_bytes_per_s,
        overlaps=hardware.copies_overlap,
        first_time=[unit.forward_s for unit in chain.units],
    )


def _stage_option(chain: Chain, unit: int, choice: Choice) -> StageOption:
    """What the choice costs; the part of its output that it keeps is the next stage's input."""
    price = price_option(chain, unit, choice.option)
    if choice.offload_checkpoint:
        moved = chain.private_inputs(unit, unit + 1)
        held_bytes = price.held_bytes - sum(map(chain.num_bytes, moved))
        return StageOption(price.time_s, held_bytes, _copied_bytes(chain, moved))
    actions = storage_actions(chain, unit, choice.option)
    moved = frozenset(s for s, action in actions.items() if action is Action.OFFLOAD)
    read_next = {s for other in chain.units[unit + 1 : unit + 2] for s in other.inputs}
    output = read_next & set(chain.units[unit].created)
    shared = sum(chain.num_bytes(s) for s in output if actions.get(s) is Action.KEEP)
    return StageOption(price.time_s, price.held_bytes - shared, _copied_bytes(chain, moved))


def _copied_bytes(chain: Chain, storages: Collection[int]) -> float:
    """Bytes of ``storages``, and those that would pass in the latency of their copies."""
    costs = chain.costs
    rate_bytes_per_s = min(costs.d2h_bytes_per_s, costs.h2d_bytes_per_s)
    waiting_bytes = len(storages) * costs.copy_latency_s * rate_bytes_per_s
    return sum(map(chain.num_bytes, storages)) + waiting_bytes


def schedule_of(space: Space, blocks: Iterable[Block], window: int, distance: int) -> Schedule:
    """The schedule that a plan of the chain stands for.

    Segments become groups, cut around units that cannot be recomputed.

    Args:
        space: of the problem; its choices are those that the chain was made from.
        blocks: the plan.
        window: offload window.
        distance: prefetch distance.
    """
    options = list(space.keep_all.memory.options)
    spans: list[Span] = []
    for block in blocks:
        if isinstance(block.group, Segment):
            spans.append(Span(block.group.start, block.group.end, offload=block.way > 0))
            spans += _inner_spans(block.group.children)
        elif block.way:
            choice = space.choices[block.group][block.way]
            options[block.group] = choice.option
            if choice.offload_checkpoint:
                spans.append(Span(block.group, block.group + 1, offload=True))
    return space.build(options, without_units(spans, space.fixed), window, distance)


def _inner_spans(groups: Iterable[Group]) -> Iterator[Span]:
    for group in groups:
        if isinstance(group, Segment):
            yield Span(group.start, group.end)
            yield from _inner_spans(group.children)
