from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.agents.heuristics.spans import (
    Span,
    add_span,
    covered_units,
    flatten,
    nest,
    without_units,
)
from remora.schedule.schedule import Action, Group

pairs = st.tuples(st.integers(0, 11), st.integers(1, 6), st.booleans())
drawn = st.lists(pairs, max_size=12)


def family(draws: list[tuple[int, int, bool]]) -> tuple[Span, ...]:
    spans: tuple[Span, ...] = ()
    for start, length, offload in draws:
        spans = add_span(spans, Span(start, start + length, offload))
    return spans


@given(drawn)
def test_added_spans_never_cross(draws: list[tuple[int, int, bool]]) -> None:
    spans = family(draws)
    assert not any(a.crosses(b) for a in spans for b in spans)
    assert len({(s.start, s.end) for s in spans}) == len(spans)
    if draws:
        start, length, offload = draws[-1]
        assert Span(start, start + length, offload) in spans


@given(drawn)
def test_a_tree_holds_what_the_list_holds(draws: list[tuple[int, int, bool]]) -> None:
    spans = family(draws)
    groups = nest(spans)
    assert {(s.start, s.end) for s in flatten(groups)} == {(s.start, s.end) for s in spans}
    assert nest(flatten(groups)) == groups
    assert covered_units(flatten(groups)) == covered_units(spans)
    for top in groups:
        assert all(g.checkpoint is Action.KEEP for child in top.children for g in child.walk())


@given(drawn, st.sets(st.integers(0, 16)))
def test_cut_spans_hold_everything_but_the_excluded(
    draws: list[tuple[int, int, bool]], excluded: set[int]
) -> None:
    spans = family(draws)
    pieces = without_units(spans, frozenset(excluded))
    assert covered_units(pieces) == covered_units(spans) - excluded
    assert not any(a.crosses(b) for a in pieces for b in pieces)


def test_nesting_of_a_small_case() -> None:
    spans = [Span(4, 6), Span(0, 8, offload=True), Span(5, 6, offload=True), Span(9, 10)]
    inner = Group(4, 6, children=(Group(5, 6),))
    assert nest(spans) == (Group(0, 8, Action.OFFLOAD, (inner,)), Group(9, 10))
