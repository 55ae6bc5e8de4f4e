"""How a tensor views its storage, so that it can be made again over another one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["PLAIN_TYPES", "Layout", "bytes_of", "is_plain", "layout_of"]

PLAIN_TYPES = frozenset({Tensor, torch.nn.Parameter, torch.nn.Buffer})
"""Types of tensors that do nothing of their own when an operator is called on them."""


class Layout(NamedTuple):
    """A strided view.

    Attributes:
        offset: in elements.
        size, stride: of every dimension.
        dtype: of the elements.
        conjugated, negated: whether the values are read as such.
    """

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    conjugated: bool
    negated: bool

    def over(self, storage: torch.UntypedStorage) -> Tensor:
        """View ``storage`` in this layout; needs no gradient."""
        tensor = torch.empty(0, dtype=self.dtype, device=storage.device)
        tensor.set_(storage, self.offset, self.size, self.stride)
        if self.conjugated:
            tensor = tensor.conj()
        return torch._neg_view(tensor) if self.negated else tensor


def layout_of(tensor: Tensor) -> Layout:
    """Return the layout of a plain tensor."""
    return Layout(
        int(tensor.storage_offset()),
        tensor.size(),
        tensor.stride(),
        tensor.dtype,
        tensor.is_conj(),
        tensor.is_neg(),
    )


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is nothing but a strided view of one storage."""
    return (
        type(tensor) in PLAIN_TYPES
        and tensor.layout is torch.strided
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def bytes_of(storage: torch.UntypedStorage) -> Tensor:
    """View a whole storage as uint8 ``[num_bytes]``."""
    view = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return view.set_(storage, 0, (storage.nbytes(),), (1,))
