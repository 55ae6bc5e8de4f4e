"""Replayed with given durations, orders take and hold what the closed forms of their papers say."""

from __future__ import annotations

from typing import Any

import pytest

from remora.schedule.orders import pipeline_order
from remora.schedule.schedule import PipelineKind
from tests.schedule.orders_replay import least_makespan, replay, timed

GPIPE, ONE_F_ONE_B, INTERLEAVED = (
    PipelineKind.GPIPE,
    PipelineKind.ONE_F_ONE_B,
    PipelineKind.INTERLEAVED,
)
ZERO_BUBBLE, DUALPIPE_V, CHIMERA = (
    PipelineKind.ZERO_BUBBLE,
    PipelineKind.DUALPIPE_V,
    PipelineKind.CHIMERA,
)

# Cases of the closed forms: a few numbers of micro-batches here, all of 1..64 in the slow tests.
FEW = (1, 2, 3, 4, 6, 8, 12, 15, 16, 17, 24, 31, 32, 48, 63, 64)
SIZES = [pytest.param(FEW, id="few"), pytest.param(range(1, 65), id="all", marks=pytest.mark.slow)]
RANKS = pytest.mark.parametrize("p", range(2, 17))
MICRO_BATCHES = pytest.mark.parametrize("sizes", SIZES)


@RANKS
@MICRO_BATCHES
def test_gpipe_fills_and_drains_once_and_holds_all(p: int, sizes: Any) -> None:
    for m in sizes:
        seen = replay(pipeline_order(GPIPE, p, m, 1), timed(2, 3))
        assert seen.makespan == (m + p - 1) * 5
        assert seen.held == [m] * p


@RANKS
@MICRO_BATCHES
def test_1f1b_takes_as_long_and_holds_no_more_than_the_stages_behind(p: int, sizes: Any) -> None:
    for m in (m for m in sizes if m >= p):
        seen = replay(pipeline_order(ONE_F_ONE_B, p, m, 1), timed(2, 3))
        assert seen.makespan == (m + p - 1) * 5
        assert seen.held == [min(m, p - stage) for stage in range(p)]


@RANKS
@pytest.mark.parametrize("v", [2, 3, 4])
@pytest.mark.parametrize(
    "rounds",
    [pytest.param((1, 2, 3), id="few"), pytest.param((4, 6, 9), id="many", marks=pytest.mark.slow)],
)
def test_interleaving_divides_the_bubble_and_holds_more(p: int, v: int, rounds: Any) -> None:
    for m in (p * count for count in rounds):
        seen = replay(pipeline_order(INTERLEAVED, p, m, v), timed(2, 3))
        assert seen.makespan == m * 5 * v + (p - 1) * 5  # a chunk takes 5, so a rank 5v
        assert seen.held == [min(m * v, (v - 1) * p + 2 * (p - 1 - r) + 1) for r in range(p)]
        assert sum(seen.held) > v * sum(min(m, p - stage) for stage in range(p))


@RANKS
@MICRO_BATCHES
@pytest.mark.parametrize(
    ("kind", "fewest_short_of_2p", "held_above_2p"), [(ZERO_BUBBLE, 1, 0), (DUALPIPE_V, 0, 1)]
)
def test_v_kinds_wait_only_for_half_a_forward_per_rank(
    kind: PipelineKind, fewest_short_of_2p: int, held_above_2p: int, p: int, sizes: Any
) -> None:
    for m in (m for m in sizes if m >= 2 * p - fewest_short_of_2p):
        seen = replay(pipeline_order(kind, p, m, 2), timed(forward=1, backward=2, weights=1))
        # Two chunks per rank: F = 2 and B = 4 per micro-batch.
        assert seen.makespan == m * (2 + 4) + (p - 1) * 2 // 2
        assert max(seen.held) == 2 * p + held_above_2p


@pytest.mark.parametrize("p", range(2, 17, 2))
@pytest.mark.parametrize("blocks", [1, 2, 3, 4])
def test_chimera_meets_its_bound_and_holds_at_most_a_micro_batch_per_rank(
    p: int, blocks: int
) -> None:
    m = blocks * p
    order = pipeline_order(CHIMERA, p, m, 1)
    seen = replay(order, timed(1, 1), copies=2)
    assert seen.makespan == 2 * m + p - 2
    assert p // 2 + 1 <= min(seen.held)
    assert max(seen.held) == p
    for backward in (2, 3):
        slower = replay(order, timed(1, backward), copies=2)
        assert slower.makespan == m * (1 + backward) + (p - 2) * backward


@pytest.mark.parametrize("p", [2, 4])
def test_no_order_of_two_mirrored_pipelines_is_faster_than_chimera(p: int) -> None:
    order = pipeline_order(CHIMERA, p, p, 1)
    assert replay(order, timed(1, 1), copies=2).makespan == least_makespan(p, per_direction=p // 2)
