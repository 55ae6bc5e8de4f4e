"""An independent reading of the rules of the chain problem with host copies.

`replay` runs one plan with a clock for compute and one for the copies, `cheapest` searches all
plans of the class in true sizes. Neither knows the tables of the solver. Memory slots have size 1;
``part`` is the size of the parts that copies are made of.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remora.agents.exact.chains.offload_chain import OffloadChain
from remora.agents.exact.chains.offload_table import Block
from remora.agents.exact.chains.rotor import Chain, Group, Segment

INFINITE = float("inf")


@dataclass(frozen=True)
class Way:
    """What a block leaves if it is saved this way: size that stays, parts that move, more time."""

    stays: float
    parts: int = 0
    extra_time: float = 0.0


def ways_of(problem: OffloadChain, start: int, segment: bool, part: float) -> list[Way]:
    """Every way to leave a block that begins at ``start``; the last stage moves nothing."""
    chain = problem.chain
    given = chain.boundary_size[start] if start else 0.0
    if segment:
        moved = problem.moved_input[start] if start else 0.0
        return [Way(given), Way(max(0.0, given - moved), math.ceil(moved / part))]
    kept = Way(given + chain.saved_size[start] - chain.boundary_size[start + 1])
    return [
        kept,
        *(
            Way(option.held_size, math.ceil(option.moved_size / part), option.extra_time)
            for option in problem.options[start]
        ),
    ]


def way_of(problem: OffloadChain, block: Block, part: float) -> Way:
    segment = isinstance(block.group, Segment)
    return ways_of(problem, span_of(block.group)[0], segment, part)[block.way]


def span_of(group: Group) -> tuple[int, int]:
    return (group.start, group.end) if isinstance(group, Segment) else (group, group + 1)


def forward_peak(chain: Chain, group: Group) -> float:
    """Most memory beside the block's input and what earlier blocks hold."""
    bound, workspace = chain.boundary_size, chain.forward_workspace
    start, end = span_of(group)
    if not isinstance(group, Segment):
        return chain.saved_size[start] + workspace[start]
    return max(
        (bound[k] if k > start else 0.0) + bound[k + 1] + workspace[k] for k in range(start, end)
    )


def backward(chain: Chain, group: Group) -> tuple[float, float]:
    """(time, most memory) of the backward of a block, what `forward_peak` leaves out aside."""
    start, end = span_of(group)
    if not isinstance(group, Segment):
        gradients = chain.boundary_size[start] + chain.boundary_size[start + 1]
        peak = chain.saved_size[start] + gradients + chain.backward_workspace[start]
        return chain.backward_time[start], peak
    assert span_of(group.children[0])[0] == start
    assert span_of(group.children[-1])[1] == end
    time, peak, held = 0.0, 0.0, 0.0
    for child in group.children:
        first, last = span_of(child)
        time += sum(chain.forward_time[first:last])
        peak = max(peak, held + chain.boundary_size[end] + forward_peak(chain, child))
        again_s, again_peak = backward(chain, child)
        time += again_s
        peak = max(peak, held + again_peak)
        segment = isinstance(child, Segment)
        held += chain.boundary_size[last] if segment else chain.saved_size[first]
    return time, peak


def replay(problem: OffloadChain, blocks: Sequence[Block], part: float) -> tuple[float, float]:
    """(makespan, peak) of a plan whose copies run as early as they can.

    Compute goes on after each block as soon as no more parts are on their way than the plan says,
    and in the backward, seen from its end, likewise; so the makespan is at most the plan's.
    """
    chain = problem.chain
    assert [s for b in blocks for s in range(*span_of(b.group))] == list(range(chain.num_stages))
    forward_s = [sum(problem.first_time[slice(*span_of(b.group))]) for b in blocks]
    backward_s = [backward(chain, b.group)[0] + way_of(problem, b, part).extra_time for b in blocks]
    if not problem.overlaps:
        assert not any(block.copied or block.waited for block in blocks)
    parts = [way_of(problem, block, part).parts for block in blocks]
    time = _sweep(problem, blocks, forward_s, parts, problem.out_time * part)
    time += _sweep(problem, blocks, backward_s, parts, problem.in_time * part)
    return time, _peak(problem, blocks, part)


def _sweep(
    problem: OffloadChain,
    blocks: Sequence[Block],
    work: Sequence[float],
    parts: Sequence[int],
    part_s: float,
) -> float:
    compute = engine = 0.0
    done: list[float] = []
    planned = 0
    for block, seconds, added in zip(blocks, work, parts, strict=True):
        compute += seconds
        assert block.copied <= planned
        planned -= block.copied + block.waited
        planned += added if problem.overlaps else 0
        assert planned >= 0
        for _ in range(added):
            engine = max(engine, compute) + part_s
            done.append(engine)
        if len(done) > planned:
            compute = max(compute, done[len(done) - planned - 1])
    assert planned == 0
    return compute


def _peak(problem: OffloadChain, blocks: Sequence[Block], part: float) -> float:
    chain = problem.chain
    peak = held = chain.boundary_size[0]
    parts = 0
    for block in blocks:
        start = span_of(block.group)[0]
        given = chain.boundary_size[start] if start else 0.0
        need = max(forward_peak(chain, block.group), backward(chain, block.group)[1])
        peak = max(peak, held + given + math.ceil(parts * part) + need)
        way = way_of(problem, block, part)
        held += way.stays
        if problem.overlaps:
            parts += way.parts - block.copied - block.waited
    return peak


def groups_of(start: int, end: int, whole: bool) -> Iterator[tuple[Group, ...]]:
    """Every way to cut stages into groups, nested; ``whole`` allows one segment of all of them."""
    if start == end:
        yield ()
        return
    for rest in groups_of(start + 1, end, True):
        yield (start, *rest)
    for middle in range(start + 1, end + 1):
        if middle == end and not whole:
            continue
        for children in groups_of(start, middle, False):
            for rest in groups_of(middle, end, True):
                yield (Segment(start, middle, children), *rest)


def cheapest(
    problem: OffloadChain, budget: float, part: float, most_parts: int | None = None
) -> float:
    """Least makespan over every plan of the class; infinite where none fits.

    ``most_parts`` may be on their way at once.
    """
    return _Search(problem, budget, part, most_parts).rest(0, problem.chain.boundary_size[0], 0)


class _Search:
    """All plans from a stage on, given what is held and how many parts are on their way."""

    def __init__(
        self, problem: OffloadChain, budget: float, part: float, most_parts: int | None
    ) -> None:
        self.problem, self.budget, self.part = problem, budget, part
        self.most_parts = INFINITE if most_parts is None else most_parts
        self.part_out, self.part_in = problem.out_time * part, problem.in_time * part
        self.rest = functools.cache(self._rest)
        self.backwards = functools.cache(self._backwards)

    def _rest(self, start: int, held: float, parts: int) -> float:
        stages = self.problem.chain.num_stages
        if start == stages:
            return parts * (self.part_out + self.part_in)
        times = [self._block(start, start + 1, False, held, parts)]
        times += [self._block(start, end, True, held, parts) for end in range(start + 1, stages)]
        return min(times)

    def _backwards(self, start: int, end: int, segment: bool) -> list[tuple[float, float]]:
        if not segment:
            return [backward(self.problem.chain, start)]
        inner = groups_of(start, end, False)
        return [backward(self.problem.chain, Segment(start, end, groups)) for groups in inner]

    def _block(self, start: int, end: int, segment: bool, held: float, parts: int) -> float:
        chain = self.problem.chain
        free = self.budget - held - (chain.boundary_size[start] if start else 0.0)
        free -= math.ceil(parts * self.part)
        fitting = [time for time, peak in self.backwards(start, end, segment) if peak <= free]
        group: Group = Segment(start, end, (start,)) if segment else start
        if not fitting or forward_peak(chain, group) > free:
            return INFINITE
        forward_s, least = sum(self.problem.first_time[start:end]), INFINITE
        for way in ways_of(self.problem, start, segment, self.part):
            if way.parts == 0 or end < chain.num_stages:
                back_s = min(fitting) + way.extra_time
                least = min(least, self._leave(end, held, parts, way, forward_s, back_s))
        return least

    def _leave(
        self, end: int, held: float, parts: int, way: Way, forward_s: float, back_s: float
    ) -> float:
        part_s = self.part_out + self.part_in
        if not self.problem.overlaps:
            wait_s = way.parts * part_s
            return forward_s + back_s + wait_s + self.rest(end, held + way.stays, 0)
        least = INFINITE
        for copied in range(parts + 1):
            time = max(forward_s, copied * self.part_out) + max(back_s, copied * self.part_in)
            most = parts - copied + way.parts
            if most > self.most_parts:
                continue
            for left in range(most + 1):
                wait_s = (most - left) * part_s
                least = min(least, time + wait_s + self.rest(end, held + way.stays, left))
        return least
