"""The architectures by name, and building one from a name or a dotted target."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from remora.zoo.example import Example

__all__ = ["ARCHITECTURES", "build", "build_target", "resolve"]

ARCHITECTURES: Mapping[str, str] = {
    "bert": "remora.zoo.bert:bert",
    "climate_unet": "remora.zoo.climate_unet:climate_unet",
    "convnext": "remora.zoo.convnext:convnext",
    "fno2d": "remora.zoo.fno2d:fno2d",
    "gpt2": "remora.zoo.gpt2:gpt2",
    "llama": "remora.zoo.llama:llama",
    "mamba2": "remora.zoo.mamba2:mamba2",
    "qwen3": "remora.zoo.qwen3:qwen3",
    "resnet": "remora.zoo.resnet:resnet",
    "swin": "remora.zoo.swin:swin",
    "t5": "remora.zoo.t5:t5",
    "unet": "remora.zoo.unet:unet",
    "vit": "remora.zoo.vit:vit",
}


def build(architecture: str, **values: Any) -> Example:
    """Build a model of the zoo.

    Args:
        architecture: a key of ``ARCHITECTURES``.
        **values: the sizes that the architecture's function asks for.

    Raises:
        ValueError: the architecture or one of the values is not known, or not allowed.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}{_advice(architecture)}")
    return build_target(ARCHITECTURES[architecture], values)


def build_target(target: str, values: Mapping[str, Any] | None = None) -> Example:
    """Call the builder that a dotted target names.

    Args:
        target: ``package.module:function``; the function returns ``(model, example_inputs)`` or
            ``(model, example_inputs, loss)``.
        values: its keyword arguments.

    Raises:
        ValueError: the target names nothing, or the values do not match its arguments.
        TypeError: the function returns something else.
    """
    values = dict(values or {})
    function = resolve(target)
    _check_values(target, function, values)
    return _as_example(target, function(**values))


def resolve(target: str) -> Callable[..., Any]:
    """Import the function behind ``package.module:function``.

    Raises:
        ValueError: the text has another form, the module or its attribute does not exist, or
            the attribute cannot be called.
    """
    module_name, colon, function_name = target.partition(":")
    if not (colon and module_name and function_name):
        raise ValueError(f"target {target!r} is not of the form package.module:function")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(missing + "."):
            raise ValueError(f"target {target!r}: there is no module {missing!r}") from error
        raise ValueError(
            f"target {target!r}: its module needs the package {missing!r}, which is not installed"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"target {target!r}: {module_name} has no function {function_name!r}")
    return function  # type: ignore[no-any-return]


def _check_values(target: str, function: Callable[..., Any], values: Mapping[str, Any]) -> None:
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in values:
        if name not in parameters:
            raise ValueError(f"{target} takes no value {name!r}{_advice(name, parameters)}")
    missing = [n for n, p in parameters.items() if p.default is p.empty and n not in values]
    if missing:
        raise ValueError(f"{target} needs values for {', '.join(missing)}")
    for name, value in values.items():
        if parameters[name].annotation in (int, "int"):
            _check_number(name, value)


def _check_number(name: str, value: object) -> None:
    """Sizes of nothing would be built, planned and measured without a word."""
    least = 1 if name == "batch" else 0
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}; allowed: whole numbers from {least}")


def _as_example(target: str, built: object) -> Example:
    from torch import nn

    if not isinstance(built, tuple) or len(built) not in (2, 3):
        raise TypeError(
            f"target {target!r} must return (model, example_inputs) or "
            f"(model, example_inputs, loss), not {type(built).__name__}"
        )
    example = Example(*built)
    if not isinstance(example.model, nn.Module):
        raise TypeError(
            f"target {target!r}: the model is of type {type(example.model).__name__}, "
            "not torch.nn.Module"
        )
    if not isinstance(example.example_inputs, dict | tuple):
        raise TypeError(
            f"target {target!r}: example_inputs is of type "
            f"{type(example.example_inputs).__name__}, not a dict of keyword arguments or a "
            "tuple of positional arguments"
        )
    if example.loss is not None and not callable(example.loss):
        raise TypeError(f"target {target!r}: loss is neither None nor a function")
    return example


def _advice(name: str, valid: Iterable[str] = ARCHITECTURES) -> str:
    close = difflib.get_close_matches(name, list(valid), n=3)
    if close:
        return ": did you mean " + " or ".join(repr(candidate) for candidate in close) + "?"
    return ": allowed are " + ", ".join(sorted(valid))
