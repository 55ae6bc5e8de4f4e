"""Pipelines of equal stages meet the closed forms of their papers, in time and in memory.

Letters: p ranks, m micro-batches, v chunks per rank; F and B seconds of a rank's forward and
backward of one micro-batch, W the part of B that makes gradients of weights.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.errors import InvalidInputError
from remora.schedule.chain import Chain
from remora.schedule.orders import allowed_chunks, model_copies, pipeline_order
from remora.schedule.program import MemoryKind
from remora.schedule.schedule import PipelineKind
from remora.simulator.simulate import simulate
from remora.simulator.timeline import Timeline
from tests.pipelines import equal_cuts, equal_graph, equal_problem, equal_schedule
from tests.problems import table
from tests.schedule.orders_replay import replay, timed

GPIPE, ONE_F_ONE_B = PipelineKind.GPIPE, PipelineKind.ONE_F_ONE_B
INTERLEAVED, ZERO_BUBBLE = PipelineKind.INTERLEAVED, PipelineKind.ZERO_BUBBLE
DUALPIPE_V, CHIMERA = PipelineKind.DUALPIPE_V, PipelineKind.CHIMERA

RANKS = pytest.mark.parametrize("p", range(2, 17))
EVEN_RANKS = pytest.mark.parametrize("p", range(2, 17, 2))


def sizes(few: Any, every: Any = range(1, 65)) -> Any:
    """A few numbers of micro-batches here, given p; all of them in the slow tests."""
    return pytest.mark.parametrize(
        "counts",
        [
            pytest.param(few, id="few"),
            pytest.param(lambda p: every, id="all", marks=pytest.mark.slow),
        ],
    )


def run_equal(
    kind: PipelineKind, p: int, m: int, v: int = 1, chunk_times: tuple[int, int, int] = (1, 1, 1)
) -> Timeline:
    """Simulate equal stages.

    Args:
        kind: of the pipeline.
        p: ranks.
        m: micro-batches.
        v: chunks.
        chunk_times: seconds of a chunk: forward, gradients of inputs, gradients of weights.
    """
    forward_s, input_s, weight_s = (float(v * seconds) for seconds in chunk_times)
    problem = equal_problem(p, m, v, forward_s, input_s, weight_s)
    return simulate(problem, equal_schedule(problem.graph, kind, p, m, v))


def held_chunks(timeline: Timeline, num_stages: int) -> list[int]:
    """Most chunks that every rank holds at once, from the bytes of its saved activations."""
    found = []
    for samples in timeline.memory:
        held = max(sample.by_kind.get(MemoryKind.SAVED, 0) for sample in samples)
        assert held % chunk_bytes(num_stages) == 0
        found.append(held // chunk_bytes(num_stages))
    return found


@functools.lru_cache(maxsize=64)
def chunk_bytes(num_stages: int) -> int:
    """What the units of one stage make and save: the same for all stages."""
    graph = equal_graph(num_stages)
    chain = Chain(graph, table(graph))
    borders = [0, *equal_cuts(num_stages), len(graph.units)]
    spans = itertools.pairwise(borders)
    (size,) = {sum(u.own_saved_bytes for u in chain.units[a:b]) for a, b in spans}
    return size


@RANKS
@sizes(lambda p: sorted({1, p - 1, p, p + 3}))
def test_gpipe_fills_and_drains_once_and_holds_all(p: int, counts: Any) -> None:
    for m in counts(p):
        seen = run_equal(GPIPE, p, m, chunk_times=(2, 1, 2))
        assert seen.step_time_s == (m + p - 1) * (2 + 3)
        assert held_chunks(seen, p) == [m] * p


@RANKS
@sizes(lambda p: (p, p + 3))
def test_1f1b_takes_as_long_and_holds_no_more_than_the_stages_behind(p: int, counts: Any) -> None:
    for m in (m for m in counts(p) if m >= p):
        seen = run_equal(ONE_F_ONE_B, p, m, chunk_times=(2, 1, 2))
        assert seen.step_time_s == (m + p - 1) * (2 + 3)
        assert held_chunks(seen, p) == [min(m, p - s) for s in range(p)]


@RANKS
@pytest.mark.parametrize("v", [2, pytest.param(3, marks=pytest.mark.slow)])
@sizes(lambda p: (p, 2 * p) if p < 8 else (p,))
def test_interleaving_divides_the_bubble_and_holds_more_than_1f1b(
    p: int, v: int, counts: Any
) -> None:
    for m in (m for m in counts(p) if m % p == 0):
        seen = run_equal(INTERLEAVED, p, m, v, chunk_times=(2, 1, 2))
        of_rank = v * (2 + 3)
        assert seen.step_time_s == m * of_rank + (p - 1) * of_rank / v
        held = held_chunks(seen, p * v)
        assert held == [min(m * v, (v - 1) * p + 2 * (p - 1 - r) + 1) for r in range(p)]
        assert sum(held) > v * sum(min(m, p - s) for s in range(p))


@RANKS
@sizes(lambda p: (2 * p - 1, 2 * p + 1) if p < 8 else (2 * p - 1,))
def test_zero_bubble_waits_half_a_forward_per_rank(p: int, counts: Any) -> None:
    for m in (m for m in counts(p) if m >= 2 * p - 1):
        seen = run_equal(ZERO_BUBBLE, p, m, 2)
        # Two chunks of F = B - W = W = 1: a rank has F = 2 and B = 4.
        assert seen.step_time_s == m * (2 + 4) + (p - 1) * 2 / 2
        assert max(held_chunks(seen, 2 * p)) <= 2 * p


@RANKS
@sizes(lambda p: (2 * p, 2 * p + 1) if p < 8 else (2 * p,))
def test_dualpipe_v_takes_as_long_and_holds_one_chunk_more(p: int, counts: Any) -> None:
    for m in (m for m in counts(p) if m >= 2 * p):
        seen = run_equal(DUALPIPE_V, p, m, 2)
        assert seen.step_time_s == m * (2 + 4) + (p - 1) * 2 / 2
        assert max(held_chunks(seen, 2 * p)) <= 2 * p + 1


@EVEN_RANKS
@pytest.mark.parametrize("blocks", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_chimera_fills_from_both_ends(p: int, blocks: int) -> None:
    m = blocks * p
    # F = B = 1; the halves of B cannot be split here.
    seen = run_equal(CHIMERA, p, m, chunk_times=(2, 1, 1))
    assert seen.step_time_s == 2 * (2 * m + p - 2)
    held = held_chunks(seen, p)
    assert all(p // 2 + 1 <= count <= p for count in held)


@EVEN_RANKS
def test_chimera_keeps_two_copies_of_the_weights(p: int) -> None:
    graph = equal_graph(p)
    seen = run_equal(CHIMERA, p, p)
    weights = [samples[0].by_kind[MemoryKind.WEIGHTS] for samples in seen.memory]
    assert sum(weights) == 2 * graph.parameter_bytes
    assert sum(s[0].by_kind[MemoryKind.WEIGHTS] for s in run_equal(GPIPE, p, p).memory) == (
        graph.parameter_bytes
    )


@st.composite
def any_pipeline(draw: st.DrawFn) -> tuple[PipelineKind, int, int, int]:
    """Any kind with any numbers, allowed or not."""
    kind = draw(st.sampled_from([kind for kind in PipelineKind if kind is not PipelineKind.NONE]))
    chunks = allowed_chunks(kind)
    v = chunks.start + (draw(st.integers(0, 1)) if len(chunks) > 1 else 0)
    return kind, draw(st.integers(2, 5)), draw(st.integers(1, 11)), v


@given(case=any_pipeline(), times=st.tuples(*[st.integers(1, 4)] * 3))
@settings(max_examples=100)
def test_every_pipeline_takes_as_long_as_a_replay_of_its_order_or_is_refused(
    case: tuple[PipelineKind, int, int, int], times: tuple[int, int, int]
) -> None:
    kind, p, m, v = case
    forward, inputs, weights = times
    try:
        order = pipeline_order(kind, p, m, v)
    except InvalidInputError:
        with pytest.raises(InvalidInputError, match="allowed"):
            run_equal(kind, p, m, v, chunk_times=times)
        return
    seen = run_equal(kind, p, m, v, chunk_times=times)
    expected = replay(order, timed(forward, inputs + weights, weights), model_copies(kind))
    assert seen.step_time_s == expected.makespan
    assert held_chunks(seen, p * v) == expected.held


@pytest.mark.parametrize(
    ("kind", "p", "m", "v", "message"),
    [
        (ONE_F_ONE_B, 4, 3, 1, "micro_batches is 3; allowed .*'1f1b' on 4 ranks: at least 4"),
        (INTERLEAVED, 3, 7, 2, "micro_batches is 7; allowed .* on 3 ranks: multiples of"),
        (DUALPIPE_V, 3, 5, 2, "micro_batches is 5; allowed .* on 3 ranks: at least 6"),
        (CHIMERA, 4, 6, 1, "micro_batches is 6; allowed .* on 4 ranks: multiples of 4"),
        (CHIMERA, 3, 6, 1, "the pipeline has 3 ranks; allowed .*'chimera': even numbers"),
    ],
)
def test_what_pytorch_or_the_paper_refuses_is_refused(
    kind: PipelineKind, p: int, m: int, v: int, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        run_equal(kind, p, m, v)
