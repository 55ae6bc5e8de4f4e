"""The blocks of either kind of network, and how often each is drawn."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from torch import nn

from remora.zoo.calibration import attention_blocks as attention
from remora.zoo.calibration import feed_forward_blocks as feed_forward
from remora.zoo.calibration import image_blocks as image
from remora.zoo.calibration import layout_blocks as layout
from remora.zoo.calibration import resampling_blocks as resampling
from remora.zoo.calibration import scan_blocks as scan
from remora.zoo.calibration.spectral_blocks import SpectralConvolution
from remora.zoo.calibration.window_blocks import WindowAttention

__all__ = ["BLOCKS", "Block", "without_complex"]

Block = Callable[[random.Random, int, int], nn.Module]
"""Makes a block from a source of randomness, the width, and the length or side of an image."""

BLOCKS: Mapping[str, tuple[Block, ...]] = {
    "sequence": (
        feed_forward.FeedForward,
        feed_forward.FeedForward,
        feed_forward.GatedFeedForward,
        feed_forward.GatedFeedForward,
        feed_forward.MeanGate,
        feed_forward.Projection,
        attention.FusedAttention,
        attention.FusedAttention,
        attention.WrittenAttention,
        attention.WrittenAttention,
        attention.RelativeAttention,
        WindowAttention,
        scan.ShortConvolution,
        scan.CumulativeMean,
        scan.ChunkedScan,
        scan.ChunkedScan,
        layout.ShiftMix,
        layout.GatheredMix,
        layout.StackedBranches,
        layout.LengthMix,
        layout.PrefixMix,
        layout.StridedMerge,
        layout.GroupedContraction,
    ),
    "image": (
        image.Convolutions,
        image.Convolutions,
        image.Convolutions,
        image.Bottleneck,
        image.Bottleneck,
        image.ChannelsLast,
        image.ChannelsLast,
        image.ChannelGate,
        image.TwoBranches,
        image.CircularConvolution,
        image.CoordinateConvolution,
        image.SampleDropping,
        image.GridAttention,
        resampling.Pooled,
        resampling.StridedConvolution,
        resampling.Transposed,
        resampling.Shuffled,
        SpectralConvolution,
        SpectralConvolution,
    ),
}
"""Blocks by kind of network; one named twice is drawn twice as often."""


def without_complex(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
    """Leave out the blocks that need complex numbers, of which there are none in 16 bits."""
    return tuple(block for block in blocks if block is not SpectralConvolution)
