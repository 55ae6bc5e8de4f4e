"""A torch-function mode that sees the calls a parent module makes between its submodules."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _pop_mode,
    _push_mode,
)

__all__ = ["GlueMode", "Record"]

Record = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class GlueMode(TorchFunctionMode):
    """Hands every PyTorch call to a recorder, except inside :meth:`paused`.

    The mode is entered and left with the root model's forward, so that it never interleaves with
    modes of the model's own.

    Args:
        record: runs ``function(*args, **kwargs)`` and writes it down.
    """

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record
        self._paused = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run one PyTorch call; PyTorch takes the mode off the stack meanwhile."""
        kwargs = dict(kwargs or {})
        # Tensors inside a functorch transform mean nothing outside of it.
        if self._paused or torch._C._functorch.peek_interpreter_stack() is not None:
            return func(*args, **kwargs)
        return self._record(func, args, kwargs)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let calls pass; at no cost to them if no mode was entered after this one."""
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
