"""One training step as it is measured, and the state that has to survive a measurement."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from remora.errors import UnknownNameError
from remora.graph.loss import ExampleInputs, LossFunction, call_model, resolve_loss

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

    Raises:
        UnknownNameError: another optimizer.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: ExampleInputs,
        loss: LossFunction | None,
        optimizer_name: str,
    ) -> None:
        self._model = model
        self._inputs = example_inputs
        self._loss = resolve_loss(loss)
        self._optimizer = make_optimizer(model, optimizer_name)

    def run(self) -> None:
        """Run one step."""
        self._loss(call_model(self._model, self._inputs)).backward()
        if self._optimizer is not None:
            self._optimizer.step()
        self._model.zero_grad(set_to_none=True)

    def resident_bytes(self) -> int:
        """Bytes of parameters, buffers, batch and optimizer state, storages counted once."""
        state = self._optimizer.state.values() if self._optimizer is not None else ()
        held = (self._inputs, list(state))
        tensors = [leaf for leaf in pytree.tree_leaves(held) if isinstance(leaf, Tensor)]
        return storage_bytes([*self._model.parameters(), *self._model.buffers(), *tensors])


def make_optimizer(model: nn.Module, name: str) -> torch.optim.Optimizer | None:
    """Make the optimizer ``name`` for all parameters that want gradients; None for ``none``.

    Raises:
        UnknownNameError: there is no such optimizer.
    """
    if name not in _OPTIMIZERS:
        raise UnknownNameError("optimizer", name, _OPTIMIZERS)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if name == "none" or not parameters:
        return None
    if name == "adamw":
        return torch.optim.AdamW(parameters, lr=_LEARNING_RATE)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=_LEARNING_RATE)
    momentum = 0.9 if name == "sgd_momentum" else 0.0
    return torch.optim.SGD(parameters, lr=_LEARNING_RATE, momentum=momentum)


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
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())
