"""Run a schedule on its ranks and hold it against one process that runs the same micro-batches."""

from __future__ import annotations

import gc
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from remora.executor.measure import failed_measurement
from remora.executor.pipeline.forward_tape import record_forward
from remora.executor.pipeline.job import RanksJob, make_equal, replica_batches
from remora.executor.pipeline.measure import measure_on_ranks
from remora.executor.pipeline.outcome import RankOutcome, gathered, joined_outcome, run_ranks
from remora.executor.pipeline.rank_pipeline import RankPipeline
from remora.executor.pipeline.reference import reference_outcome
from remora.executor.pipeline.training import PipelineStep
from remora.executor.pipeline.world import join_world
from remora.executor.step import State, preserved
from remora.executor.tensor.shared_layers import shared_layers
from remora.executor.verdict import Comparison, Tolerance, TrainedOutcome, compare_runs, verdict
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.assignment import reduced_modules
from remora.graph.precision.precision import Precision
from remora.graph.precision.reduced import reduced_model
from remora.schedule.schedule import Placement, Schedule
from remora.simulator.records import Estimate, Verification

__all__ = ["RANK_WAY_TOLERANCE", "verify_on_ranks"]

RANK_WAY_TOLERANCE = 0.01
"""Share of the way of all parameters by which they may end apart: sums run in another order, and
Adam makes a whole step of a gradient that is zero but for that."""

_ROUNDINGS = 8
"""Gradients may differ by so many roundings of their largest entry: 1e-6 in float32."""

_ROUNDINGS_OF_PARTS = 80
_FLOOR_OF_PARTS = 1e-4
"""Where ranks share layers, every product is a sum of parts: 1e-5 in float32, and gradients that
are zero but for rounding come out as other roundings."""

_SEED = 20240


def verify_on_ranks(  # noqa: PLR0913 - one keyword per thing to hold the run against
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    schedule: Schedule,
    *,
    device: torch.device,
    budget_bytes: int | None = None,
    estimate: Estimate | None = None,
    optimizer_name: str = "adamw",
    repetitions: int = 5,
) -> Verification | None:
    """Verify on all ranks of a run; call it on each, inside of ``joined_ranks``.

    Gradients may differ from the single process by 1e-6 of their largest entry in float32 (where
    ranks share layers: 1e-5), since sums run in another order; the parameters after a few optimizer
    steps are compared as well.
    Where units compute in fewer bits, the errors are reported and held to their tolerances instead.
    Weights and batch are made those of rank 0 first. Every replica gets samples of its own.

    Args:
        model: the whole model, in host memory.
        example_inputs: the batch of one replica.
        loss: of the output; None for the default.
        graph: of one micro-batch.
        schedule: valid for it.
        device: of this rank.
        budget_bytes: limit of the measured peak; None for no limit.
        estimate: prediction to compare with; None for none.
        optimizer_name: optimizer of the compared and of the measured steps.
        repetitions: timed steps, at least 3.

    Returns:
        The verdict on rank 0; None elsewhere.

    Raises:
        InvalidInputError: the batch or the number of ranks does not fit the schedule.
    """
    world = join_world(schedule.pipeline.num_ranks, schedule.tensor.degree)
    make_equal(model, example_inputs)
    batches = replica_batches(example_inputs, world.replicas, schedule.pipeline.micro_batches)
    job = RanksJob(model, batches, loss, graph, optimizer_name, _SEED)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    with preserved(model) as state:
        plain, remark = _plain(job, state, device) if dist.get_rank() == 0 else (None, "")
        with (
            shared_layers(model, world.tensor_group) as layers,
            reduced_model(model, reduced_modules(graph)),
        ):
            tape = record_forward(model, batches[0][0], loss, graph, device)
            pipeline = RankPipeline(model, tape, graph, schedule, world, device, _SEED)
            own = {name: layers.part_of(name, value) for name, value in start.items()}

            def restore() -> None:
                state.restore()
                pipeline.restore(own)

            outcome = run_ranks(job, pipeline, restore, world, device)
            parts = gathered(outcome, layers.dimensions, world.degree)
            restore()
            step = PipelineStep(pipeline, job.batch_on(device, world.replica), optimizer_name)
            measurement = measure_on_ranks(step, world.num_ranks, device, repetitions)
    if dist.get_rank() != 0:
        return None
    comparison = Comparison(remark=remark)
    if plain is not None:
        lossy_state = schedule.state.optimizer is Placement.EIGHT_BIT
        precisions = schedule.precision.units
        in_parts = world.degree > 1
        comparison = _compared(start, buffers, plain, parts, lossy_state, in_parts, precisions)
    return verdict(comparison, measurement, budget_bytes, estimate)


def _plain(job: RanksJob, state: State, device: torch.device) -> tuple[TrainedOutcome | None, str]:
    """Run the single process; a run that dies is a remark."""
    try:
        job.model.to(device)
        return reference_outcome(job, state, device), ""
    except Exception as error:
        detail = failed_measurement(error, str(device)).detail
        return None, f"the plain model did not run, so nothing was compared: {detail}"
    finally:
        state.restore()
        # The stages of this rank go back to the device later, and the rest does not.
        job.model.to("cpu")
        gc.collect()


def _compared(
    start: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    plain: TrainedOutcome,
    parts: list[RankOutcome],
    lossy_state: bool,
    in_parts: bool,
    precisions: tuple[Precision, ...],
) -> Comparison:
    coarsest = max((torch.finfo(p.dtype).eps for p in start.values()), default=0.0)
    tolerance = Tolerance(_ROUNDINGS * coarsest, RANK_WAY_TOLERANCE)
    if in_parts:
        tolerance = Tolerance(_ROUNDINGS_OF_PARTS * coarsest, RANK_WAY_TOLERANCE, _FLOOR_OF_PARTS)
    return compare_runs(
        start,
        plain,
        joined_outcome(parts, plain, buffers),
        tolerance,
        {name: error for part in parts for name, error in part.errors.items()},
        lossy_state,
        precisions,
    )
