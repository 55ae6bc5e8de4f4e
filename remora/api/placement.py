"""Putting a model and its example batch on the kind of device that runs them."""

from __future__ import annotations

import torch

from remora.api.model_source import ModelSource
from remora.graph.batch import on_device
from remora.graph.model_graph import ModelGraph
from remora.zoo import Example

__all__ = ["build_on", "build_to_measure", "build_to_trace"]

_HOST_BOUND_PARAMETER_BYTES = 2**28
"""A larger model's operators take so long that the time of its Python code does not show."""


def build_on(source: ModelSource, device_type: str) -> Example:
    """Build a model for real and move it, with its example batch, to a device.

    Args:
        source: builds the model, on the CPU unless it is the user's own function.
        device_type: ``cpu`` leaves everything where it is.

    Raises:
        See :meth:`ModelSource.build`.
    """
    example = source.build()
    if device_type == "cpu":
        return example

    inputs = on_device(example.example_inputs, torch.device(device_type))
    return Example(example.model.to(device_type), inputs, example.loss)


def build_to_trace(source: ModelSource, local_device_type: str | None) -> Example:
    """Build a model for tracing, where its operators are those of the run.

    Args:
        source: builds the model.
        local_device_type: device type if the plan is for this machine, else None.

    Raises:
        See :meth:`ModelSource.build`.
    """
    if local_device_type is None or local_device_type == "cpu":
        return source.build_for_tracing()
    return build_on(source, local_device_type)


def build_to_measure(
    source: ModelSource, graph: ModelGraph, local_device_type: str | None
) -> Example | None:
    """Build a small model for real, so that the time of its own Python code can be measured.

    Args:
        source: builds the model.
        graph: its trace.
        local_device_type: device type if the plan is for this machine, else None.

    Returns:
        The example, or None where that time does not matter.

    Raises:
        See :meth:`ModelSource.build`.
    """
    if local_device_type != "cpu" or graph.parameter_bytes > _HOST_BOUND_PARAMETER_BYTES:
        return None
    return source.build()
