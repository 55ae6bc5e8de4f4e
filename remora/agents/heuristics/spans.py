"""Recompute groups as a flat list of ranges, which is easier to edit than a tree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from remora.schedule.schedule import Action, Group

__all__ = ["Span", "add_span", "covered_units", "flatten", "nest", "split_at", "without_units"]


@dataclass(frozen=True, slots=True)
class Span:
    """Units ``start`` to ``end - 1`` as one group; ``offload`` moves its checkpoint to the host."""

    start: int
    end: int
    offload: bool = False

    def crosses(self, other: Span) -> bool:
        """Whether the two overlap without one lying inside the other."""
        first, second = sorted((self, other), key=lambda span: (span.start, -span.end))
        return first.start < second.start < first.end < second.end


def flatten(groups: Iterable[Group]) -> tuple[Span, ...]:
    """All groups of a tree, outer before inner."""
    return tuple(
        Span(group.start, group.end, group.checkpoint is Action.OFFLOAD)
        for top in groups
        for group in top.walk()
    )


def nest(spans: Iterable[Span]) -> tuple[Group, ...]:
    """The tree of ``spans``, no two of which cross; equal ranges count once.

    Only outermost groups can offload their checkpoint, so inner ones keep theirs.
    """
    ordered = sorted({(span.start, -span.end): span for span in spans}.items())
    return _nest([span for _, span in ordered], outermost=True)


def _nest(spans: list[Span], outermost: bool) -> tuple[Group, ...]:
    groups: list[Group] = []
    position = 0
    while position < len(spans):
        span = spans[position]
        inner = position + 1
        while inner < len(spans) and spans[inner].start < span.end:
            inner += 1
        groups.append(
            Group(
                span.start,
                span.end,
                Action.OFFLOAD if span.offload and outermost else Action.KEEP,
                _nest(spans[position + 1 : inner], outermost=False),
            )
        )
        position = inner
    return tuple(groups)


def add_span(spans: Iterable[Span], new: Span) -> tuple[Span, ...]:
    """``spans`` with ``new``, without those that cross it or cover the same range."""
    kept = [
        span
        for span in spans
        if not span.crosses(new) and (span.start, span.end) != (new.start, new.end)
    ]
    return (*kept, new)


def covered_units(spans: Iterable[Span]) -> frozenset[int]:
    """Units that lie in at least one span."""
    return frozenset(unit for span in spans for unit in range(span.start, span.end))


def split_at(spans: Iterable[Span], cuts: Sequence[int]) -> list[Span]:
    """``spans`` cut in pieces that lie in one stage each; equal pieces count once."""
    if not cuts:
        return list(spans)
    pieces: dict[Span, None] = {}
    for span in spans:
        borders = [span.start, *(c for c in cuts if span.start < c < span.end), span.end]
        pieces.update((replace(span, start=a, end=b), None) for a, b in pairwise(borders))
    return list(pieces)


def without_units(spans: Iterable[Span], excluded: frozenset[int]) -> tuple[Span, ...]:
    """``spans`` cut around ``excluded`` units; pieces keep what happens to the checkpoint."""
    pieces = []
    for span in spans:
        start = span.start
        for unit in range(span.start, span.end + 1):
            if unit == span.end or unit in excluded:
                if unit > start:
                    pieces.append(replace(span, start=start, end=unit))
                start = unit + 1
    return tuple(pieces)
