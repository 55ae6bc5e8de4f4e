"""Building a model for tracing only: its parameters have shapes and no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.weak import WeakIdKeyDictionary

from remora.zoo.example import Example
from remora.zoo.registry import build_target

__all__ = ["build_without_memory", "parameters_without_memory"]


def build_without_memory(target: str, values: Mapping[str, Any] | None = None) -> Example:
    """Build a target as ``build_target`` does, but with its parameters on the meta device.

    Buffers and example inputs are real tensors on the CPU, because a forward may read them
    (rotary frequencies, window indices, latitude weights); a buffer computed from a parameter is
    on the meta device as that is. Every constructor runs as written, so it may read host values
    such as the drop rates of its blocks; only the initialisation of parameters has no effect.
    Tied parameters stay tied.

    Args:
        target: ``package.module:function``.
        values: keyword arguments of the function.

    Raises:
        ValueError: see ``build_target``.
        TypeError: see ``build_target``.
        RuntimeError: a constructor reads the values of its own parameters; such a model can
            only be built by ``build_target``.
    """
    with parameters_without_memory():
        return build_target(target, values)


@contextmanager
def parameters_without_memory() -> Iterator[None]:
    """Move every parameter to the meta device at the moment a module registers it.

    A layer allocates with ``torch.empty``, registers, then initialises; the operating system
    gives no pages before the first write, so even large layers cost no memory. The hook is
    PyTorch's own and global: it sees modules built by other threads too while it is in place.
    """
    known = WeakIdKeyDictionary()  # what replaced a parameter that may be registered once more

    def replace(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return None
        if parameter not in known:
            known[parameter] = _without_memory(parameter)
        replacement: nn.Parameter = known[parameter]
        return replacement

    # The annotation of PyTorch's function says None; its text allows a new parameter.
    handle = register_module_parameter_registration_hook(cast("Callable[..., None]", replace))
    try:
        yield
    finally:
        handle.remove()


def _without_memory(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
