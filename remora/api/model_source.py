"""Where a model comes from, so that another process can build it again."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import remora
from remora.api.configs import load_config
from remora.errors import InvalidInputError, MissingExtraError, ModelRunError
from remora.zoo import Example, build_target, registry

__all__ = ["CUSTOM", "ModelSource", "named_source", "own_error_lines"]

CUSTOM = "custom"


@dataclass(frozen=True)
class ModelSource:
    """A function that builds a model, and its arguments.

    Attributes:
        name: name in ``remora/conf/model``, or ``custom``.
        target: ``package.module:function``.
        values: keyword arguments.
    """

    name: str
    target: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_custom(self) -> bool:
        """Whether it is the user's own function."""
        return self.name == CUSTOM

    def build(self) -> Example:
        """Build the model for real, with random weights where it comes from the zoo.

        Raises:
            InvalidInputError: the target names nothing, or its values are not allowed.
            MissingExtraError: the model needs a package that is not installed.
            ModelRunError: the user's own function failed; its error is the cause.
        """
        return self._call(build_target)

    def build_for_tracing(self) -> Example:
        """Build the model without memory for its parameters where that is possible.

        A user's own function is called as it is: it may read or copy weights.

        Raises:
            See :meth:`build`.
        """
        from remora.zoo.fake import build_without_memory

        if self.is_custom:
            return self.build()
        try:
            return self._call(build_without_memory)
        except RuntimeError:
            # A constructor that reads the values of its own parameters needs real ones.
            return self.build()

    def _call(self, build: Callable[[str, Mapping[str, Any]], Example]) -> Example:
        try:
            registry.resolve(self.target)
        except (Exception, SystemExit) as error:
            raise _cannot_resolve(self, error) from error
        try:
            return build(self.target, self.values)
        except (ValueError, TypeError) as error:
            if self.is_custom and not _raised_by_zoo(error):
                raise _own_failure(self, error) from error
            reason = str(error).strip().split("\n")[0]
            raise InvalidInputError(f"model {self.name}: {reason}") from error
        except (Exception, SystemExit) as error:
            if self.is_custom:
                raise _own_failure(self, error) from error
            raise


def named_source(name: str, values: Mapping[str, Any] | None = None) -> ModelSource:
    """Return a model of ``remora/conf/model``.

    Args:
        name: name of its file.
        values: replace single values of the file.

    Raises:
        UnknownNameError: there is no such file.
    """
    config = load_config("model", name)
    return ModelSource(name, str(config["target"]), {**config["values"], **(values or {})})


def own_error_lines(error: BaseException) -> list[str]:
    """Return the last line of a traceback and the error itself, as Python prints them.

    The line is the last one in code that is neither PyTorch's nor ours, if there is one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _is_library(frame.filename)]
    last = (own or list(frames))[-1:]
    return [
        *(line.rstrip() for line in traceback.format_list(last)),
        *(line.rstrip() for line in traceback.format_exception_only(error)),
    ]


def _is_library(filename: str) -> bool:
    import torch

    folders = (Path(torch.__file__).parent, Path(remora.__file__).parent)
    path = Path(filename)
    return filename.startswith("<") or any(path.is_relative_to(folder) for folder in folders)


def _raised_by_zoo(error: BaseException) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename == registry.__file__


def _own_failure(source: ModelSource, error: BaseException) -> ModelRunError:
    return ModelRunError(f"the function {source.target} failed: {_words(error)}")


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _cannot_resolve(source: ModelSource, error: BaseException) -> Exception:
    """Nothing is there, or the user's own module fails while it is imported."""
    if not _raised_by_zoo(error):
        return ModelRunError(f"the module of {source.target} failed: {_words(error)}")
    missing = error.__cause__
    if isinstance(missing, ModuleNotFoundError) and missing.name and not source.is_custom:
        return MissingExtraError(missing.name, "zoo", f"model {source.name}")
    return InvalidInputError(f"model.target: {error}")
