"""The forward of a model, with or without a loss, as a list of calls, recorded without a run.

Modules are called as they are, and what their parents do between them (a residual sum, a reshape)
is written down too; both run eagerly when a stage plays its part of the list. So every model that
can be traced can be cut, whatever its code looks like. Numbers that the code computes from shapes
or values are those of the recorded micro-batch: all micro-batches must have its shapes.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from remora.errors import InvalidInputError
from remora.executor.memory.ambient import current_ambient
from remora.executor.memory.glue import GlueMode
from remora.executor.memory.layout import Layout, layout_of
from remora.executor.memory.nesting import output_leaves
from remora.executor.memory.tape import Call, HeldTensor, Tape, flatten
from remora.graph.fake import execute_real_if_small, fake_parameters, real_copy
from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss
from remora.graph.model_graph import ModelGraph, ModuleCall
from remora.graph.wrapping import wrapped_forwards

__all__ = ["ForwardTape", "Origin", "ValueInfo", "record_forward", "record_pass"]


_Results = Callable[[Any], Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tensor comes from that no call makes; exactly one field is set.

    Attributes:
        parameter: name in the model.
        buffer: name in the model.
        batch: position among the leaves of the batch.
        constant: the tensor itself.
    """

    parameter: str | None = None
    buffer: str | None = None
    batch: int | None = None
    constant: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """A tensor that a call makes.

    Attributes:
        storage: number of its storage; negative if it is one that exists before the step.
        num_bytes: size of its storage.
        layout: of the tensor in it.
        differentiable: wants a gradient.
    """

    storage: int
    num_bytes: int
    layout: Layout
    differentiable: bool


@dataclass(frozen=True)
class ForwardTape:
    """A recorded forward.

    Attributes:
        calls: in order; modules are called as they are, with their hooks.
        origins: of the values that no call makes, by number.
        values: of the others, by number.
        results: numbers of what the last stage is to return: of the loss, or of the outputs.
    """

    calls: tuple[Call, ...]
    origins: Mapping[int, Origin]
    values: Mapping[int, ValueInfo]
    results: tuple[int, ...]


def record_forward(
    model: nn.Module,
    micro_batch: ExampleInputs,
    loss: LossFunction | None,
    graph: ModelGraph,
    device: torch.device,
) -> ForwardTape:
    """Record a forward with its loss on stand-ins for the tensors, which takes no memory.

    Args:
        model: in the mode in which it will run; parameters may be on the meta device.
        micro_batch: an example of one micro-batch.
        loss: of the output; None for the default.
        graph: of the model, traced on such a micro-batch.
        device: where it will run.

    Raises:
        InvalidInputError: the model lacks a module of the graph, or its code does not run in the
            order of the graph.
    """
    of_output = resolve_loss(loss)
    with torch.enable_grad():
        return _record(model, micro_batch, graph, device, lambda output: [of_output(output)])


def record_pass(
    model: nn.Module,
    micro_batch: ExampleInputs,
    graph: ModelGraph,
    device: torch.device,
    taken: Callable[[Any], Any] | None = None,
    mode: FakeTensorMode | None = None,
) -> ForwardTape:
    """Record a forward without gradients; see :func:`record_forward`.

    Args:
        model: in evaluation mode.
        micro_batch: an example of one micro-batch.
        graph: of the model, whose units begin where those of this forward do.
        device: where it will run.
        taken: picks from the output what is wanted, or computes it; None for all its tensors.
        mode: of stand-ins that the inputs hold from an earlier recording; None for none.

    Returns:
        The tape; its results are the tensors of the output in order.

    Raises:
        InvalidInputError: see :func:`record_forward`.
    """

    def results(output: Any) -> list[Tensor]:
        wanted = output if taken is None else taken(output)
        return [leaf for leaf in pytree.tree_leaves(wanted) if isinstance(leaf, Tensor)]

    with torch.no_grad():
        return _record(model, micro_batch, graph, device, results, mode)


def _record(
    model: nn.Module,
    micro_batch: ExampleInputs,
    graph: ModelGraph,
    device: torch.device,
    results: _Results,
    mode: FakeTensorMode | None = None,
) -> ForwardTape:
    """Record under the present grad mode."""
    mode = mode or FakeTensorMode(allow_non_fake_inputs=True)
    inputs = pytree.tree_map(lambda leaf: real_copy(leaf, mode, device), micro_batch)
    with (
        fake_parameters(model, mode, device),
        torch.random.fork_rng(),
        warnings.catch_warnings(),
        mode,
        _SmallReal(),  # type: ignore[no-untyped-call]
    ):
        warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor")
        recording = _Recording(model, inputs, graph, device.type)
        return recording.run(results)


class _SmallReal(TorchDispatchMode):
    """Runs what sees no stand-in for real, as tracing does."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return execute_real_if_small(func, args, dict(kwargs or {}))


class _Recording:
    """State of one recording."""

    def __init__(
        self, model: nn.Module, inputs: ExampleInputs, graph: ModelGraph, device_type: str
    ) -> None:
        self._model = model
        self._inputs = inputs
        self._graph = graph
        self._device_type = device_type
        self._tape = Tape()
        self._glue = GlueMode(self._record)
        self._counts: Counter[str] = Counter()
        self._unit = 0
        self._begins = {unit.marker: unit.index for unit in graph.units if unit.marker is not None}
        self._steps = {step for unit in graph.units for step in unit.steps if step.path}
        self._values: dict[int, ValueInfo] = {}
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self._static = _static_storages(model, inputs)

    def run(self, results: _Results) -> ForwardTape:
        paths = {call.path for call in (*self._begins, *self._steps)}
        with wrapped_forwards(self._model, paths, self._run_module), self._glue:
            output = call_model(self._model, self._inputs)
            self._begin_loss()
            wanted = results(output)
        numbers = []
        for value in wanted:
            number = self._tape.number_of(value)
            if number is None:
                what = "a result" if self._graph.forward_only else "the loss"
                raise InvalidInputError(f"{what} does not come out of the model's own operators")
            numbers.append(number)
        origins = self._origins()
        return ForwardTape(tuple(self._tape.calls), origins, self._values, tuple(numbers))

    def _begin_loss(self) -> None:
        """A loss computed outside of the model is a unit without a module call."""
        last = self._graph.units[-1]
        if last.index > 0 and last.marker is None:
            self._enter(last.index)

    def _enter(self, unit: int) -> None:
        if unit <= self._unit:
            raise InvalidInputError(
                f"unit {self._graph.units[unit].name!r} began after a later one: the model does "
                "not run as it was traced"
            )
        self._unit = unit

    def _run_module(
        self,
        path: str,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        call = ModuleCall(path, self._counts[path])
        self._counts[path] += 1
        if call in self._begins:
            self._enter(self._begins[call])
        if call not in self._steps:
            return forward(*args, **kwargs)
        with self._glue.paused():
            module = self._model.get_submodule(path)
            return self._note(module, forward, args, kwargs)

    def _record(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        return self._note(function, function, args, kwargs)

    def _note(
        self,
        noted: Callable[..., Any],
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run ``function`` and write it down as a call of ``noted``."""
        arguments = flatten(args, kwargs)
        ambient = current_ambient(self._device_type)
        output = function(*args, **kwargs)
        results = [leaf for leaf in output_leaves(output) if isinstance(leaf, Tensor)]
        if arguments.changed() or results:
            self._tape.append(noted, arguments, output, self._unit, ambient)
            self._describe(results)
        return output

    def _describe(self, results: list[Tensor]) -> None:
        call = self._tape.calls[-1]
        made = {number for number in call.outputs if number is not None}
        for tensor in results:
            number = self._tape.number_of(tensor)
            if number in made and number not in self._values:
                storage = tensor.untyped_storage()
                self._values[number] = ValueInfo(
                    self._storage_number(storage),
                    storage.nbytes(),
                    layout_of(tensor),
                    tensor.requires_grad,
                )

    def _storage_number(self, storage: torch.UntypedStorage) -> int:
        key = storage._cdata
        if key in self._static:
            return -1
        if key not in self._storages:
            # The reference keeps the address from being used twice.
            self._storages[key] = (StorageWeakRef(storage), len(self._storages))
        return self._storages[key][1]

    def _origins(self) -> dict[int, Origin]:
        parameters = {id(t): n for n, t in self._model.named_parameters(remove_duplicate=True)}
        buffers = {id(t): n for n, t in self._model.named_buffers(remove_duplicate=True)}
        leaves = enumerate(pytree.tree_leaves(self._inputs))
        batch = {id(leaf): position for position, leaf in leaves}
        origins = {}
        for number, held in self._tape.inputs.items():
            assert isinstance(held, HeldTensor)
            key = id(held.tensor)
            if key in parameters:
                origins[number] = Origin(parameter=parameters[key])
            elif key in buffers:
                origins[number] = Origin(buffer=buffers[key])
            elif key in batch:
                origins[number] = Origin(batch=batch[key])
            else:
                origins[number] = Origin(constant=_constant(held.tensor))
        return origins


def _constant(tensor: Tensor) -> Tensor:
    if isinstance(tensor, torch._subclasses.fake_tensor.FakeTensor):
        raise InvalidInputError(
            f"the model reads a tensor of shape {list(tensor.shape)} that is no parameter, buffer "
            "or input of it; allowed in a pipeline: those"
        )
    return tensor.detach()


def _static_storages(model: nn.Module, inputs: ExampleInputs) -> dict[int, StorageWeakRef]:
    """Storages that exist before the step."""
    leaves = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    tensors = [*model.parameters(), *model.buffers(), *leaves]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage._cdata: StorageWeakRef(storage) for storage in storages}
