"""What a module computes with besides its arguments: modes and weights, so a replay has them again.

Between a forward and its backward a loop may switch to evaluation, or call the model with other
weights for a moment (``torch.func.functional_call``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from remora.executor.memory.buffers import BufferSlot
from remora.executor.memory.tape import HeldTensor, hold

__all__ = ["ModuleState", "ModuleTree"]


@dataclass(frozen=True, slots=True)
class ModuleState:
    """State of a tree of modules before a call.

    Attributes:
        training: of every module.  # [num_modules]
        tensors: weights and buffers, where there are any.  # [num_tensors]
    """

    training: tuple[bool, ...]
    tensors: tuple[HeldTensor | None, ...]


class ModuleTree:
    """A module whose calls are replayed, and the modules inside it.

    Args:
        module: the outermost one.
        path: its name in the model, for messages.
        changing: buffers that the forward changes, which a replay takes care of by itself.
    """

    def __init__(self, module: nn.Module, path: str, changing: Sequence[BufferSlot]) -> None:
        left_out = {(id(slot.module), slot.name) for slot in changing}
        self._modules = tuple(module.modules())
        self._places: list[tuple[dict[str, Any], str]] = []
        self._names: list[str] = []
        for name, part in module.named_modules(prefix=path):
            for place in (part._parameters, part._buffers):
                leaves = [leaf for leaf in place if (id(part), leaf) not in left_out]
                self._places += [(place, leaf) for leaf in leaves]
                self._names += [f"{name}.{leaf}" for leaf in leaves]

    def state(self) -> ModuleState:
        """Return the present state."""
        return ModuleState(
            tuple([module.training for module in self._modules]),
            tuple([_held(place.get(name)) for place, name in self._places]),
        )

    def again(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that runs ``forward`` in what is the state now."""
        state = self.state()

        def run(*args: Any, **kwargs: Any) -> Any:
            with self._put_back(state):
                return forward(*args, **kwargs)

        return run

    @contextlib.contextmanager
    def _put_back(self, state: ModuleState) -> Iterator[None]:
        """Have an earlier state meanwhile.

        Raises:
            RuntimeError: a weight or buffer was changed in place since.
        """
        entries = list(zip(self._places, state.tensors, self._names, strict=True))
        for _, held, name in entries:
            if held is not None and held.changed:
                raise RuntimeError(
                    f"{name!r} was changed in place between the forward and the backward that "
                    "recomputes with it; change weights after all backwards that need them"
                )
        modes = [module.training for module in self._modules]
        others = [
            (place, leaf, place[leaf], held.tensor)
            for (place, leaf), held, _ in entries
            if held is not None and place[leaf] is not held.tensor
        ]
        for place, leaf, _, tensor in others:
            place[leaf] = tensor
        self._set_training(state.training)
        try:
            yield
        finally:
            self._set_training(modes)
            for place, leaf, tensor, _ in others:
                place[leaf] = tensor

    def _set_training(self, training: Sequence[bool]) -> None:
        for module, mode in zip(self._modules, training, strict=True):
            if module.training != mode:
                module.training = mode


def _held(tensor: Tensor | None) -> HeldTensor | None:
    # Tensors made under inference mode count no changes.
    return None if tensor is None or tensor.is_inference() else hold(tensor)
