from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.api.micro_batches import check_ranks, graphs_at, micro_batch_counts
from remora.api.planning import Request, traced_graphs
from remora.errors import InvalidInputError
from remora.zoo import Example
from tests.api.small_models import BATCH, make_stack
from tests.problems import toy_graph


@given(batch=st.integers(1, 2000), world_size=st.integers(1, 64))
def test_counts_divide_the_batch_and_serve_a_pipeline(batch: int, world_size: int) -> None:
    counts = micro_batch_counts(batch, world_size)
    assert list(counts) == sorted(set(counts))
    assert counts[0] == 1
    assert len(counts) <= 6
    assert all(batch % count == 0 for count in counts)
    if world_size == 1:
        assert counts == (1,)
        return
    allowed = [m for m in range(world_size, 4 * world_size + 1) if batch % m == 0]
    if allowed:
        # The count that ranges refer to, and the least that fills the pipeline.
        assert max(allowed) == counts[-1]
        assert min(allowed) in counts


def test_few_divisors_are_all_there() -> None:
    assert micro_batch_counts(32, 4) == (1, 2, 4, 8, 16)
    assert micro_batch_counts(7, 2) == (1, 7)
    assert micro_batch_counts(1, 8) == (1,)


def test_a_fixed_count_is_the_only_one_beside_the_whole_batch() -> None:
    assert micro_batch_counts(12, 4, 6) == (1, 6)
    assert micro_batch_counts(12, 1, 3) == (1, 3)
    assert micro_batch_counts(12, 4, 1) == (1,)
    with pytest.raises(InvalidInputError, match="micro_batches is 5; allowed: divisors of the"):
        micro_batch_counts(12, 4, 5)


def test_a_count_at_which_the_model_differs_is_left_out() -> None:
    def trace_at(samples: int) -> object:
        return toy_graph((8, 8) if samples > 1 else (8, 8, 8), batch=samples)

    assert sorted(graphs_at(trace_at, 4, 2)) == [1, 2]  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="micro_batches is 4; the model saves other"):
        graphs_at(trace_at, 4, 2, fixed=4)  # type: ignore[arg-type]


def test_the_example_batch_is_cut() -> None:
    model, inputs = make_stack()
    example = Example(model, inputs)
    graphs = traced_graphs(example, Request(world_size=2))
    assert sorted(graphs) == [1, 2, 4, 8]
    for count, graph in graphs.items():
        whole, part = graphs[1].units[1].saved, graph.units[1].saved
        assert [saved.name for saved in whole] == [saved.name for saved in part]
        shapes = [tensor.shape for tensor in graph.tensors]
        assert (BATCH // count, 32) in shapes
    assert sorted(traced_graphs(example, Request())) == [1]


def test_numbers_below_one_are_refused() -> None:
    check_ranks(1, None)
    with pytest.raises(InvalidInputError, match="world_size is 0; allowed: 1 or more"):
        check_ranks(0, None)
    with pytest.raises(InvalidInputError, match="micro_batches is -1; allowed: 1 or more, or"):
        check_ranks(2, -1)
