"""Where a chain of units is cut into stages; the pipeline that budgets and baselines mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from remora.errors import InvalidInputError
from remora.schedule.inference import Mode
from remora.schedule.problem import Problem
from remora.schedule.schedule import PipelineKind, PipelinePlan

__all__ = ["balanced_cuts", "default_pipeline", "standard_pipeline", "uniform_cuts"]

_MOST_PER_RANK = 4
"""Most micro-batches per rank of the standard pipeline."""


def balanced_cuts(weights: Sequence[float], num_stages: int) -> tuple[int, ...]:
    """Cut a chain so that the heaviest stage is as light as possible.

    Of several such cuts the earliest stages take as much as they can, as long as every later
    stage keeps a unit.

    Args:
        weights: of the units, none negative, for example seconds.  # [num_units]
        num_stages: 1 to the number of units.

    Returns:
        First unit of every stage but the first.  # [num_stages - 1]
    """
    limit = _least_heaviest(weights, num_stages)
    cuts: list[int] = []
    load = 0.0
    for unit, weight in enumerate(weights):
        stages_left = num_stages - len(cuts) - 1
        if unit and stages_left:
            full = load + weight > limit
            last_chance = len(weights) - unit == stages_left
            if full or last_chance:
                cuts.append(unit)
                load = 0.0
        load += weight
    return tuple(cuts)


def uniform_cuts(num_units: int, num_stages: int) -> tuple[int, ...]:
    """Cut into stages whose numbers of units differ by at most one."""
    return tuple(stage * num_units // num_stages for stage in range(1, num_stages))


def standard_pipeline(problem: Problem) -> PipelinePlan:
    """The pipeline that ``range`` budgets refer to.

    All ranks in one 1f1b pipeline (in inference: gpipe) with balanced cuts and the problem's
    fixed number of micro-batches, else the largest one from p to 4p for p ranks. One rank has no
    pipeline.

    Raises:
        InvalidInputError: more ranks than units, a fixed number of replicas, or no such number of
            micro-batches.
    """
    ranks, fixed = problem.num_groups, problem.micro_batches
    if ranks == 1:
        return PipelinePlan(micro_batches=1 if fixed is None else fixed)
    units = len(problem.graph.units)
    if ranks > units:
        raise InvalidInputError(
            f"world_size is {ranks} and the model has {units} units; allowed for a pipeline over "
            f"all ranks: up to {units}"
        )
    if ranks not in problem.pipeline_sizes:
        raise InvalidInputError(
            f"replicas is {problem.replicas}; allowed for a pipeline over all ranks: 1"
        )
    counts = sorted(problem.graphs) if fixed is None else [fixed]
    most = _MOST_PER_RANK * ranks if fixed is None else fixed
    allowed = [count for count in counts if ranks <= count <= most]
    if not allowed:
        raise InvalidInputError(
            f"world_size is {ranks} and the numbers of micro-batches are "
            f"{', '.join(map(str, counts))}; allowed for the 1f1b pipeline that a range refers "
            f"to: one from {ranks} to {_MOST_PER_RANK * ranks}, so a batch that such a number "
            "divides, or another world_size"
        )
    return _one_stage_each(problem, _kind(problem), ranks, max(allowed))


def default_pipeline(problem: Problem) -> PipelinePlan:
    """The standard pipeline, or the nearest one to it where there is none.

    Fewer ranks where the model has too few units, then the most micro-batches there are; gpipe
    where they are fewer than the ranks.
    """
    try:
        return standard_pipeline(problem)
    except InvalidInputError:
        pass
    counts = sorted(problem.graphs) if problem.micro_batches is None else [problem.micro_batches]
    units = len(problem.graph.units)
    sizes = [ranks for ranks in problem.pipeline_sizes if ranks <= units]
    ranks, count = max(sizes, default=1), max(counts)
    if ranks == 1:
        return PipelinePlan(micro_batches=count)
    kind = _kind(problem) if count >= ranks else PipelineKind.GPIPE
    return _one_stage_each(problem, kind, ranks, count)


def _kind(problem: Problem) -> PipelineKind:
    return PipelineKind.GPIPE if problem.mode is Mode.INFERENCE else PipelineKind.ONE_F_ONE_B


def _one_stage_each(problem: Problem, kind: PipelineKind, ranks: int, count: int) -> PipelinePlan:
    seconds = [unit.forward_s + unit.backward_s for unit in problem.chains[count].units]
    return PipelinePlan(kind, balanced_cuts(seconds, ranks), 1, count)


def _least_heaviest(weights: Sequence[float], num_stages: int) -> float:
    """The load of the heaviest stage under the best cut: a dynamic program over stages."""
    done = np.concatenate([[0.0], np.cumsum(weights)])  # [num_units + 1]
    # stage[end, start]: of the units from start to end - 1.
    stage = np.where(np.tri(len(done), k=0, dtype=np.bool_), done[:, None] - done, np.inf)
    heaviest = done
    for _ in range(num_stages - 1):
        heaviest = np.maximum(stage, heaviest).min(axis=1)
    # Sums in another order may differ in the last digits.
    return float(heaviest[-1]) * (1 + 1e-12)
