"""A model some of whose modules compute in fewer bits, for its trace and for its runs alike."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from remora.graph.precision.layers import Int8Weight, product_layers, reduced_layer
from remora.graph.precision.precision import Precision
from remora.graph.wrapping import Function, module_at, wrap

__all__ = ["reduced_model"]


@contextlib.contextmanager
def reduced_model(
    model: nn.Module, precisions: Mapping[str, Precision], forward_only: bool = False
) -> Iterator[None]:
    """Let modules of a model compute in fewer bits while the context is open.

    What they return has the dtype of the model, so those around them do not notice. In training,
    the weights stay what they are, and so do gradients and optimizer.

    Args:
        model: changed in place, and back at the end.
        precisions: by path of the module.
        forward_only: weights are stored in eight bits instead, for passes without gradients.

    Raises:
        InvalidInputError: the model lacks a module.
        MissingExtraError: torchao is needed and not installed.
    """
    with contextlib.ExitStack() as stack:
        seen: set[int] = set()
        for path, precision in precisions.items():
            for remove in _reduce(module_at(model, path), path, precision, forward_only, seen):
                stack.callback(remove)
        yield


def _reduce(
    module: nn.Module, path: str, precision: Precision, forward_only: bool, seen: set[int]
) -> Iterator[Callable[[], None]]:
    """Change one module; yields what undoes it."""
    if precision is Precision.BF16:
        yield wrap(module, path, functools.partial(_in_bf16, module)).remove
        return
    for name, layer in product_layers(module):
        where = f"{path}.{name}" if name else path
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if forward_only:
            yield Int8Weight(layer, where).remove
        else:
            yield reduced_layer(layer, where, precision).remove


def _in_bf16(
    module: nn.Module, forward: Function, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a forward under autocast, which chooses what is safe in bfloat16."""
    tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    floats = [t for t in (*module.parameters(), *tensors) if t.is_floating_point()]
    if not floats:
        return forward(*args, **kwargs)
    own = floats[0].dtype

    def back(leaf: Any) -> Any:
        short = isinstance(leaf, Tensor) and leaf.dtype is torch.bfloat16
        return leaf.to(own) if short else leaf

    # A cache of casts would make a recomputation run other operators than the first run.
    device = floats[0].device.type
    with torch.autocast(device, dtype=torch.bfloat16, cache_enabled=False):
        output = forward(*args, **kwargs)
    return tree_map(back, output)
