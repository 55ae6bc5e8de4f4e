"""Arguments of traced operators, made up again on a real device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import torch

from remora.graph.model_graph import Spec, TensorView

__all__ = [
    "MutableArguments",
    "UnsupportedArgument",
    "find_operator",
    "make_storage",
    "split_arguments",
    "tensor_leaves",
    "view_of",
    "without_dropout",
]

_BLOCK = 1 << 16
# Largest magnitude of made-up numbers by role: weights are small in real models, and a unit's
# activations stay finite through many layers only if they are.
_PARAMETER_SCALE = 0.02


class UnsupportedArgument(Exception):  # noqa: N818 - never leaves this package
    """An argument of a traced operator that cannot be made up again."""


def find_operator(name: str) -> Callable[..., Any]:
    """Return the operator behind an overload name such as ``aten.addmm.default``."""
    found = reduce(getattr, name.split("."), torch.ops)
    if not isinstance(found, torch._ops.OpOverload):
        raise UnsupportedArgument(f"{name} is not an operator of this PyTorch")
    return found


def make_storage(num_bytes: int, dtype: str, role: str, device: torch.device) -> torch.Tensor:
    """Return a made-up block of memory, as a flat tensor of its natural dtype.

    Floats are random (normal, small for parameters), integers zero (a valid index and class
    everywhere), booleans true (nothing masked).

    Args:
        num_bytes: size of the block.
        dtype: dtype of the tensors that view it.
        role: role of the storage, see ``model_graph``.
        device: where it lies.
    """
    kind = getattr(torch, dtype)
    flat = torch.empty(-(-num_bytes // kind.itemsize), dtype=kind, device=device)
    if kind.is_floating_point or kind.is_complex:
        _fill_random(flat, role)
    else:
        flat.fill_(1 if kind is torch.bool else 0)
    return flat


def view_of(base: torch.Tensor, view: TensorView) -> torch.Tensor:
    """Return the traced view over the storage of ``base``."""
    empty = torch.empty(0, dtype=getattr(torch, view.dtype), device=base.device)
    storage = base.untyped_storage()
    return empty.set_(storage, view.offset, view.shape, view.stride)


def tensor_leaves(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in the result of an operator, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensor_leaves(item)


def without_dropout(function: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Set the dropout of an operator that is given a seed to 0.

    The backward of CUDA's attention reads the seed on the host, where a made-up one does not lie,
    and dies of it if there is dropout. Memory is the same without.

    Args:
        function: from :func:`find_operator`.
        args: positional arguments; changed in place.
        kwargs: keyword arguments; changed in place.
    """
    names = [argument.name for argument in function._schema.arguments]
    if "philox_seed" not in names or "dropout_p" not in names:
        return
    position = names.index("dropout_p")
    if position < len(args):
        args[position] = 0.0
    elif "dropout_p" in kwargs:
        kwargs["dropout_p"] = 0.0


MutableArguments = tuple[list[Any], dict[str, Any], list[tuple[Any, Any, int]]]


def split_arguments(
    args: tuple[Spec, ...], kwargs: tuple[tuple[str, Spec], ...], device: torch.device
) -> MutableArguments:
    """Turn specs into a list and a dict with holes where tensors belong.

    Returns:
        Positional arguments, keyword arguments, and the holes as (container, key, index into
        ``ModelGraph.tensors``); ``container[key] = tensor`` fills one.

    Raises:
        UnsupportedArgument: an argument was no plain value.
    """
    holes: list[tuple[Any, Any, int]] = []
    positional: list[Any] = [None] * len(args)
    named: dict[str, Any] = {}
    for position, spec in enumerate(args):
        positional[position] = _value(spec, positional, position, device, holes)
    for name, spec in kwargs:
        named[name] = _value(spec, named, name, device, holes)
    return positional, named, holes


def _value(
    spec: Spec,
    container: Any,
    key: Any,
    device: torch.device,
    holes: list[tuple[Any, Any, int]],
) -> Any:
    if not isinstance(spec, list | tuple):
        return spec
    tag, value = spec
    if tag == "tensor":
        holes.append((container, key, value))
        return None
    if tag == "list":
        items: list[Any] = [None] * len(value)
        for position, item in enumerate(value):
            items[position] = _value(item, items, position, device, holes)
        return items
    if tag == "device":
        return device
    if tag == "complex":
        return complex(*value)
    if tag in ("dtype", "layout", "memory_format"):
        return getattr(torch, value)
    raise UnsupportedArgument(f"an argument of kind {tag} ({value})")


def _fill_random(flat: torch.Tensor, role: str) -> None:
    """Tile one random block over the tensor, which is much faster than drawing every number."""
    count = min(_BLOCK, flat.numel())
    block = torch.randn(count, dtype=torch.float32, device=flat.device)  # [count]
    if role == "parameter":
        block *= _PARAMETER_SCALE
    elif role == "buffer":
        # Running variances are positive.
        block = block.abs() + 0.5
    block = block.to(flat.dtype)
    whole = flat.numel() // count * count if count else 0
    if whole:
        flat[:whole].view(-1, count).copy_(block.expand(whole // count, count))
        flat[whole:].copy_(block[: flat.numel() - whole])
