"""The body that U-Nets share: a contracting path, an expanding path, skips between them.

Letters in shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["UShape", "doubling_widths"]

Block = Callable[[int, int], nn.Module]


class Expand(nn.Module):
    """Double the grid, join the skip of that resolution, mix both."""

    def __init__(self, channels: int, skip_channels: int, block: Block) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(channels, skip_channels, kernel_size=2, stride=2)
        self.block = block(2 * skip_channels, skip_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """Map ``[B, channels, H, W]`` and its skip to the skip's shape.

        Shapes:
            skip and output ``[B, skip_channels, 2H, 2W]``.
        """
        mixed: Tensor = self.block(torch.cat([skip, self.upsample(x)], dim=1))
        return mixed


class UShape(nn.Module):
    """The U of Ronneberger et al. 2015, with a block of the caller's choice on every level.

    Args:
        in_channels: channels of the input.
        widths: channels per level, finest first; every level but the last is halved by pooling.
        block: builds the block of a level from its input and output channels; it keeps the grid.

    Shapes:
        input ``[B, in_channels, H, W]``, H and W multiples of ``2 ** (len(widths) - 1)``;
        output ``[B, widths[0], H, W]``.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], block: Block) -> None:
        super().__init__()
        inner = [in_channels, *widths]
        self.contracting = nn.ModuleList(
            block(inner[level], inner[level + 1]) for level in range(len(widths) - 1)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottom = block(inner[-2], inner[-1])
        self.expanding = nn.ModuleList(
            Expand(widths[level + 1], widths[level], block)
            for level in reversed(range(len(widths) - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, widths[0], H, W]``."""
        skips: list[Tensor] = []
        for block in self.contracting:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for expand in self.expanding:
            x = expand(x, skips.pop())
        return x


def doubling_widths(first: int, levels: int, height: int, width: int) -> list[int]:
    """Give the channels per level, doubled from level to level.

    Raises:
        ValueError: fewer than two levels, or a grid that the pooling does not divide.
    """
    if levels < 2:
        raise ValueError(f"levels is {levels}; a U-Net has at least 2")
    factor = 2 ** (levels - 1)
    if height % factor or width % factor:
        raise ValueError(
            f"the grid is {height} x {width}; with {levels} levels both sides must be multiples "
            f"of {factor}"
        )
    return [first * 2**level for level in range(levels)]
