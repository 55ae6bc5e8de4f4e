"""Weights that several stages hold: what is exchanged, summed and counted, by hand."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import pytest
import torch

from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.lowering import lower
from remora.schedule.program import InstructionKind, MemoryKind
from remora.schedule.schedule import PipelineKind
from remora.simulator.timeline import Timeline
from tests.problems import BlockChain, table, zoo_graph
from tests.simulator.cut_models import EMBEDDING, HIDDEN, cut, plan_of, sent_bytes

GPIPE, ZERO_BUBBLE, CHIMERA = (
    PipelineKind.GPIPE,
    PipelineKind.ZERO_BUBBLE,
    PipelineKind.CHIMERA,
)


def reductions(timeline: Timeline) -> Mapping[int, list[float]]:
    """Seconds of every sum of gradients, by rank."""
    found: dict[int, list[float]] = {}
    for event in timeline.events:
        if event.instruction.kind is InstructionKind.REDUCE_GRADIENTS:
            found.setdefault(event.instruction.rank, []).append(event.instruction.duration_s)
    return found


def test_a_weight_tied_across_stages_is_exchanged_once_and_never_sent() -> None:
    timeline = cut(zoo_graph("gpt2_tiny"), GPIPE, (4, 8), micro_batches=3)
    assert sent_bytes(timeline) == [[HIDDEN], [HIDDEN, HIDDEN], [HIDDEN]]
    # Ring over two ranks: twice half of the bytes, on both.
    assert reductions(timeline) == {0: [EMBEDDING], 2: [EMBEDDING]}


def test_three_stages_that_share_a_weight_exchange_it_together() -> None:
    timeline = cut(zoo_graph("t5_tiny"), GPIPE, (4, 10), micro_batches=2)
    ring = pytest.approx(2 * EMBEDDING * 2 / 3)
    assert reductions(timeline) == {0: [ring], 1: [ring], 2: [ring]}
    begins = {
        e.start_s for e in timeline.events if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS
    }
    assert len(begins) == 1


def test_both_ends_hold_the_gradient_of_a_tied_weight() -> None:
    graph = zoo_graph("gpt2_tiny")
    timeline = cut(graph, GPIPE, (5,), micro_batches=2)
    gradients = [
        max(sample.by_kind.get(MemoryKind.GRADIENTS, 0) for sample in samples)
        for samples in timeline.memory
    ]
    assert sum(gradients) == graph.gradient_bytes + EMBEDDING


def test_stages_of_one_rank_that_share_a_weight_exchange_nothing_and_reduce_it_once() -> None:
    graph = zoo_graph("gpt2_tiny")
    # The V puts the first and the last stage on rank 0.
    assert reductions(cut(graph, ZERO_BUBBLE, (3, 6, 9), micro_batches=3, chunks=2)) == {}
    replicated = cut(graph, ZERO_BUBBLE, (3, 6, 9), micro_batches=3, chunks=2, replicas=2)
    # Over two replicas a ring passes all bytes once.
    total = sum(seconds for found in reductions(replicated).values() for seconds in found)
    assert total == pytest.approx(graph.gradient_bytes)


def test_the_two_copies_of_chimera_sum_all_their_gradients() -> None:
    graph = zoo_graph("gpt2_tiny")
    timeline = cut(graph, CHIMERA, (5,), micro_batches=2)
    # Both ranks hold everything: one exchange of all gradients.
    assert reductions(timeline) == {rank: [graph.gradient_bytes] for rank in (0, 1)}


def test_the_gradient_of_a_shared_weight_is_complete_with_the_lowest_unit_of_the_stage() -> None:
    # Units 6 and 14 share the embedding with unit 0, which is in the other stage.
    timeline = cut(zoo_graph("t5_tiny"), GPIPE, (6,), micro_batches=2, replicas=2)
    summed = {
        e.instruction.unit
        for e in timeline.events
        if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS and e.instruction.rank == 1
    }
    assert 6 in summed
    assert 14 not in summed  # the head has no other weights


@functools.lru_cache(maxsize=2)
def tied_blocks() -> ModelGraph:
    """Blocks 1 and 2 share a weight of 4096 bytes, and so do blocks 3 and 4."""
    model = BlockChain((64,) * 6)
    for first, second in ((1, 2), (3, 4)):
        model.blocks[second].up.weight = model.blocks[first].up.weight
    return trace(model, (torch.randn(8, 16),))


def test_ranks_of_overlapping_exchanges_start_each_of_them_together() -> None:
    timeline = cut(tied_blocks(), GPIPE, (2, 4), micro_batches=2)
    exchanges = [
        (e.instruction.rank, e.start_s - timeline.step_time_s)
        for e in timeline.events
        if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS
    ]
    # Rank 1 exchanges with rank 0, then with rank 2, which has to wait for that.
    step = table(tied_blocks()).optimizer_time_s
    begins = dict.fromkeys((0, 1), -2 * 4096.0), dict.fromkeys((1, 2), -4096.0)
    expected = sorted((r, at) for found in begins for r, at in found.items())
    assert [rank for rank, _ in sorted(exchanges)] == [rank for rank, _ in expected]
    found = [at for _, at in sorted(exchanges)]
    assert found == pytest.approx([at for _, at in expected], abs=step)


@pytest.mark.parametrize(("cuts", "copies"), [((4,), 1), ((2, 4), 0)])
def test_a_part_of_a_gradient_is_memory_of_its_own_only_where_it_is_added(
    cuts: tuple[int, ...], copies: int
) -> None:
    # In one stage the part of block 2 lives until block 1 adds to it; in two, it is the gradient.
    program = lower(*plan_of(tied_blocks(), GPIPE, cuts, micro_batches=1))
    parts = [b for b in program.buffers if b.num_bytes == 4096 and b.kind is MemoryKind.BOUNDARY]
    assert len(parts) == copies


def test_replicas_that_hold_shards_exchange_shards() -> None:
    whole = cut(zoo_graph("gpt2_tiny"), GPIPE, (5,), micro_batches=2, replicas=2)
    shard = cut(zoo_graph("gpt2_tiny"), GPIPE, (5,), micro_batches=2, replicas=2, zero_stage=2)
    for timeline, seconds in ((whole, EMBEDDING), (shard, EMBEDDING / 2)):
        exchanged = [
            e.instruction.duration_s
            for e in timeline.events
            if e.instruction.kind is InstructionKind.REDUCE_GRADIENTS and e.instruction.unit < 0
        ]
        assert exchanged == [seconds, seconds]
