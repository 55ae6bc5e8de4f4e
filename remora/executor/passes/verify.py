"""Hold a model under a plan of inference against the plain one: values, memory and time."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from remora.errors import InvalidInputError, RemoraError
from remora.executor.compare import differ, largest_difference
from remora.executor.measure import failed_measurement, measure
from remora.executor.memory.install import apply
from remora.executor.passes.runs import Generation, OnePass, outputs_of, random_states
from remora.executor.precision_errors import output_errors
from remora.executor.step import State, model_device, preserved
from remora.executor.verdict import Comparison, verdict
from remora.graph.evaluating import evaluating
from remora.graph.loss import ExampleInputs
from remora.graph.model_graph import ModelGraph
from remora.schedule.inference import InferenceSpec
from remora.schedule.schedule import Schedule
from remora.simulator.records import Estimate, Measurement, Verification

__all__ = ["verify_pass"]

_NOISE_FACTOR = 4.0
"""Outputs may differ by so many times what two plain runs differ by."""

_SEED = 20240


def verify_pass(
    model: nn.Module,
    example_inputs: ExampleInputs,
    graph: ModelGraph,
    schedule: Schedule,
    spec: InferenceSpec,
    *,
    budget_bytes: int | None = None,
    estimate: Estimate | None = None,
    repetitions: int = 10,
) -> Verification:
    """Run the plain and the scheduled model in this process and compare everything.

    What a pass returns and the buffers afterwards must be equal bit by bit on the CPU; on CUDA they
    may differ by a few times what two plain runs differ by. Where tokens are generated, those of
    greedy search with a cache must be the same. The peak is that of a pass or of generating,
    whichever is larger. The mode, buffers and random state of the model are restored.

    Args:
        model: the module that ``graph`` was traced from.
        example_inputs: one batch of the traced shape.
        graph: of the model, without a backward.
        schedule: for that graph, on one device.
        spec: tokens of prompt and after it.
        budget_bytes: limit of the measured peak; None for no limit.
        estimate: prediction to compare with; None for none.
        repetitions: most timed passes.

    Returns:
        One flag per possible failure. A run that dies sets ``run_failed``, with its ``detail``.

    Raises:
        InvalidInputError: the schedule does not fit the graph, the model or this function.
    """
    if schedule.pipeline.micro_batches != 1:
        raise InvalidInputError(
            f"pipeline.micro_batches is {schedule.pipeline.micro_batches}; allowed here: 1"
        )
    generation = None
    if spec.generated_tokens:
        tokens = (spec.prompt_tokens, spec.generated_tokens)
        generation = Generation.of(model, example_inputs, *tokens)
    job = _Job(model, example_inputs, generation)
    under_plan = functools.partial(apply, model, graph, schedule)
    with preserved(model) as state, evaluating(model):
        plain, broken = _run(job, state, contextlib.nullcontext)
        tolerance = _tolerance(job, state, plain)
        precisions = schedule.precision.units
        measured = _measured(job, contextlib.nullcontext, repetitions) if precisions else None
        state.restore()
        scheduled, failure = _run(job, state, under_plan)
        measurement = failure or _measured(job, under_plan, repetitions)
    if plain is None:
        remark = "" if broken is None else broken.detail
        comparison = Comparison(remark=f"the plain model did not run: {remark}")
        return verdict(comparison, measurement, budget_bytes, estimate)
    if scheduled is None:
        return verdict(Comparison(), measurement, budget_bytes, estimate)
    of = (measurement, budget_bytes, estimate)
    if precisions:
        return _reduced_verdict(plain, scheduled, measured, verdict_of=of)
    return _verdict(plain, scheduled, tolerance, verdict_of=of)


@dataclass(frozen=True)
class _Job:
    model: nn.Module
    example_inputs: ExampleInputs
    generation: Generation | None


@dataclass(frozen=True)
class _Outcome:
    """Copies in host memory of what a pass and a generation left behind."""

    outputs: list[Tensor]
    tokens: Tensor
    buffers: dict[str, Tensor]
    random_states: list[Tensor]


_UnderPlan = Callable[[], AbstractContextManager[object]]


def _run(
    job: _Job, state: State, under_plan: _UnderPlan
) -> tuple[_Outcome | None, Measurement | None]:
    """Run from the saved state; a run that dies is returned as a failed measurement."""
    device = model_device(job.model)
    try:
        torch.manual_seed(_SEED)
        with under_plan():
            outputs = outputs_of(job.model, job.example_inputs)
            states = random_states(device)
            made = job.generation.tokens() if job.generation is not None else torch.empty(0)
            buffers = {n: b.detach().to("cpu", copy=True) for n, b in job.model.named_buffers()}
        return _Outcome(outputs, made, buffers, states), None
    except RemoraError:
        raise
    except Exception as error:
        return None, failed_measurement(error, str(device))
    finally:
        state.restore()
        gc.collect()


def _tolerance(job: _Job, state: State, plain: _Outcome | None) -> float:
    """What the kernels may differ by of themselves; nothing on the CPU."""
    if plain is None or model_device(job.model).type == "cpu":
        return 0.0
    again, _ = _run(job, state, contextlib.nullcontext)
    if again is None:
        return 0.0
    return _NOISE_FACTOR * _largest(plain.outputs, again.outputs)


def _largest(a: list[Tensor], b: list[Tensor]) -> float:
    """Largest difference of two outputs, over the largest entry of their tensor."""
    named = [{str(place): tensor for place, tensor in enumerate(part)} for part in (a, b)]
    return largest_difference(*named).relative


def _measured(job: _Job, under_plan: _UnderPlan, repetitions: int) -> Measurement:
    device = model_device(job.model)
    with under_plan():
        measured = measure(OnePass(job.model, job.example_inputs), device, repetitions)
        if job.generation is None or measured.status != "ok":
            return measured
        generated = measure(job.generation, device, 1, 1)
    if generated.status != "ok":
        return generated
    peak = max(measured.peak_memory_bytes, generated.peak_memory_bytes)
    return replace(measured, peak_memory_bytes=peak)


def _reduced_verdict(
    plain: _Outcome,
    scheduled: _Outcome,
    measured: Measurement | None,
    verdict_of: tuple[Measurement, int | None, Estimate | None],
) -> Verification:
    """The verdict where weights have fewer bits, so that outputs are only near."""
    errors = output_errors(plain.outputs, scheduled.outputs, (plain.tokens, scheduled.tokens))
    comparison = Comparison(
        buffers=any(differ(b, scheduled.buffers[n], 0.0) for n, b in plain.buffers.items()),
        random_state=_random_states_differ(plain, scheduled),
        precision=errors,
    )
    return replace(
        verdict(comparison, *verdict_of, measured),
        outputs_differ=errors.loss > errors.loss_tolerance,
    )


def _random_states_differ(a: _Outcome, b: _Outcome) -> bool:
    pairs = zip(a.random_states, b.random_states, strict=True)
    return any(differ(before, after, 0.0) for before, after in pairs)


def _verdict(
    plain: _Outcome,
    scheduled: _Outcome,
    tolerance: float,
    verdict_of: tuple[Measurement, int | None, Estimate | None],
) -> Verification:
    same_shapes = len(plain.outputs) == len(scheduled.outputs)
    comparison = Comparison(
        buffers=any(differ(b, scheduled.buffers[n], tolerance) for n, b in plain.buffers.items()),
        random_state=_random_states_differ(plain, scheduled),
    )
    return replace(
        verdict(comparison, *verdict_of),
        outputs_differ=not same_shapes
        or any(
            differ(a, b, tolerance) for a, b in zip(plain.outputs, scheduled.outputs, strict=True)
        ),
        tokens_differ=not torch.equal(plain.tokens, scheduled.tokens),
    )
