"""What is known of the pipelines of many problems, as arrays of one shape each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remora.envs.actions import NUM_STATES
from remora.envs.arrays import Pipelines
from remora.envs.columns import FIRST_SLOT
from remora.envs.pipeline_tables import PipelineShape, rank_choices
from remora.envs.stage_orders import NUM_CORNERS

if TYPE_CHECKING:
    from remora.envs.problem_tables import ProblemTables

__all__ = ["stack_pipelines"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def stack_pipelines(
    problems: Sequence[ProblemTables], shares: Sequence[Floats], least: Sequence[Ints]
) -> Pipelines:
    """Put the pipelines of all problems into arrays.

    Args:
        problems: of one device or several.
        shares: of every problem, as ``Pipelines`` has them for it alone.  # [problems][..]
        least: the same.  # [problems][..]
    """
    shapes = [shape for problem in problems for shape in problem.shapes]
    stages = [
        np.concatenate(
            (
                np.stack((shape.order.rank, shape.order.corners), axis=1),
                shape.order.counts.reshape(-1, 2 * NUM_CORNERS),
            ),
            axis=1,
        )
        for shape in shapes
    ]
    return Pipelines(
        shape=_joined([_shape_rows(problems)], (1, FIRST_SLOT + NUM_STATES)),
        shape_s=_joined([[(s.floor_s, *s.ends) for s in shapes]], (1, 5), np.float64),
        stage=_joined(stages, (1, 2 + 2 * NUM_CORNERS)),
        shares=_joined(shares, (1, 2 * NUM_CORNERS + 1), np.float64),
        least=_joined(least, (1,)),
    )


def _shape_rows(problems: Sequence[ProblemTables]) -> list[tuple[int, ...]]:
    """The columns of ``Pipelines.shape``.  # [shapes][columns]."""
    rows: list[tuple[int, ...]] = []
    first_row = stage = least = share = 0
    for problem in problems:
        ranks = rank_choices(problem.problem)
        counts = [count.micro_batches for count in problem.counts]
        for shape in problem.shapes:
            replicas = problem.problem.num_groups // shape.num_ranks
            order, stages, states = shape.order, shape.num_stages, len(shape.states)
            rows.append(
                (
                    shape.kind,
                    first_row + counts.index(problem.micro_batches[shape.count]),
                    stages,
                    order.passes,
                    replicas,
                    stage,
                    least,
                    share,
                    int(order.splits),
                    int(order.whole),
                    int(shape.alone),
                    shape.family,
                    shape.num_ranks,
                    int(order.rank.max()) + 1,
                    ranks.index(shape.num_ranks),
                    shape.count,
                    *_slots(shape),
                )
            )
            stage += stages
            share += states * stages
            least += states * (stages + 1) * (problem.num_units + 1)
        first_row += len(problem.counts)
    return rows


def _slots(shape: PipelineShape) -> list[int]:
    return [shape.states.index(code) if code in shape.states else -1 for code in range(NUM_STATES)]


def _joined(arrays: Sequence[Any], shape: tuple[int, ...], dtype: Any = np.int64) -> NDArray[Any]:
    """One after the other; zeros of a shape if there is nothing."""
    parts = [np.asarray(array, dtype=dtype) for array in arrays if len(array)]
    return np.concatenate(parts) if parts else np.zeros(shape, dtype=dtype)
