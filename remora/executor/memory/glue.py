"""A torch-function mode that sees the calls a parent module makes between its submodules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _pop_mode,
    _push_mode,
)
from torch.utils import _pytree as pytree

__all__ = ["CallRecorder", "GlueMode", "changes_in_place", "returns_tensor"]

Function = Callable[..., Any]


class CallRecorder(Protocol):
    """Runs a function and writes it down if it matters; None of it if nothing is recorded."""

    def __call__(self, function: Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run ``function(*args, **kwargs)``."""
        ...


class GlueMode(TorchFunctionMode):
    """Hands every PyTorch call to a recorder, except inside :meth:`paused`.

    The mode is entered and left with the root model's forward, so that it never interleaves with
    modes of the model's own.

    Args:
        record: runs a call.
    """

    def __init__(self, record: CallRecorder) -> None:
        super().__init__()
        self._record = record
        self._paused = False

    def __torch_function__(
        self,
        func: Function,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one PyTorch call; PyTorch takes the mode off the stack meanwhile."""
        kwargs = dict(kwargs or {})
        if self._paused or torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)
        return self._record(func, args, kwargs)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let calls pass; costs them nothing if no mode was entered after this one."""
        if _get_current_function_mode() is self:
            _pop_mode()
            try:
                yield
            finally:
                _push_mode(self)
            return
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before


def changes_in_place(function: Function) -> bool:
    """Whether a PyTorch function may change a tensor without returning one."""
    name = getattr(function, "__name__", "")
    return name in ("__setitem__", "__set__") or (name.endswith("_") and not name.endswith("__"))


def returns_tensor(output: Any) -> bool:
    """Whether there is a tensor among the leaves of ``output``."""
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(output))
