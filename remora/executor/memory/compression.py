"""Int8 copies of storages, with one float32 scale per block of values.

Code 0 stands for zero, code +-(k + 1) for +-k steps of the block. So a value that is rounded to
no steps keeps its sign: the backward of a ReLU, which only asks whether its result was positive,
stays exact, where plain rounding would lose the gradient of every small result.

Legend: n values of the storage, b blocks of 256 values, the last one shorter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from remora.schedule.recompute import BLOCK_ELEMENTS

__all__ = ["CompressedStorage", "can_hold", "compress", "restore"]

_DTYPES = frozenset({torch.float64, torch.float32, torch.bfloat16, torch.float16})

_STEPS = 126.0
_LARGEST = 127.0

_REMAINS = 2.0**-10
"""What is left of a value of no steps, in steps."""

# Pieces are worked on one after the other, so that temporaries stay small beside the storage.
_PIECES = 32
_SMALLEST_PIECE = 8 * BLOCK_ELEMENTS


def compress(values: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise every block to steps of 1/126 of its largest magnitude.

    Infinities stand for the largest number of the block then; a block with something that is not a
    number is restored as nothing else.

    Args:
        values: floating.  # [n]

    Returns:
        codes, int8 [n], and scales, float32 [b].
    """
    count = values.numel()
    blocks = -(-count // BLOCK_ELEMENTS)
    codes = torch.empty(count, dtype=torch.int8, device=values.device)
    scales = torch.empty(blocks, dtype=torch.float32, device=values.device)
    limit = torch.finfo(torch.float32).max
    for piece, block in _pieces(count):
        part = _blocks(values[piece])  # [blocks of the piece, values of a block]
        low, high = torch.aminmax(part, dim=1)
        scale = torch.maximum(-low, high).float().clamp_(max=limit) / _STEPS
        scales[block] = scale
        # A block of zeros has no scale; its codes are zeros whatever they are divided by.
        scaled = part / scale.masked_fill_(scale == 0, 1.0)[:, None]
        scaled.nan_to_num_(0.0, _STEPS, -_STEPS)
        signs = scaled.sign()
        scaled.round_().add_(signs).clamp_(-_LARGEST, _LARGEST)
        codes[piece].view(part.shape).copy_(scaled)
    return codes, scales


def restore(codes: Tensor, scales: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the values that codes and scales stand for.

    Args:
        codes: int8.  # [n]
        scales: float32.  # [b]
        dtype: of the result.

    Returns:
        values.  # [n]
    """
    values = torch.empty(codes.numel(), dtype=dtype, device=codes.device)
    for piece, block in _pieces(codes.numel()):
        _restore_blocks(_blocks(codes[piece]), scales[block], _blocks(values[piece]))
    return values


def _restore_blocks(codes: Tensor, scales: Tensor, out: Tensor) -> Tensor:
    """Write the values of whole blocks into ``out``.

    Args:
        codes: int8.  # [blocks, values of a block]
        scales: float32.  # [blocks]
        out: floating.  # [blocks, values of a block]
    """
    out.copy_(codes).sub_(codes.sign(), alpha=1.0 - _REMAINS)
    return out.mul_(scales[:, None])


def can_hold(storage: torch.UntypedStorage, dtype: torch.dtype) -> bool:
    """Whether a storage is nothing but values of a floating dtype that can be compressed."""
    return dtype in _DTYPES and storage.nbytes() > 0 and storage.nbytes() % dtype.itemsize == 0


class CompressedStorage:
    """A saved storage that is compressed until it is restored.

    Args:
        storage: all of it is compressed.
        dtype: of its values.
        judge: whether to find the error.

    Attributes:
        error: largest error over the storage's largest value; None if it was not asked for.
    """

    def __init__(self, storage: torch.UntypedStorage, dtype: torch.dtype, judge: bool) -> None:
        values = torch.empty(0, dtype=dtype, device=storage.device)
        values.set_(storage, 0, (storage.nbytes() // dtype.itemsize,), (1,))
        self._packed: tuple[Tensor, Tensor] | None = compress(values)
        self._dtype = dtype
        self._restored: Tensor | None = None
        self.error = _largest_error(values, *self._packed) if judge else None

    def restore(self) -> None:
        """Make the values again and give the compressed copy up; a second call does nothing."""
        if self._packed is not None:
            self._restored = restore(*self._packed, self._dtype)
            self._packed = None

    def storage(self) -> torch.UntypedStorage:
        """Return the restored storage."""
        self.restore()
        assert self._restored is not None
        return self._restored.untyped_storage()


def _pieces(count: int) -> Iterator[tuple[slice, slice]]:
    """Cut ``count`` values at borders of blocks; yields ranges of values and of blocks."""
    length = max(_SMALLEST_PIECE, -(-count // (_PIECES * BLOCK_ELEMENTS)) * BLOCK_ELEMENTS)
    whole = count // BLOCK_ELEMENTS * BLOCK_ELEMENTS
    borders = [*range(0, whole, length), whole]
    if count > whole:
        borders.append(count)
    for start, end in itertools.pairwise(borders):
        yield slice(start, end), slice(start // BLOCK_ELEMENTS, -(-end // BLOCK_ELEMENTS))


def _blocks(values: Tensor) -> Tensor:
    """View whole blocks, or one block that is shorter, as rows."""
    return values.view(-1, min(BLOCK_ELEMENTS, values.numel()))


def _largest_error(values: Tensor, codes: Tensor, scales: Tensor) -> float:
    """Largest error of finite values over the largest of them."""
    largest = error = 0.0
    for piece, block in _pieces(values.numel()):
        part = _blocks(values[piece]).float()  # [blocks of the piece, values of a block]
        again = _restore_blocks(_blocks(codes[piece]), scales[block], torch.empty_like(part))
        finite = torch.isfinite(part)
        largest = max(largest, part.abs().masked_fill_(~finite, 0.0).max().item())
        error = max(error, (part - again).abs_().masked_fill_(~finite, 0.0).max().item())
    return error / largest if largest > 0 else 0.0
