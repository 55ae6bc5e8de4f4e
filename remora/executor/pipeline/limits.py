"""What a pipeline cannot run, said before anything starts."""

from __future__ import annotations

from torch import nn

from remora.errors import InvalidInputError
from remora.executor.memory.buffers import buffer_slots
from remora.graph.model_graph import ModelGraph
from remora.schedule.orders import check_pipeline, model_copies
from remora.schedule.schedule import Schedule, StatePlan

__all__ = ["check_runs_on_ranks"]


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
    pipeline = schedule.pipeline
    check_pipeline(pipeline.kind, pipeline.num_ranks, pipeline.micro_batches, pipeline.chunks)
    if world_size < 1 or world_size % pipeline.num_ranks:
        raise InvalidInputError(
            f"world_size is {world_size}; allowed for a schedule of {pipeline.num_ranks} ranks: "
            f"multiples of {pipeline.num_ranks}"
        )
    _check_statistics(model, graph, schedule)
    if schedule.state != StatePlan():
        raise InvalidInputError(
            f"state is {schedule.state}; allowed where a pipeline is run: all state on the device "
            "and whole"
        )


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
