from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.report.curves import fullest_ranks, kinds_held, thinned, top_of_scale, whole_step
from remora.schedule.program import MemoryKind
from remora.schedule.schedule import PipelineKind
from remora.simulator.timeline import MemorySample
from tests.report.runs import GIB, pipeline_run

SAVED, WEIGHTS = MemoryKind.SAVED, MemoryKind.WEIGHTS


def sample(time_s: float, saved: int) -> MemorySample:
    return MemorySample(time_s, saved + 10, {WEIGHTS: 10, SAVED: saved}, 0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=200), st.integers(1, 12))
def test_thinning_keeps_peaks_and_what_is_carried_on(levels: list[int], slots: int) -> None:
    samples = [sample(float(time), level) for time, level in enumerate(levels)]
    step_time_s = float(len(levels))
    kept = thinned(samples, step_time_s, slots)
    assert len(kept) <= 2 * (slots + 1)
    assert max(s.level_bytes for s in kept) == max(s.level_bytes for s in samples)
    for slot in range(slots):
        start, end = slot * step_time_s / slots, (slot + 1) * step_time_s / slots
        inside = [s for s in samples if start <= s.time_s < end]
        shown = [s for s in kept if start <= s.time_s < end]
        if inside:
            assert max(s.level_bytes for s in shown) == max(s.level_bytes for s in inside)
            assert shown[-1] == inside[-1]


def test_the_curve_spans_the_step_from_what_always_stays_to_what_is_left() -> None:
    samples = [sample(2.0, 7), sample(3.0, 4)]
    curve = whole_step(samples, 5.0, 100)
    assert [(s.time_s, s.level_bytes) for s in curve] == [(0, 14), (2, 17), (3, 14), (5, 14)]
    assert curve[0].by_kind == {WEIGHTS: 10, SAVED: 4}
    assert whole_step([], 5.0, 100) == []


def test_kinds_without_bytes_are_left_out() -> None:
    assert kinds_held([sample(0.0, 0)]) == [WEIGHTS]
    assert kinds_held([sample(0.0, 1)]) == [WEIGHTS, SAVED]


def test_the_fullest_ranks_come_in_order_of_rank() -> None:
    run = pipeline_run(PipelineKind.ONE_F_ONE_B, ranks=4, micro_batches=4)
    assert run.peak_bytes[0] > run.peak_bytes[3]
    assert fullest_ranks(run, 2) == [0, 1]


def test_a_budget_far_above_the_peak_does_not_flatten_the_curve() -> None:
    assert top_of_scale(2 * GIB, 3 * GIB) == (1.08 * 3 * GIB, True)
    assert top_of_scale(2 * GIB, 24 * GIB) == (1.08 * 2 * GIB, False)
    assert top_of_scale(2 * GIB, GIB) == (1.08 * 2 * GIB, True)
