"""Trace one forward, loss and backward of a PyTorch module, or a forward alone, as a ModelGraph."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map

from remora.errors import InvalidInputError, ModelRunError, RemoraError, TraceError
from remora.graph.assemble import assemble
from remora.graph.fake import execute_real_if_small, fake_parameters, real_copy
from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss
from remora.graph.model_graph import BUFFER, GRADIENT, INPUT, PARAMETER, ModelGraph
from remora.graph.precision.assignment import module_precisions, with_precisions
from remora.graph.precision.precision import Precision, is_lossy, lossy_precisions
from remora.graph.precision.reduced import reduced_model
from remora.graph.recorder import ALIVE, Recorder, Recording
from remora.graph.tensor.collectives import TensorGroup
from remora.graph.tensor.cut import cut_model
from remora.graph.tensor.plan import check_degree, tensor_plan
from remora.graph.units import find_markers

_LOG = logging.getLogger(__name__)

_RETRY_WITH_REAL = (
    torch._subclasses.fake_tensor.DataDependentOutputException,
    torch._subclasses.fake_tensor.DynamicOutputShapeException,
    torch._subclasses.fake_tensor.UnsupportedOperatorException,
    torch._subclasses.fake_tensor.UnsupportedFakeTensorException,
)


def trace(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None = None,
    units: Sequence[str] | None = None,
    model_name: str = "",
    device: torch.device | None = None,
    forward_only: bool = False,
    tensor_degree: int = 1,
    precisions: Sequence[Precision] = (),
) -> ModelGraph:
    """Trace one training step of ``model`` on one example batch, or one pass of it.

    Runs under fake tensors, which takes no memory for parameters or activations (parameters may be
    on the meta device). A forward that reads a value falls back to real tensors, with the
    reason logged and kept in ``ModelGraph.notes``.

    Args:
        model: module in the mode (train or eval) in which it will run.
        example_inputs: tuple of positional or mapping of keyword arguments.
        loss: function of the output that returns a scalar; see :func:`resolve_loss`.
        units: module paths that begin units, instead of those found.
        model_name: name kept in the graph.
        device: where the step will run, if the model is elsewhere.
        forward_only: trace the forward without gradients and nothing else; ``loss`` plays no part.
        tensor_degree: ranks that share every layer of the model's tensor-parallel plan; the graph
            is that of one of them, collectives included.
        precisions: of its units; empty for the model's own.  # [num_units] or [0]

    Raises:
        InvalidInputError: the model cannot be cut to that degree, or its units cannot have those
            precisions.
        TraceError: the step cannot be traced; names the module and the operator.
        ModelRunError: the model's own forward or loss failed on the example batch.
    """
    make = functools.partial(
        _traced,
        model,
        example_inputs,
        None if forward_only else resolve_loss(loss),
        model_name=model_name or type(model).__name__,
        device=device,
        tensor_degree=tensor_degree,
    )
    check_degree(model, tensor_degree)
    own = make(units, {})
    if not is_lossy(precisions):
        return own
    reduced = make(_markers(own), module_precisions(own, precisions))
    if [unit.name for unit in reduced.units] != [unit.name for unit in own.units]:
        raise InvalidInputError(
            f"precision.units is {', '.join(lossy_precisions(precisions))} for units of "
            f"{own.model_name}, which then has other units; allowed: model"
        )
    return with_precisions(reduced, precisions)


def _markers(graph: ModelGraph) -> list[str]:
    """Module paths that begin the units of a graph but the first."""
    return [unit.marker.path for unit in graph.units if unit.marker is not None]


def _traced(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    units: Sequence[str] | None,
    precisions: Mapping[str, Precision],
    *,
    model_name: str,
    device: torch.device | None,
    tensor_degree: int,
) -> ModelGraph:
    """Trace a model some of whose modules compute in fewer bits."""
    reduced = functools.partial(reduced_model, model, precisions, forward_only=loss is None)
    try:
        recording = _record_fake(model, example_inputs, loss, device, tensor_degree, reduced)
        return _graph(recording, model, units, model_name, "fake", ())
    except _RETRY_WITH_REAL as reason:
        if tensor_degree > 1 or _lacks_values(model, example_inputs):
            raise TraceError("", _op_name(reason), str(reason).split("\n")[0]) from reason
        note = f"traced with real tensors: {type(reason).__name__}: {_first_line(reason)}"
        _LOG.info(note)
    with reduced():
        recording = _record_real(model, example_inputs, loss)
    return _graph(recording, model, units, model_name, "real", (note,))


def _lacks_values(model: nn.Module, example_inputs: ExampleInputs) -> bool:
    """Whether the step cannot run for real, since a parameter or an input has no values."""
    leaves = [*model.parameters(), *tree_leaves(example_inputs)]
    return any(leaf.is_meta for leaf in leaves if isinstance(leaf, Tensor))


def _graph(
    recording: Recording,
    model: nn.Module,
    units: Sequence[str] | None,
    model_name: str,
    traced_with: str,
    notes: tuple[str, ...],
) -> ModelGraph:
    markers = find_markers(recording, model, units)
    return assemble(recording, markers, model_name, traced_with, notes)


def _record_fake(
    model: nn.Module,
    example_inputs: ExampleInputs,
    loss: LossFunction | None,
    device: torch.device | None,
    tensor_degree: int,
    reduced: Callable[[], AbstractContextManager[None]],
) -> Recording:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    inputs = tree_map(lambda leaf: real_copy(leaf, mode, device), example_inputs)
    with (
        fake_parameters(model, mode, device),
        torch.random.fork_rng(),
        warnings.catch_warnings(),
        mode,
    ):
        # A real table that a fake result is written into is looked at as if it were a leaf.
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor")
        if tensor_degree > 1:
            # Undone with the fake parameters, which restore all that hangs on the modules.
            cut_model(model, tensor_plan(model), TensorGroup(tensor_degree))
        with reduced():
            return _record(model, inputs, loss, Recorder(_empty_like, execute_real_if_small))


def _record_real(
    model: nn.Module, example_inputs: ExampleInputs, loss: LossFunction | None
) -> Recording:
    gradients = {p: p.grad for p in model.parameters()}
    buffers = {b: b.detach().clone() for b in model.buffers()}
    try:
        for parameter in gradients:
            parameter.grad = None
        with torch.random.fork_rng():
            return _record(model, example_inputs, loss, Recorder(_copy_of, _execute))
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)


def _record(
    model: nn.Module, inputs: ExampleInputs, loss: LossFunction | None, recorder: Recorder
) -> Recording:
    """Run forward, loss and backward (without a loss: the forward alone) under a recorder."""
    for name, parameter in model.named_parameters():
        recorder.register(parameter, PARAMETER, name)
    for name, buffer in model.named_buffers():
        recorder.register(buffer, BUFFER, name)
    for position, leaf in enumerate(tree_leaves(inputs)):
        if isinstance(leaf, Tensor):
            recorder.register(leaf, INPUT, f"input.{position}")
    if loss is None:
        _run_pass(model, inputs, recorder)
    else:
        _run_step(model, inputs, loss, recorder)
    recording = recorder.recording
    for storage in recording.storages:
        if storage.created < 0:
            storage.dropped = ALIVE
    return recording


def _run_pass(model: nn.Module, inputs: ExampleInputs, recorder: Recorder) -> None:
    """Run the forward; its output lives to the end, since it belongs to the caller."""
    with recorder, _call_hooks(model, recorder), torch.no_grad():
        output = _guarded(lambda: call_model(model, inputs), recorder)
        recorder.start_backward()
        del output


def _run_step(
    model: nn.Module, inputs: ExampleInputs, loss: LossFunction, recorder: Recorder
) -> None:
    """Run forward, loss and backward, and name the parameters' gradients."""
    hooks = torch.autograd.graph.saved_tensors_hooks(recorder.pack, recorder.unpack)
    with recorder, hooks, _call_hooks(model, recorder), torch.enable_grad():
        value = _guarded(lambda: loss(call_model(model, inputs)), recorder)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise ModelRunError("the loss is not a tensor with one element; allowed: a scalar")
        recorder.start_backward()
        _run_backward(value, recorder)
        del value
    recording = recorder.recording
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            record = recording.storages[recorder.storage_index(parameter.grad)]
            record.role, record.name, record.dropped = GRADIENT, name, ALIVE


def _guarded(forward: Callable[[], Any], recorder: Recorder) -> Any:
    """Run the model's own code; a fault of it names the module."""
    try:
        return forward()
    except (*_RETRY_WITH_REAL, RemoraError):
        raise
    except Exception as error:
        raise ModelRunError(
            f"the model failed on the example batch in module {recorder.module_path!r}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _run_backward(value: Tensor, recorder: Recorder) -> None:
    try:
        value.backward()
    except _RETRY_WITH_REAL:
        raise
    except Exception as error:
        last = recorder.recording.ops[-1].name
        raise TraceError("", last, f"backward failed: {error}") from error


@contextlib.contextmanager
def _call_hooks(model: nn.Module, recorder: Recorder) -> Iterator[None]:
    """Tell the recorder of every module call while the context is open."""
    paths = {id(module): name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        if id(module) in paths:
            recorder.enter_module(paths[id(module)])

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if id(module) in paths:
            recorder.leave_module()

    handles = [
        torch.nn.modules.module.register_module_forward_pre_hook(enter),
        torch.nn.modules.module.register_module_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _execute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def _empty_like(tensor: Tensor) -> Tensor:
    """A tensor of the same layout on storage of its own, without values."""
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device
    )


def _copy_of(tensor: Tensor) -> Tensor:
    return _empty_like(tensor).copy_(tensor)


def _op_name(error: BaseException) -> str:
    return str(getattr(error, "func", type(error).__name__))


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0]
