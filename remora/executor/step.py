"""One training step as it is measured, and the state that has to survive a measurement."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from remora.errors import UnknownNameError
from remora.executor.memory.install import Handle
from remora.executor.timeline.event_log import SILENT, EventLog
from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss
from remora.schedule.program import InstructionKind

__all__ = ["TrainingStep", "make_optimizer", "model_device", "preserved", "storage_bytes"]

_LEARNING_RATE = 1e-4
_OPTIMIZERS = ("adamw", "adam", "sgd", "sgd_momentum", "none")


class TrainingStep:
    """Forward, loss, backward, optimizer step, gradients set to None.

    The model's output is not held once the loss is computed.

    Args:
        model: trained in place, in its present mode.
        example_inputs: one batch.
        loss: of the output; None for the default.
        optimizer_name: ``adamw``, ``adam``, ``sgd``, ``sgd_momentum`` or ``none``.
        handle: of the plan that is applied to the model, which says where the optimizer keeps its
            state; None for a plain model.
        log: told when the optimizer's step begins.

    Raises:
        InvalidInputError: the plan wants an optimizer in eight bits that does not exist.
        MissingExtraError: the plan wants one of a package that is not installed.
        UnknownNameError: another optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        loss: LossFunction | None,
        optimizer_name: str,
        handle: Handle | None = None,
        log: EventLog = SILENT,
    ) -> None:
        self._model = model
        self._log = log
        self._inputs = example_inputs
        self._loss = resolve_loss(loss)
        self._optimizer = make_optimizer(model, optimizer_name, handle)
        self._state_on_host = handle is not None and handle.optimizer_on_host

    def run(self) -> None:
        """Run one step."""
        self._loss(call_model(self._model, self._inputs)).backward()
        if self._optimizer is not None:
            self._log.begin(InstructionKind.OPTIMIZER, -1, -1, -1)
            self._optimizer.step()
        self._model.zero_grad(set_to_none=True)

    def resident_bytes(self) -> int:
        """Bytes of parameters, buffers, batch and optimizer state, storages counted once.

        What is on the host does not count.
        """
        own = [*self._model.parameters(), *self._model.buffers()]
        held: list[object] = [self._inputs]
        if self._optimizer is not None and not self._state_on_host:
            held += self._optimizer.state.values()
        tensors = [leaf for leaf in pytree.tree_leaves(held) if isinstance(leaf, Tensor)]
        return storage_bytes([*own, *tensors])


class MakesOptimizers(Protocol):
    """What puts the state of an optimizer where a plan says."""

    def make_optimizer(
        self, factory: Callable[[Sequence[Tensor]], torch.optim.Optimizer]
    ) -> torch.optim.Optimizer | None:
        """Make an optimizer; None if there is nothing to train."""
        ...


def make_optimizer(
    model: nn.Module, name: str, place: MakesOptimizers | None = None
) -> torch.optim.Optimizer | None:
    """Make the optimizer ``name`` for all parameters that want gradients; None for ``none``.

    Args:
        model: whose parameters it trains.
        name: one of :data:`remora.schedule.problem.OPTIMIZERS` without master weights.
        place: of its state, the handle of the plan for one; None for a plain model.

    Raises:
        InvalidInputError: the plan wants an optimizer in eight bits that does not exist.
        MissingExtraError: the plan wants one of a package that is not installed.
        UnknownNameError: there is no such optimizer.
    """
    if name not in _OPTIMIZERS:
        raise UnknownNameError("optimizer", name, _OPTIMIZERS)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if name == "none" or not parameters:
        return None
    factory = functools.partial(_new_optimizer, name)
    return factory(parameters) if place is None else place.make_optimizer(factory)


def _new_optimizer(name: str, weights: Sequence[Tensor]) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(weights, lr=_LEARNING_RATE)
    if name == "adam":
        return torch.optim.Adam(weights, lr=_LEARNING_RATE)
    momentum = 0.9 if name == "sgd_momentum" else 0.0
    return torch.optim.SGD(weights, lr=_LEARNING_RATE, momentum=momentum)


def model_device(model: nn.Module) -> torch.device:
    """Return the device of a model's first parameter or buffer; the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


@contextlib.contextmanager
def preserved(model: nn.Module) -> Iterator[State]:
    """Put parameters, buffers, gradients and random state back at the end, whatever happens.

    Yields:
        The state at the beginning; its ``restore()`` goes back to it early.
    """
    state = State(model)
    try:
        yield state
    finally:
        state.restore()
        state.restore_gradients()


class State:
    """A copy, in host memory, of everything a training step changes in a model.

    Gradients are taken off the model until :meth:`restore_gradients`.
    """

    def __init__(self, model: nn.Module) -> None:
        self._device = model_device(model)
        self._gradients = [(p, p.grad) for p in model.parameters()]
        self._tables = [(m._buffers, dict(m._buffers)) for m in model.modules()]
        self._values = [
            (tensor, tensor.detach().to("cpu", copy=True))
            for tensor in (*model.parameters(), *model.buffers())
        ]
        self._random = torch.get_rng_state()
        self._device_random = (
            torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        )
        for parameter, _ in self._gradients:
            parameter.grad = None

    def restore(self) -> None:
        """Go back to this state; gradients become None."""
        for table, entries in self._tables:
            table.update(entries)
        with torch.no_grad():
            for tensor, value in self._values:
                tensor.copy_(value)
        for parameter, _ in self._gradients:
            parameter.grad = None
        torch.set_rng_state(self._random)
        if self._device_random is not None:
            torch.cuda.set_rng_state(self._device_random, self._device)

    def restore_buffers(self) -> None:
        """Go back to the buffers of this state; everything else stays."""
        for table, entries in self._tables:
            table.update(entries)
        with torch.no_grad():
            for tensor, value in self._values:
                if not isinstance(tensor, nn.Parameter):
                    tensor.copy_(value)

    def restore_gradients(self) -> None:
        """Give the parameters the gradients back that they had."""
        for parameter, gradient in self._gradients:
            parameter.grad = gradient


def storage_bytes(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of the storages of some tensors, each counted once."""
    plain = [part for tensor in tensors for part in _parts(tensor)]
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in plain}
    return sum(storages.values())


def _parts(tensor: Any) -> list[Tensor]:
    """Take a tensor apart that consists of others, as quantised and sharded ones do."""
    if not is_traceable_wrapper_subclass(tensor):
        # Attributes that are no tensors are among those of a sharded one.
        return [tensor] if isinstance(tensor, Tensor) else []
    names, _ = tensor.__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(tensor, name))]
