"""Blocks that mix the low Fourier modes of an image, in 32 bits.

Letters in shapes: B batch, C and O channels, H height, W width, M modes.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.calibration.draws import log_uniform

__all__ = ["SpectralConvolution"]


class SpectralConvolution(nn.Module):
    """Transform, multiply the low modes by complex matrices, transform back; a 1x1 skip."""

    def __init__(self, rng: random.Random, width: int, length: int) -> None:
        super().__init__()
        self.modes = log_uniform(rng, 2, length // 2)
        self.shifts = rng.random() < 0.5
        rows = 2 * self.modes
        shape = (width, width, rows, self.modes)
        self.weight = nn.Parameter(torch.randn(shape, dtype=torch.cfloat) / width)
        self.norm = rng.choice(("forward", "backward", "ortho"))
        self.skip = nn.Conv2d(width, width, 1, bias=rng.random() < 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        spectrum = torch.fft.rfft2(x, norm=self.norm)  # complex [B, C, H, W // 2 + 1]
        mixed = torch.fft.irfft2(self._mixed(spectrum), s=x.shape[2:], norm=self.norm)
        return F.gelu(mixed + self.skip(x))

    def _mixed(self, spectrum: Tensor) -> Tensor:
        """Mix the modes that are kept, others are 0."""
        modes = self.modes
        out = torch.zeros_like(spectrum)
        if self.shifts:
            centre = spectrum.shape[2] // 2
            rows = slice(centre - modes, centre + modes)
            middle = torch.fft.fftshift(spectrum, dim=2)[:, :, rows, :modes]
            out[:, :, rows, :modes] = torch.einsum("bchw,cohw->bohw", middle, self.weight)
            shifted: Tensor = torch.fft.ifftshift(out, dim=2)
            return shifted
        for rows, weight in (
            (slice(None, modes), self.weight[:, :, :modes]),
            (slice(-modes, None), self.weight[:, :, modes:]),
        ):
            low = spectrum[:, :, rows, :modes]
            out[:, :, rows, :modes] = torch.einsum("bchw,cohw->bohw", low, weight)
        return out
