"""Orders equal PyTorch's, are complete and free of deadlock, and refuse what has no order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.errors import InvalidInputError
from remora.schedule.orders import (
    allowed_chunks,
    check_pipeline,
    model_copies,
    pipeline_order,
    registered_kinds,
    splits_backward,
)
from remora.schedule.schedule import PipelineKind
from tests.schedule.orders_replay import B, F, I, Task, W, replay, tasks_by_rank, timed

NONE, GPIPE, ONE_F_ONE_B = PipelineKind.NONE, PipelineKind.GPIPE, PipelineKind.ONE_F_ONE_B
INTERLEAVED, ZERO_BUBBLE = PipelineKind.INTERLEAVED, PipelineKind.ZERO_BUBBLE
DUALPIPE_V, CHIMERA = PipelineKind.DUALPIPE_V, PipelineKind.CHIMERA

TORCH_NAMES = {
    GPIPE: "GPipe",
    ONE_F_ONE_B: "1F1B",
    INTERLEAVED: "Interleaved1F1B",
    ZERO_BUBBLE: "ZBVZeroBubble",
    DUALPIPE_V: "DualPipeV",
}
TORCH_TASKS = {"F": F, "B": B, "I": I, "W": W}


def torch_order(kind: PipelineKind, p: int, m: int, v: int) -> list[list[Task]] | None:
    """Tasks of every rank as PyTorch orders them, None where it refuses."""
    from torch.distributed.pipelining._schedule_visualizer import get_schedule_ops

    try:
        ranks = get_schedule_ops(TORCH_NAMES[kind], p, m, v)
    except (ValueError, AssertionError):
        return None
    return [
        [
            torch_task(kind, half, last=rank == p - 1)
            for action in actions
            if action is not None
            for half in (action.sub_actions or (action,))
            if half.computation_type.value in TORCH_TASKS
        ]
        for rank, actions in enumerate(ranks)
    ]


def torch_task(kind: PipelineKind, action: Any, *, last: bool) -> Task:
    task = TORCH_TASKS[action.computation_type.value]
    # Its listing of 1F1B counts the forwards of the last rank from 1.
    shift = int(kind == ONE_F_ONE_B and last and task == F)
    return task, action.stage_index, action.microbatch_index - shift


def our_order(kind: PipelineKind, p: int, m: int, v: int) -> list[list[Task]] | None:
    try:
        return tasks_by_rank(pipeline_order(kind, p, m, v))
    except InvalidInputError:
        return None


@pytest.mark.parametrize("p", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("kind", TORCH_NAMES)
def test_equals_the_order_of_torch_task_by_task(kind: PipelineKind, p: int) -> None:
    for m in sorted({*range(1, 2 * p + 3), 3 * p, 4 * p + 1}):
        for v in (1, 2, 3):
            assert our_order(kind, p, m, v) == torch_order(kind, p, m, v), (m, v)


@pytest.mark.slow
@pytest.mark.parametrize("p", [5, 8, 11, 16])
@pytest.mark.parametrize("kind", TORCH_NAMES)
def test_equals_the_order_of_torch_for_all_micro_batches(kind: PipelineKind, p: int) -> None:
    for m in range(1, 65):
        for v in (1, 2, 3, 4):
            assert our_order(kind, p, m, v) == torch_order(kind, p, m, v), (m, v)


def test_chimera_mirrors_its_two_copies() -> None:
    order = pipeline_order(CHIMERA, 4, 8, 1)
    assert order.stage_rank.tolist() == [0, 1, 2, 3, 3, 2, 1, 0]
    for rank in range(4):
        mirrored = [
            (kind, (stage + 4) % 8, (micro_batch + 4) % 8)
            for kind, stage, micro_batch in order.tasks_of(3 - rank)
        ]
        assert order.tasks_of(rank) == mirrored


def test_no_pipeline_is_gradient_accumulation() -> None:
    order = pipeline_order(NONE, 1, 3, 1)
    assert order.tasks_of(0) == [(kind, 0, m) for m in range(3) for kind in (F, B)]
    assert order.stage_rank.tolist() == [0]


@st.composite
def arguments(draw: st.DrawFn) -> tuple[PipelineKind, int, int, int]:
    """Any kind with ranks, micro-batches and chunks that it allows."""
    kind = draw(st.sampled_from(PipelineKind))
    p = 1 if kind == NONE else draw(st.integers(1, 10))
    extra = draw(st.integers(0, 20))
    blocks = draw(st.integers(1, 4))
    if kind == CHIMERA:
        p *= 2
    m = {
        ONE_F_ONE_B: p + extra,
        INTERLEAVED: 1 + extra % p if blocks == 1 else p * blocks,
        DUALPIPE_V: 2 * p + extra,
        CHIMERA: p * blocks,
    }.get(kind, 1 + extra)
    chunks = allowed_chunks(kind)
    return kind, p, m, chunks.start + (draw(st.integers(0, 2)) if len(chunks) > 1 else 0)


@given(arguments())
def test_every_task_runs_once_on_its_rank_and_nothing_waits_for_ever(
    case: tuple[PipelineKind, int, int, int],
) -> None:
    kind, p, m, v = case
    order, copies = pipeline_order(*case), model_copies(kind)
    assert (order.num_ranks, order.num_stages) == (p, p * v * copies)
    replay(order, timed(1, 2, 1), copies)  # fails if a rank waits for ever
    seen: dict[tuple[int, int], list[Any]] = {}
    for rank in range(p):
        for task, stage, micro_batch in order.tasks_of(rank):
            assert order.stage_rank[stage] == rank
            seen.setdefault((stage, micro_batch), []).append(task)
    whole, split = [F, B], [F, I, W]
    assert all(
        tasks == whole or (splits_backward(kind) and tasks == split) for tasks in seen.values()
    )
    per_copy = p * v
    for copy in range(copies):
        own = set(range(m)) if copies == 1 else set(range(copy * m // 2, (copy + 1) * m // 2))
        for stage in range(copy * per_copy, (copy + 1) * per_copy):
            assert {micro_batch for at, micro_batch in seen if at == stage} == own


@pytest.mark.parametrize("kind", [ZERO_BUBBLE, DUALPIPE_V])
def test_only_kinds_that_say_so_split_the_backward(kind: PipelineKind) -> None:
    split = [kind for kind in PipelineKind if splits_backward(kind)]
    assert split == [ZERO_BUBBLE, DUALPIPE_V]
    assert {I, W} <= set(pipeline_order(kind, 3, 8, 2).kind.tolist())


def test_every_kind_is_registered() -> None:
    assert set(registered_kinds()) == set(PipelineKind)


REFUSED = [
    ((NONE, 2, 1, 1), "the pipeline has 2 ranks; allowed with pipeline.kind='none': 1"),
    ((GPIPE, 0, 1, 1), "the pipeline has 0 ranks; allowed: integers from 1"),
    ((GPIPE, 2, 0, 1), "pipeline.micro_batches is 0; allowed: integers from 1"),
    ((GPIPE, 2, 4, 2), "pipeline.chunks is 2; allowed with pipeline.kind='gpipe': 1"),
    ((ONE_F_ONE_B, 4, 3, 1), "micro_batches is 3; allowed .*'1f1b' on 4 ranks: at least 4"),
    ((INTERLEAVED, 2, 4, 1), "chunks is 1; allowed .*'interleaved_1f1b': integers from 2"),
    ((INTERLEAVED, 3, 7, 2), "micro_batches is 7; allowed .* on 3 ranks: multiples of .* = 2"),
    ((ZERO_BUBBLE, 2, 4, 3), "chunks is 3; allowed with pipeline.kind='zero_bubble': 2"),
    ((DUALPIPE_V, 3, 5, 2), "micro_batches is 5; allowed .*'dualpipe_v' on 3 ranks: at least 6"),
    ((CHIMERA, 3, 6, 1), "the pipeline has 3 ranks; allowed .*'chimera': even numbers"),
    ((CHIMERA, 4, 6, 1), "micro_batches is 6; allowed .* on 4 ranks: multiples of 4"),
    ((CHIMERA, 4, 4, 2), "chunks is 2; allowed with pipeline.kind='chimera': 1"),
]


@pytest.mark.parametrize(("case", "message"), REFUSED)
def test_refusals_name_field_value_and_what_is_allowed(case: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        check_pipeline(*case)
    with pytest.raises(InvalidInputError, match=message):
        pipeline_order(*case)


def test_orders_are_shared_and_cannot_be_changed() -> None:
    order = pipeline_order(ONE_F_ONE_B, 4, 8, 1)
    assert pipeline_order(ONE_F_ONE_B, 4, 8, 1) is order
    for array in (order.kind, order.stage, order.micro_batch, order.start, order.stage_rank):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_large_orders_are_small_arrays() -> None:
    order = pipeline_order(GPIPE, 1024, 512, 1)
    assert order.num_tasks == 2 * 1024 * 512 == order.start[-1]
    assert (order.kind.dtype, order.stage.dtype) == (np.int8, np.int32)
    assert (order.micro_batch.dtype, order.start.dtype) == (np.int32, np.int64)
