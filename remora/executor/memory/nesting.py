"""Take nested arguments apart and put them together again, quickly where nothing is nested.

Most calls between modules pass tensors and constants side by side; PyTorch's pytree takes longer
for them than small operators run.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType, NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

__all__ = ["Spec", "flatten_arguments", "output_leaves", "unflatten_arguments"]

Spec = pytree.TreeSpec | tuple[str, ...]
"""How leaves nest into (args, kwargs); names of the keyword arguments if nothing is nested."""

_CONSTANTS = frozenset(
    {int, float, bool, str, NoneType, slice, EllipsisType, torch.dtype, torch.device}
)
_LEAVES = _CONSTANTS | {Tensor, nn.Parameter}
_CONSTANT_SEQUENCES = frozenset({tuple, list, torch.Size})


def flatten_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], Spec]:
    """Return the leaves of the arguments and how they nest."""
    flat = (*args, *kwargs.values())
    if all(_is_leaf(value) for value in flat):
        return flat, tuple(kwargs)
    leaves, spec = pytree.tree_flatten((args, kwargs))
    return tuple(leaves), spec


def unflatten_arguments(leaves: Sequence[Any], spec: Spec) -> tuple[Sequence[Any], dict[str, Any]]:
    """Return (args, kwargs) from leaves and how they nest."""
    if isinstance(spec, tuple):
        positional = len(leaves) - len(spec)
        return leaves[:positional], dict(zip(spec, leaves[positional:], strict=True))
    args, kwargs = pytree.tree_unflatten(leaves, spec)
    return args, kwargs


def output_leaves(output: Any) -> list[Any]:
    """Return the leaves of what a call returned."""
    return [output] if type(output) in _LEAVES else pytree.tree_leaves(output)


def _is_leaf(value: Any) -> bool:
    kind = type(value)
    if kind in _CONSTANT_SEQUENCES:
        return all(type(entry) in _CONSTANTS for entry in value)
    return kind in _LEAVES
