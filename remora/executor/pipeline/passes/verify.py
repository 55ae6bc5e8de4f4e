"""Run passes on the ranks of a pipeline and hold them against one process."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import nn

from remora.executor.compare import differ
from remora.executor.measure import failed_measurement
from remora.executor.passes.runs import Generation
from remora.executor.pipeline.forward_tape import record_pass
from remora.executor.pipeline.job import make_equal, replica_batches
from remora.executor.pipeline.measure import measure_on_ranks, peaks_on_ranks
from remora.executor.pipeline.passes.generation import RankGeneration
from remora.executor.pipeline.passes.outcome import (
    PassOutcome,
    gathered,
    plain_outcome,
    rank_outcome,
)
from remora.executor.pipeline.passes.pipeline_pass import PipelinePass
from remora.executor.pipeline.passes.rank_passes import RankPasses
from remora.executor.pipeline.passes.recorded_generation import record_generation
from remora.executor.pipeline.world import join_world
from remora.executor.precision_errors import output_errors
from remora.executor.step import preserved
from remora.executor.verdict import Comparison, verdict
from remora.graph.batch import on_device
from remora.graph.evaluating import evaluating
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.graph.precision.assignment import reduced_modules
from remora.graph.precision.reduced import reduced_model
from remora.schedule.inference import InferenceSpec
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Measurement, Verification

__all__ = ["verify_passes_on_ranks"]

_ROUNDINGS = 80
"""Outputs may differ by so many roundings of their largest entry: 1e-5 in float32."""

_SEED = 20240


def verify_passes_on_ranks(
    model: nn.Module,
    example_inputs: ExampleInputs,
    graph: ModelGraph,
    schedule: Schedule,
    spec: InferenceSpec,
    *,
    device: torch.device,
    budget_bytes: int | None = None,
    estimate: Estimate | None = None,
    repetitions: int = 5,
) -> Verification | None:
    """Verify on all ranks of a run; call it on each, inside of ``joined_ranks``.

    One process runs the model's own forward, and its ``generate`` where tokens are wanted, on the
    same micro-batches one after the other. Outputs may differ from it by 1e-5 of their largest
    entry in float32, generated tokens must be the same. Where units compute in fewer bits, the
    errors are reported and held to their tolerance instead. The time is that of the pass of the
    whole batch; the peak is that of a pass or of generating, whichever is larger.

    Args:
        model: the whole model, in host memory.
        example_inputs: the batch of one replica.
        graph: of one micro-batch, without a backward.
        schedule: valid for it.
        spec: tokens of prompt and after it.
        device: of this rank.
        budget_bytes: limit of the measured peak; None for no limit.
        estimate: prediction to compare with; None for none.
        repetitions: timed passes, at least 3.

    Returns:
        The verdict on rank 0; None elsewhere.

    Raises:
        InvalidInputError: the batch, the tokens or the number of ranks do not fit.
    """
    count = schedule.pipeline.micro_batches
    world = join_world(schedule.pipeline.num_ranks)
    make_equal(model, example_inputs)
    replicas = replica_batches(example_inputs, world.replicas, count)
    start_buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved(model))
        stack.enter_context(evaluating(model))
        plain, remark = None, ""
        if dist.get_rank() == 0:
            plain, remark = _plain(model, replicas, graph, spec, device)
        stack.enter_context(reduced_model(model, reduced_modules(graph), forward_only=True))
        tape = record_pass(model, replicas[0][0], graph, device)
        amounts = (spec.prompt_tokens, spec.generated_tokens)
        parts = [Generation.of(model, x, *amounts) for x in replicas[world.replica] if amounts[1]]
        recorded = record_generation(parts[0], graph, device) if parts else ()
        passes = RankPasses(model, tape, graph, schedule, world, device, _SEED)
        stack.callback(passes.close)
        step = PipelinePass(passes, [on_device(x, device) for x in replicas[world.replica]])
        generation = None
        if parts:
            prompts = torch.cat([part.prompt for part in parts])
            whole = Generation(model, prompts, spec.generated_tokens)
            generation = RankGeneration(whole, recorded, passes, count, world)
        own = rank_outcome(passes, step, generation, _SEED)
        found = gathered(own, world.replicas, start_buffers)
        measurement = measure_on_ranks(step, world.num_ranks, device, repetitions)
        if generation is not None:
            peaks = peaks_on_ranks(generation, world.num_ranks, device)
            measurement = _with_peaks(measurement, peaks)
    if found is None:
        return None
    of = (measurement, budget_bytes, estimate)
    if plain is None:
        return verdict(Comparison(remark=remark), *of)
    return _verdict(model, plain, found, bool(schedule.precision.units), of)


def _plain(
    model: nn.Module,
    replicas: Sequence[Sequence[ExampleInputs]],
    graph: ModelGraph,
    spec: InferenceSpec,
    device: torch.device,
) -> tuple[PassOutcome | None, str]:
    """Run the single process; a run that dies is a remark."""
    try:
        model.to(device)
        there = [[on_device(inputs, device) for inputs in replica] for replica in replicas]
        return plain_outcome(model, there, graph, spec, _SEED, device), ""
    except Exception as error:
        detail = failed_measurement(error, str(device)).detail
        return None, f"the plain model did not run, so nothing was compared: {detail}"
    finally:
        # The stages of this rank go back to the device later, and the rest does not.
        model.to("cpu")
        gc.collect()


def _with_peaks(measurement: Measurement, peaks: Sequence[int]) -> Measurement:
    """Let the peak of every rank be the larger one of two runs."""
    by_rank = tuple(map(max, zip(measurement.peak_by_rank_bytes, peaks, strict=True)))
    return replace(measurement, peak_memory_bytes=max(by_rank), peak_by_rank_bytes=by_rank)


def _verdict(
    model: nn.Module,
    plain: PassOutcome,
    found: PassOutcome,
    reduced: bool,
    verdict_of: tuple[Measurement, int | None, Estimate | None],
) -> Verification:
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    tolerance = _ROUNDINGS * max((torch.finfo(dtype).eps for dtype in floats), default=0.0)
    same_shapes = [t.shape for t in plain.outputs] == [t.shape for t in found.outputs]
    errors = None
    if reduced and same_shapes:
        errors = output_errors(plain.outputs, found.outputs, (plain.tokens, found.tokens))
    comparison = Comparison(
        buffers=any(differ(b, found.buffers[n], 0.0) for n, b in plain.buffers.items()),
        random_state=differ(plain.random_state, found.random_state, 0.0),
        precision=errors,
    )
    if errors is not None:
        outputs, tokens = errors.loss > errors.loss_tolerance, False
    else:
        pairs = zip(plain.outputs, found.outputs, strict=False)
        outputs = not same_shapes or any(differ(a, b, tolerance) for a, b in pairs)
        tokens = not torch.equal(plain.tokens, found.tokens)
    return replace(verdict(comparison, *verdict_of), outputs_differ=outputs, tokens_differ=tokens)
