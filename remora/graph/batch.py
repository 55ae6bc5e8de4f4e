"""The batch dimension of a model's inputs: reading it, changing it, cutting it up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from remora.errors import InvalidInputError
from remora.graph.loss import ExampleInputs

__all__ = ["batch_of", "matched", "on_device", "outline_of", "split_batch", "with_batch"]


def batch_of(example_inputs: ExampleInputs) -> int:
    """Return the leading dimension that most tensors of the example batch share.

    Raises:
        InvalidInputError: no tensor has a leading dimension.
    """
    sizes: list[int] = [leaf.shape[0] for leaf in tree_leaves(example_inputs) if _has_batch(leaf)]
    if not sizes:
        raise InvalidInputError("example_inputs holds no tensor with a batch dimension")
    return max(sizes, key=sizes.count)


def with_batch(
    example_inputs: ExampleInputs, batch: int, most_float_bytes: float = math.inf
) -> ExampleInputs:
    """Return the example batch with its samples repeated or cut to another size.

    Args:
        example_inputs: tensors whose leading dimension is the batch are resized, others stay.
        batch: new size, at least 1.
        most_float_bytes: larger tensors of floats come without values, on the meta device, and so
            take neither memory nor time.
    """
    old = batch_of(example_inputs)
    index = torch.arange(batch) % old  # [batch]

    def resize(leaf: object) -> object:
        if not _has_batch(leaf) or leaf.shape[0] != old:
            return leaf
        if leaf.is_floating_point() and leaf[0].nbytes * batch > most_float_bytes:
            shape = (batch, *leaf.shape[1:])
            empty = torch.empty(shape, dtype=leaf.dtype, device="meta")
            return empty.requires_grad_(leaf.requires_grad)
        return leaf[index.to(leaf.device)]

    resized: ExampleInputs = tree_map(resize, example_inputs)
    return resized


def split_batch(example_inputs: ExampleInputs, count: int) -> list[ExampleInputs]:
    """Cut a batch into micro-batches of equal size, as views.

    Args:
        example_inputs: tensors whose leading dimension is the batch are cut, others are shared.
        count: number of micro-batches.

    Raises:
        InvalidInputError: the number does not divide the batch.
    """
    batch = batch_of(example_inputs)
    if count < 1 or batch % count:
        raise InvalidInputError(
            f"pipeline.micro_batches is {count}; allowed: divisors of the batch of {batch}"
        )
    size = batch // count

    def part(leaf: object, index: int) -> object:
        if _has_batch(leaf) and leaf.shape[0] == batch:
            return leaf[index * size : (index + 1) * size]
        return leaf

    return [tree_map(lambda leaf, i=index: part(leaf, i), example_inputs) for index in range(count)]


def outline_of(example_inputs: ExampleInputs) -> ExampleInputs:
    """The names and shapes of a batch, without its content."""
    outline: ExampleInputs = tree_map(
        lambda leaf: torch.empty_like(leaf, device="meta") if isinstance(leaf, Tensor) else leaf,
        example_inputs,
    )
    return outline


def matched(outline: ExampleInputs, batch: ExampleInputs) -> ExampleInputs:
    """A batch in the order of another one, which recorded calls read by position.

    Args:
        outline: of the batch that was planned for, see :func:`outline_of`.
        batch: the one at hand.

    Raises:
        InvalidInputError: it has other names, parts, shapes, dtypes or values that are no tensors.
    """
    found: ExampleInputs = _matched(outline, batch, "batch")
    return found


def _matched(outline: Any, given: Any, where: str) -> Any:
    if isinstance(outline, Mapping):
        names = sorted(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        if names != sorted(map(str, outline)):
            raise InvalidInputError(
                f"{where} has {names}; allowed, as planned: {sorted(map(str, outline))}"
            )
        parts = {
            name: _matched(part, given[name], f"{where}[{name!r}]")
            for name, part in outline.items()
        }
        kind: Any = type(outline)
        return kind(parts)
    if isinstance(outline, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(outline):
            found = len(given) if isinstance(given, list | tuple) else type(given).__name__
            raise InvalidInputError(
                f"{where} has {found} parts; allowed, as planned: {len(outline)}"
            )
        pairs = enumerate(zip(outline, given, strict=True))
        made = [_matched(part, own, f"{where}[{place}]") for place, (part, own) in pairs]
        return type(outline)(*made) if hasattr(outline, "_fields") else type(outline)(made)
    if isinstance(outline, Tensor):
        _check_tensor(outline, given, where)
    elif given is not outline and given != outline:
        # What is no tensor stands in the recorded calls themselves.
        raise InvalidInputError(f"{where} is {given!r}; allowed, as planned: {outline!r}")
    return given


def _check_tensor(outline: Tensor, given: object, where: str) -> None:
    if not isinstance(given, Tensor):
        raise InvalidInputError(
            f"{where} is a {type(given).__name__}; allowed, as planned: a tensor"
        )
    for name in ("shape", "dtype"):
        own, planned = getattr(given, name), getattr(outline, name)
        if own != planned:
            own, planned = (tuple(x) if name == "shape" else x for x in (own, planned))
            raise InvalidInputError(f"{where} has {name} {own}; allowed, as planned: {planned}")


def on_device(example_inputs: ExampleInputs, device: torch.device) -> ExampleInputs:
    """Copy the tensors of a batch to a device; those that are there stay themselves."""
    moved: ExampleInputs = tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, example_inputs
    )
    return moved


def _has_batch(leaf: object) -> TypeGuard[Tensor]:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
