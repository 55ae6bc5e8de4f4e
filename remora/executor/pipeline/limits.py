"""What a pipeline cannot run, said before anything starts."""

from __future__ import annotations

from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.buffers import buffer_slots
from remora.executor.state.sharding import check_runs_on_replicas
from remora.executor.tensor.limits import check_shared_layers
from remora.graph.model_graph import ModelGraph
from remora.schedule.inference import InferenceSpec
from remora.schedule.orders import check_pipeline, model_copies, pipeline_order, splits_backward
from remora.schedule.parameters import StaticStorages
from remora.schedule.schedule import Schedule

__all__ = ["check_passes_run_on_ranks", "check_runs_on_ranks"]


def check_runs_on_ranks(
    model: nn.Module, graph: ModelGraph, schedule: Schedule, world_size: int
) -> None:
    """Refuse a schedule that the ranks could not run.

    Args:
        model: that will run.
        graph: of one micro-batch.
        schedule: valid for the model.
        world_size: ranks that will be started.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    _check_ranks(schedule, world_size)
    check_shared_layers(model, graph, schedule.tensor.degree)
    if schedule.precision.units and schedule.tensor.degree > 1:
        raise InvalidInputError(
            f"tensor.degree is {schedule.tensor.degree} and precision.units has units in fewer "
            "bits, which layers that ranks share do not run yet; allowed with them: 1"
        )
    _check_statistics(model, graph, schedule)
    _check_state(graph, schedule)


def check_passes_run_on_ranks(
    model: nn.Module, schedule: Schedule, spec: InferenceSpec, world_size: int
) -> None:
    """Refuse passes that the ranks could not run.

    Args:
        model: that will run.
        schedule: of passes, valid for the model.
        spec: tokens of prompt and after it.
        world_size: ranks that will be started.

    Raises:
        InvalidInputError: names the field, its value and what is allowed.
    """
    _check_ranks(schedule, world_size)
    if schedule.tensor.degree > 1:
        raise InvalidInputError(
            f"tensor.degree is {schedule.tensor.degree}; allowed with mode='inference': 1"
        )
    encodes = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
    if spec.generated_tokens and encodes:
        raise InvalidInputError(
            f"generated_tokens is {spec.generated_tokens} and the model {type(model).__name__} "
            "has an encoder, which runs once for all tokens; allowed with it where ranks or "
            "micro-batches run: 0"
        )


def _check_ranks(schedule: Schedule, world_size: int) -> None:
    pipeline = schedule.pipeline
    check_pipeline(pipeline.kind, pipeline.num_ranks, pipeline.micro_batches, pipeline.chunks)
    devices = schedule.num_devices
    if world_size < 1 or world_size % devices:
        raise InvalidInputError(
            f"world_size is {world_size}; allowed for a schedule of {devices} ranks: "
            f"multiples of {devices}"
        )


def _check_state(graph: ModelGraph, schedule: Schedule) -> None:
    state, kind = schedule.state, schedule.pipeline.kind
    check_runs_on_replicas(state)
    if state.zero_stage >= 2 and splits_backward(kind):
        raise InvalidInputError(
            f"state.zero_stage is {state.zero_stage} with pipeline.kind={kind.value!r}, whose "
            "backwards come in halves, between which the gathered weights are gone; allowed "
            "where a schedule is run: 0, 1"
        )
    twice = _read_by_two_stages_of_a_rank(graph, schedule)
    if state.zero_stage >= 2 and twice is not None:
        raise InvalidInputError(
            f"state.zero_stage is {state.zero_stage} with pipeline.kind={kind.value!r}, and two "
            f"stages of one rank read the weight {twice!r}, which cannot be sharded for both; "
            "allowed where a schedule is run: 0, 1"
        )


def _read_by_two_stages_of_a_rank(graph: ModelGraph, schedule: Schedule) -> str | None:
    """Name of such a weight."""
    pipeline = schedule.pipeline
    order = pipeline_order(
        pipeline.kind, pipeline.num_ranks, pipeline.micro_batches, pipeline.chunks
    )
    spans = pipeline.spans(len(graph.units))
    statics = StaticStorages(graph, 1)
    seen: set[tuple[int, int]] = set()
    for number, rank in enumerate(order.stage_rank.tolist()):
        for entry in statics.weights_of(range(*spans[number % len(spans)])):
            if (rank, entry.storage) in seen:
                return graph.storages[entry.storage].name
            seen.add((rank, entry.storage))
    return None


def _check_statistics(model: nn.Module, graph: ModelGraph, schedule: Schedule) -> None:
    """Copies of a model that see different micro-batches keep different running statistics."""
    if model_copies(schedule.pipeline.kind) == 1:
        return
    for unit in graph.units:
        for slot in buffer_slots(model, unit):
            raise InvalidInputError(
                f"pipeline.kind is {schedule.pipeline.kind.value!r}, whose copies of the model see "
                f"different micro-batches, and unit {unit.name!r} keeps running statistics "
                f"({slot.name}); allowed: kinds with one copy"
            )
