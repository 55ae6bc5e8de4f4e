"""Other functions in place of the ``forward`` of some modules, and back."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from remora.errors import InvalidInputError

__all__ = ["Wrapper", "module_at", "wrap", "wrapped_forwards", "wrapped_path"]


Function = Callable[..., Any]
Run = Callable[[Function, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Wrapper:
    """One replaced ``forward``: what the module's own dictionary held, and holds now."""

    module: nn.Module
    path: str
    own: Function | None
    wrapped: Function

    def check(self) -> None:
        """Raise RuntimeError if somebody else replaced it since."""
        if vars(self.module).get("forward") is not self.wrapped:
            raise RuntimeError(
                f"module {self.path!r} was wrapped by somebody else after this plan was applied; "
                "remove that wrapper first"
            )

    def remove(self) -> None:
        """Put back what was there."""
        if self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def wrapped_path(model: nn.Module) -> str | None:
    """The path of a module in a model whose forward is replaced; None if no forward is."""
    wrapped: Iterator[str] = (
        path
        for path, module in model.named_modules()
        if isinstance(vars(module).get("forward"), _Wrapped)
    )
    return next(wrapped, None)


def wrap(module: nn.Module, path: str, run: Run) -> Wrapper:
    """Let ``run(forward, args, kwargs)`` stand for the forward of a module."""
    own = vars(module).get("forward")
    wrapped = _Wrapped(module, own, run)
    module.forward = wrapped
    return Wrapper(module, path, own, wrapped)


class _Wrapped:
    """Stands for the forward of one module; a copy of the module runs its own instead.

    Args:
        module: the module.
        own: what its own dictionary held as ``forward``.
        run: called instead of the forward.
    """

    def __init__(self, module: nn.Module, own: Function | None, run: Run) -> None:
        # Whoever asks for the signature of the forward finds the true one.
        functools.update_wrapper(self, module.forward, updated=())
        self._forward: Function = module.forward
        self._module = module
        self._own = own
        self._run = run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._forward, args, kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> Function:
        if self._own is not None:
            own: Function = copy.deepcopy(self._own, memo)
            return own
        forward: Function = type(self._module).forward.__get__(copy.deepcopy(self._module, memo))
        return forward

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if self._own is not None:
            return _itself, (self._own,)
        # A module that is being read from a file has only the forward of its class yet.
        return getattr, (self._module, "forward")


def _itself(function: Function) -> Function:
    return function


@contextlib.contextmanager
def wrapped_forwards(
    model: nn.Module,
    paths: Iterable[str],
    run: Callable[[str, Function, tuple[Any, ...], dict[str, Any]], Any],
) -> Iterator[None]:
    """Let ``run(path, forward, args, kwargs)`` stand for the forward of some modules meanwhile.

    Raises:
        InvalidInputError: the model lacks a module.
    """
    wrappers: list[Wrapper] = []
    try:
        for path in sorted(paths):
            module = module_at(model, path)
            wrappers.append(wrap(module, path, functools.partial(run, path)))
        yield
    finally:
        for wrapper in wrappers:
            wrapper.remove()


def module_at(model: nn.Module, path: str) -> nn.Module:
    """Return a module by its path.

    Raises:
        InvalidInputError: the model has none.
    """
    try:
        return model.get_submodule(path)
    except AttributeError as error:
        raise InvalidInputError(f"the model has no module {path!r} of its graph") from error
