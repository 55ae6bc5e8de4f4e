"""A dispatch mode that shows every aten call below autograd to the log of the running unit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode_stack,
    _pop_mode,
    _push_mode,
)

from remora.executor.memory.call_log import CallLog
from remora.executor.memory.layout import PLAIN_TYPES
from remora.executor.memory.operators import OperatorTable

__all__ = ["CallRecorder"]


class CallRecorder(TorchDispatchMode):
    """Is on the stack of modes only while a unit is logged.

    It always lies at the depth at which the forward of the root model began, below modes that the
    model entered meanwhile, so that their exits find them on top.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operators = OperatorTable()
        self._depth = 0
        self._log: CallLog | None = None
        self._paused = False

    def begin_forward(self) -> None:
        """Note where the stack of modes stands."""
        self._depth = len(_get_current_dispatch_mode_stack())

    def start(self, log: CallLog) -> None:
        """Show calls to ``log`` from now on."""
        self._log = log
        above = self._take_off()
        _push_mode(self)
        _put_back(above)

    def stop(self) -> None:
        """Leave the stack of modes; does nothing if it is not there."""
        if self._log is None:
            return
        self._log = None
        above = self._take_off()
        assert above[0] is self
        _put_back(above[1:])

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Let calls pass that the runtime itself makes."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one call and write it down; PyTorch takes the mode off the stack meanwhile."""
        if types and not PLAIN_TYPES.issuperset(types):
            # A tensor subclass takes its call apart first; the parts come by here.
            return NotImplemented
        kwargs = kwargs or {}
        operator = self._operators[func]
        if operator.passes or self._paused or self._log is None:
            return func(*args, **kwargs)
        call = self._log.before(operator, func, args, kwargs)
        result = func(*args, **kwargs)
        self._log.after(call, result)
        return result

    def _take_off(self) -> list[TorchDispatchMode]:
        """Take all modes off that were entered since the forward began, lowest first."""
        above = _get_current_dispatch_mode_stack()[self._depth :]
        for _ in above:
            _pop_mode()
        return list(above)


def _put_back(modes: list[TorchDispatchMode]) -> None:
    for mode in modes:
        _push_mode(mode)
