"""Stand-ins for a model's tensors, so that a step can be traced without its memory or its values.

Parameters become fake tensors. Inputs and buffers stay real, as copies, and operators that see only
real tensors run for real while their results are small: masks and position tables then take the
same path as in a real run, also where a model reads a value (``mask.all()``) or looks whether
its input is a fake tensor. Whatever meets a parameter is fake.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._pytree import tree_leaves

MAX_REAL_BYTES = 64 * 2**20
"""Results of real operands larger than this are fake after all."""


def execute_real_if_small(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operator on fake operands, or for real if all operands are real and small."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if any(isinstance(leaf, FakeTensor) or leaf.is_meta for leaf in tensors):
        return func(*args, **kwargs)
    if not _reads_value(func) and _num_bytes(func, args, kwargs) > MAX_REAL_BYTES:
        return func(*args, **kwargs)
    with unset_fake_temporarily():
        return func(*args, **kwargs)


def _reads_value(func: Any) -> bool:
    return bool(torch.Tag.data_dependent_output in func.tags)


def _num_bytes(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Bytes of the result, found on fake operands; 0 where the shape depends on values."""
    mutable = func._schema.is_mutable
    dynamic = torch.Tag.dynamic_output_shape in func.tags
    if mutable or dynamic:
        return 0
    leaves = tree_leaves(func(*args, **kwargs))
    return sum(leaf.untyped_storage().nbytes() for leaf in leaves if isinstance(leaf, Tensor))


@contextlib.contextmanager
def fake_parameters(
    model: nn.Module, mode: FakeTensorMode, device: torch.device | None = None
) -> Iterator[None]:
    """Replace parameters by fake ones and buffers by copies while the context is open.

    Every attribute that a forward sets on a module (a cached table, say) is put back as well.

    Args:
        model: the module.
        mode: of the fake tensors.
        device: where the stand-ins seem to be; None leaves each where it is.
    """
    modules = list(model.modules())
    attributes = [dict(vars(module)) for module in modules]
    parameters = [dict(module._parameters) for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    memo: dict[int, Tensor] = {}
    for module in modules:
        _replace(module._parameters, mode, memo, device)
        _replace(module._buffers, mode, memo, device)
    try:
        yield
    finally:
        for position, module in enumerate(modules):
            vars(module).clear()
            vars(module).update(attributes[position])
            _restore(module._parameters, parameters[position])
            _restore(module._buffers, buffers[position])


def _replace(
    table: dict[str, Any],
    mode: FakeTensorMode,
    memo: dict[int, Tensor],
    device: torch.device | None,
) -> None:
    for name, tensor in table.items():
        if tensor is None:
            continue
        if id(tensor) not in memo:
            memo[id(tensor)] = _stand_in(tensor, mode, device)
        table[name] = memo[id(tensor)]


def _restore(table: dict[str, Any], saved: dict[str, Any]) -> None:
    table.clear()
    table.update(saved)


def _stand_in(tensor: Tensor, mode: FakeTensorMode, device: torch.device | None) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        fake = fake_tensor(tensor.detach(), mode, device)
        return nn.Parameter(fake, requires_grad=tensor.requires_grad)
    copy: Tensor = real_copy(tensor, mode, device)
    return copy


def fake_tensor(tensor: Tensor, mode: FakeTensorMode, device: torch.device | None = None) -> Tensor:
    """A fake tensor of the same layout; one on the meta device becomes a CPU one."""
    if not tensor.is_meta and device in (None, tensor.device):
        fake: Tensor = mode.from_tensor(tensor)
        return fake
    where = torch.device("cpu") if device is None else device
    with mode:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=where)


def real_copy(leaf: Any, mode: FakeTensorMode, device: torch.device | None = None) -> Any:
    """A copy of a real tensor; a fake one where there are no values; other leaves as they are."""
    if not isinstance(leaf, Tensor) or isinstance(leaf, FakeTensor):
        return leaf
    if leaf.is_meta:
        return fake_tensor(leaf, mode, device).requires_grad_(leaf.requires_grad)
    where = leaf.device if device is None else device
    copy = torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=where)
    copy.copy_(leaf.detach())
    return copy.requires_grad_(leaf.requires_grad)
