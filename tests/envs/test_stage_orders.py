"""What stages have in memory: corners stand for all moments, and less held never takes more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.envs.actions import KINDS
from remora.envs.joint_engine import JointEngine
from remora.envs.stage_bytes import NUM_USES, STEP_USE, fill_uses
from remora.envs.stage_orders import NUM_CORNERS, stage_order
from remora.errors import InvalidInputError
from remora.schedule.orders import TaskKind, pipeline_order
from remora.schedule.schedule import PipelineKind
from tests.envs.pipeline_problems import pipelines_of

KIND_OF = {kind: place for place, kind in enumerate(KINDS)}


@pytest.mark.parametrize(("ranks", "micro_batches"), [(2, 2), (4, 8), (8, 8)])
def test_one_stage_per_rank_holds_what_the_kinds_are_known_for(
    ranks: int, micro_batches: int
) -> None:
    gpipe = stage_order(KIND_OF[PipelineKind.GPIPE, 1], ranks, micro_batches)
    assert gpipe.counts[:, 0, 0].tolist() == [micro_batches] * ranks
    in_turn = stage_order(KIND_OF[PipelineKind.ONE_F_ONE_B, 1], ranks, micro_batches)
    assert in_turn.counts[:, 0, 0].tolist() == [ranks - stage for stage in range(ranks)]
    assert set(in_turn.corners.tolist()) == {1}


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, len(KINDS) - 1),
    st.sampled_from((2, 4, 6)),
    st.sampled_from((1, 2, 4)),
    st.integers(0, 1000),
)
def test_corners_take_no_less_than_any_moment(
    kind: int, ranks: int, rounds: int, seed: int
) -> None:
    name, chunks = KINDS[kind]
    try:
        found = stage_order(kind, ranks, ranks * rounds)
    except InvalidInputError:
        return
    generator = np.random.default_rng(seed)
    held = generator.integers(1, 100, len(found.rank))
    restored = held + generator.integers(0, 100, len(found.rank))
    order = pipeline_order(name, ranks, ranks * rounds, chunks)
    for rank in range(found.rank.max() + 1):
        own = found.rank == rank
        counts = found.counts[own]
        most = max(
            int((held[own] * counts[:, c, 0] + restored[own] * counts[:, c, 1]).sum())
            for c in range(NUM_CORNERS)
        )
        now, stages = 0, len(found.rank)
        for task, number, _ in order.tasks_of(rank):
            stage = number % stages
            if task is TaskKind.FORWARD:
                now += held[stage]
            elif task is TaskKind.BACKWARD_INPUT:
                now += restored[stage] - held[stage]
            assert now <= most
            if task is TaskKind.BACKWARD:
                now -= held[stage]
            elif task is TaskKind.BACKWARD_WEIGHT:
                now -= restored[stage]


@pytest.mark.parametrize("kind", range(1, len(KINDS)))
def test_less_held_never_takes_more(kind: int) -> None:
    problem = pipelines_of("narrow", 2)
    tables = JointEngine([problem]).tables
    shape = next((n for n, s in enumerate(problem.shapes) if s.kind == kind), None)
    if shape is None:
        pytest.skip(f"{KINDS[kind]} needs more units or micro-batches")
    stages = problem.shapes[shape].num_stages
    end = problem.num_units if stages == 1 else 2
    for stage in range(stages):
        sums = []
        for held in range(0, 5000, 250):
            uses = np.zeros(NUM_USES, dtype=np.int64)
            sizes = (1000, 500, held, 3000, 4000, 2000)
            fill_uses(tables, shape, stage, 0, end, sizes, uses)
            sums.append(uses[:NUM_CORNERS] + uses[NUM_CORNERS:STEP_USE])
            assert uses[STEP_USE] == 1500
        assert (np.diff(np.array(sums), axis=0) >= 0).all()
