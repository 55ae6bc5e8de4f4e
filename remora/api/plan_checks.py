"""What a model has to be for a plan to run on it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.api.passes import trace_pass
from remora.errors import FileFormatError, InvalidInputError
from remora.graph.loss import ExampleInputs, LossFunction
from remora.graph.model_graph import ModelGraph
from remora.graph.trace import trace
from remora.schedule.schedule import Schedule

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_graph", "check_hash", "check_pass_graph", "check_runs_here"]


def check_runs_here(schedule: Schedule, world_size: int = 1) -> None:
    """Refuse to run a schedule in this process that needs ranks or micro-batches.

    Args:
        schedule: the one to run.
        world_size: ranks that it was planned for.

    Raises:
        InvalidInputError: it is for several devices or micro-batches.
    """
    pipeline = schedule.pipeline
    ranks = max(world_size, pipeline.num_ranks)
    if ranks > 1 or pipeline.micro_batches > 1:
        raise InvalidInputError(
            f"the schedule is for {ranks} devices and {pipeline.micro_batches} micro-batches "
            f"(pipeline {pipeline.kind.value}); allowed in this process: one device and the whole "
            "batch; under torchrun plan.on_ranks() trains by it, plan.serve_on_ranks() runs "
            "passes, and 'remora verify' compares it"
        )


def check_graph(
    schedule: Schedule,
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    units: tuple[str, ...] | None,
    device_type: str | None = None,
) -> None:
    """Trace the model and refuse a schedule that was made for another one.

    The model may be elsewhere than on the type of device that it is traced for.

    Raises:
        FileFormatError: the hashes of the graphs differ.
    """
    import torch

    device = None if device_type is None else torch.device(device_type)
    degree = schedule.tensor.degree
    graph = trace(
        model,
        example_inputs,
        loss,
        units,
        device=device,
        tensor_degree=degree,
        precisions=schedule.precision.units,
    )
    check_hash(schedule, graph)


def check_pass_graph(
    schedule: Schedule,
    model: nn.Module,
    example_inputs: ExampleInputs,
    units: tuple[str, ...] | None,
) -> None:
    """Trace a pass of the model and refuse a schedule that was made for another one.

    Raises:
        FileFormatError: the hashes of the graphs differ.
    """
    precisions = schedule.precision.units
    check_hash(schedule, trace_pass(model, example_inputs, units, precisions=precisions))


def check_hash(schedule: Schedule, graph: ModelGraph) -> None:
    """Refuse a schedule that was made for another graph.

    Raises:
        FileFormatError: the hashes differ.
    """
    if graph.content_hash != schedule.graph_hash:
        raise FileFormatError(
            f"the schedule belongs to another model, batch or loss: its graph is "
            f"{schedule.graph_hash}, this one is {graph.content_hash}; a plan that was read from "
            "files needs a loss of its own again, as loss="
        )
