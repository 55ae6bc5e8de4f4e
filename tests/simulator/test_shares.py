"""Shares of a step: cases computed by hand, and a count of whole seconds as a second opinion."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.schedule.program import Instruction, InstructionKind, Stream
from remora.simulator.shares import (
    COMMUNICATION_KINDS,
    COPY_KINDS,
    bubble_share,
    bubble_shares,
    busy_s_by_kind,
    communication_overlap_share,
    overlap_share,
)
from remora.simulator.timeline import TimedInstruction, Timeline

Row = tuple[InstructionKind, Stream, int, float, float]
FORWARD, OFFLOAD = InstructionKind.FORWARD, InstructionKind.OFFLOAD
COMPUTE, D2H, H2D = Stream.COMPUTE, Stream.D2H, Stream.H2D


def timeline_of(*rows: Row, num_ranks: int = 1) -> Timeline:
    """A run of instructions given as (kind, stream, rank, start, end)."""
    events = tuple(
        TimedInstruction(Instruction(kind, rank, stream, 0, 0, end - start), start, end)
        for kind, stream, rank, start, end in rows
    )
    return Timeline(
        step_time_s=max((end for *_, end in rows), default=0.0),
        peak_bytes=(0,) * num_ranks,
        host_peak_bytes=(0,) * num_ranks,
        peak_breakdown={},
        events=events,
        memory=((),) * num_ranks,
    )


def test_two_ranks_wait_for_each_other() -> None:
    timeline = timeline_of(
        (FORWARD, COMPUTE, 0, 0.0, 2.0),
        (FORWARD, COMPUTE, 1, 2.0, 5.0),
        (InstructionKind.BACKWARD, COMPUTE, 1, 5.0, 6.0),
        (InstructionKind.BACKWARD, COMPUTE, 0, 7.0, 8.0),
        (OFFLOAD, D2H, 0, 2.0, 7.0),
        num_ranks=2,
    )
    assert bubble_shares(timeline) == (5 / 8, 4 / 8)
    assert bubble_share(timeline) == 9 / 16


def test_a_rank_without_work_idles_and_a_step_without_time_has_no_bubble() -> None:
    timeline = timeline_of((FORWARD, COMPUTE, 0, 0.0, 3.0), num_ranks=2)
    assert bubble_shares(timeline) == (0.0, 1.0)
    assert bubble_shares(timeline_of(num_ranks=2)) == (0.0, 0.0)


def test_copies_hide_behind_the_compute_of_their_own_rank() -> None:
    timeline = timeline_of(
        (FORWARD, COMPUTE, 0, 0.0, 2.0),
        (FORWARD, COMPUTE, 0, 3.0, 4.0),
        (FORWARD, COMPUTE, 1, 0.0, 9.0),
        (OFFLOAD, D2H, 0, 1.0, 3.5),
        (InstructionKind.PREFETCH, H2D, 0, 3.0, 4.5),
        num_ranks=2,
    )
    # Of 2.5 s down, 1 + 0.5 lie beside compute; of 1.5 s up, 1.
    assert overlap_share(timeline) == pytest.approx(2.5 / 4)
    assert communication_overlap_share(timeline) is None


def test_a_copy_in_line_fills_the_stream_but_hides_behind_nothing() -> None:
    timeline = timeline_of((FORWARD, COMPUTE, 0, 0.0, 1.0), (OFFLOAD, COMPUTE, 0, 1.0, 2.0))
    assert bubble_share(timeline) == 0.0
    assert overlap_share(timeline) == 0.0


def test_messages_and_collectives_are_counted_apart_from_copies() -> None:
    timeline = timeline_of(
        (FORWARD, COMPUTE, 0, 0.0, 4.0),
        (InstructionKind.SEND, Stream.SEND, 0, 3.0, 5.0),
        (InstructionKind.RECEIVE, Stream.RECV, 1, 3.0, 5.0),
        (InstructionKind.REDUCE_GRADIENTS, Stream.COLLECTIVE, 0, 0.0, 4.0),
        (OFFLOAD, D2H, 0, 0.0, 1.0),
        num_ranks=2,
    )
    assert communication_overlap_share(timeline) == pytest.approx(5 / 8)
    assert overlap_share(timeline) == 1.0


def test_copies_that_take_no_time_have_no_share() -> None:
    assert overlap_share(timeline_of((OFFLOAD, D2H, 0, 1.0, 1.0))) is None


def test_instructions_that_overlap_on_a_stream_count_once_in_the_bubble() -> None:
    timeline = timeline_of(
        (FORWARD, COMPUTE, 0, 0.0, 3.0),
        (FORWARD, COMPUTE, 0, 1.0, 2.0),
        (FORWARD, COMPUTE, 0, 5.0, 6.0),
    )
    assert bubble_share(timeline) == pytest.approx(2 / 6)


def test_busy_seconds_by_kind_and_rank() -> None:
    timeline = timeline_of(
        (FORWARD, COMPUTE, 0, 0.0, 1.0),
        (FORWARD, COMPUTE, 1, 1.0, 3.0),
        (OFFLOAD, D2H, 1, 1.0, 1.5),
        num_ranks=2,
    )
    assert busy_s_by_kind(timeline) == {FORWARD: 3.0, OFFLOAD: 0.5}
    assert busy_s_by_kind(timeline, rank=0) == {FORWARD: 1.0}


KIND_ON_STREAM = st.sampled_from(
    [
        (FORWARD, COMPUTE),
        (OFFLOAD, COMPUTE),
        (OFFLOAD, D2H),
        (InstructionKind.LOAD_WEIGHTS, H2D),
        (InstructionKind.SEND, Stream.SEND),
        (InstructionKind.GATHER_WEIGHTS, Stream.COLLECTIVE),
    ]
)
ROWS = st.lists(
    st.tuples(KIND_ON_STREAM, st.integers(0, 1), st.integers(0, 30), st.integers(0, 6)),
    min_size=1,
    max_size=20,
).map(lambda rows: [(*where, rank, start, start + time) for where, rank, start, time in rows])


@given(ROWS)
def test_shares_equal_a_count_of_whole_seconds(rows: list[Row]) -> None:
    timeline = timeline_of(*rows, num_ranks=2)
    seconds = range(int(timeline.step_time_s))
    covered = {
        (rank, second)
        for _, stream, rank, start, end in rows
        for second in range(int(start), int(end))
        if stream is COMPUTE
    }
    idle = 1 - len(covered) / (2 * len(seconds)) if seconds else 0.0
    assert bubble_share(timeline) == pytest.approx(idle)
    for share, kinds in (
        (overlap_share(timeline), COPY_KINDS),
        (communication_overlap_share(timeline), COMMUNICATION_KINDS),
    ):
        assert share == pytest.approx(_counted_share(rows, kinds))


def _counted_share(rows: list[Row], kinds: frozenset[InstructionKind]) -> float | None:
    moving = COPY_KINDS | COMMUNICATION_KINDS
    computing = {
        (rank, second)
        for kind, stream, rank, start, end in rows
        for second in range(int(start), int(end))
        if stream is COMPUTE and kind not in moving
    }
    moved = [
        (rank, second)
        for kind, _, rank, start, end in rows
        for second in range(int(start), int(end))
        if kind in kinds
    ]
    return sum(second in computing for second in moved) / len(moved) if moved else None


@given(ROWS, st.floats(1e-6, 1e6))
def test_shares_stay_within_bounds_and_do_not_depend_on_the_clock(
    rows: list[Row], factor: float
) -> None:
    timeline = timeline_of(*rows, num_ranks=2)
    scaled = dataclasses.replace(
        timeline,
        step_time_s=timeline.step_time_s * factor,
        events=tuple(
            dataclasses.replace(e, start_s=e.start_s * factor, end_s=e.end_s * factor)
            for e in timeline.events
        ),
    )
    for share in (bubble_share, overlap_share, communication_overlap_share):
        value = share(scaled)
        assert value == pytest.approx(share(timeline), abs=1e-9)
        assert value is None or 0 <= value <= 1
