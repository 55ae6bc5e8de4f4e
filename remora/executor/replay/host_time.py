"""What the host adds to the forward of one particular model: its Python code and autograd."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator, Mapping

import torch
from torch import nn

from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss
from remora.graph.model_graph import ModelGraph
from remora.hardware.measurements import UnitTimes
from remora.hardware.memory import free_memory_bytes

__all__ = ["forward_overhead_s"]

_REPETITIONS = 7
_MEMORY_SHARE = 0.25

_HOST_BOUND_OP_S = 5e-4
"""Where operators take longer than this on average, the host's share is lost in the noise."""


def forward_overhead_s(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    units: Mapping[str, UnitTimes],
) -> float | None:
    """Run the model's forward a few times and compare it with the replay of its operators.

    Buffers, gradients and the random state are left as they were.

    Args:
        model: the traced model, on the device of its example batch.
        example_inputs: the traced batch.
        loss: as given to the trace of a step.
        graph: the trace.
        units: replayed times by unit kind.

    Returns:
        Seconds per forward operator, not negative; None if the operators are too long for it to
        matter, the model has no memory of its own, or its activations might not fit.
    """
    kinds = [unit.kind for unit in graph.units]
    if graph.num_forward_ops == 0 or not units.keys() >= set(kinds):
        return None
    replayed_s = sum(units[kind].forward_s for kind in kinds)
    if replayed_s / graph.num_forward_ops > _HOST_BOUND_OP_S:
        return None
    activation_bytes = sum(s.num_bytes for s in graph.storages if s.role == "activation")
    if activation_bytes > _MEMORY_SHARE * free_memory_bytes("cpu"):
        return None
    if any(tensor.device.type != "cpu" for tensor in (*model.parameters(), *model.buffers())):
        return None
    of_step = None if graph.forward_only else resolve_loss(loss)
    real_s = _forward_s(model, example_inputs, of_step)
    return max(0.0, (real_s - replayed_s) / graph.num_forward_ops)


def _forward_s(model: nn.Module, example_inputs: ExampleInputs, loss: LossFunction | None) -> float:
    """Median seconds of a forward with its loss, or of a pass without gradients."""
    times = []
    gradients = torch.set_grad_enabled(loss is not None)
    with _kept_buffers(model), torch.random.fork_rng([]), gradients:
        for _ in range(_REPETITIONS + 1):
            start = time.perf_counter()
            output = call_model(model, example_inputs)
            value = output if loss is None else loss(output)
            del output
            times.append(time.perf_counter() - start)
            del value
    return statistics.median(times[1:])


@contextlib.contextmanager
def _kept_buffers(model: nn.Module) -> Iterator[None]:
    """Put the same buffers with the same values back at the end."""
    tables = [(module._buffers, dict(module._buffers)) for module in model.modules()]
    values = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for table, entries in tables:
            table.update(entries)
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)
