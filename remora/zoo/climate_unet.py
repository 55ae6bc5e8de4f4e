"""A U-Net that steps the weather forward on a latitude/longitude grid.

Letters in shapes: B batch, C channels, H latitudes, W longitudes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.example import Example
from remora.zoo.inputs import fields
from remora.zoo.precision import cast_parameters, float_dtype
from remora.zoo.prediction import Prediction
from remora.zoo.u_shape import UShape, doubling_widths

__all__ = ["ClimateUNet", "SphereConv", "climate_unet"]

_GROUPS = 8


def climate_unet(
    *,
    base_width: int,
    levels: int,
    upper_variables: int,
    pressure_levels: int,
    surface_variables: int,
    latitudes: int,
    longitudes: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build a weather U-Net: all variables now in, all variables one step later out.

    The channels are those of ERA5-based forecasters (Rasp et al. 2020, WeatherBench): every
    upper-air variable on every pressure level, then the surface variables.

    Args:
        base_width: channels of the finest level, a multiple of 8, doubled from level to level.
        levels: resolutions of the U, the coarsest included.
        upper_variables: variables given on pressure levels, such as temperature.
        pressure_levels: levels of each upper-air variable.
        surface_variables: variables given once, such as surface pressure.
        latitudes: rows of the grid, a multiple of ``2 ** (levels - 1)``.
        longitudes: columns of the grid, likewise.
        batch: samples.
        dtype: of parameters and fields.

    Raises:
        ValueError: ``base_width`` is no multiple of 8, or the grid does not divide.

    Shapes:
        state, target: ``[batch, channels, latitudes, longitudes]`` with ``channels =
        upper_variables * pressure_levels + surface_variables``.
    """
    if base_width % _GROUPS:
        raise ValueError(f"base_width is {base_width}; it must be a multiple of {_GROUPS}")
    number_format = float_dtype(dtype)
    widths = doubling_widths(base_width, levels, latitudes, longitudes)
    channels = upper_variables * pressure_levels + surface_variables
    model = cast_parameters(ClimateUNet(channels, widths, latitudes), number_format).train()
    state = fields(batch, channels, latitudes, longitudes, number_format)
    target = fields(batch, channels, latitudes, longitudes, number_format, seed=1)
    return Example(model, {"state": state, "target": target})


class SphereConv(nn.Module):
    """A 3x3 convolution on a globe: longitude wraps around, the poles repeat their last row."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in_channels, H, W]`` to ``[B, out_channels, H, W]``."""
        x = F.pad(x, (1, 1, 0, 0), mode="circular")  # [B, C, H, W + 2]
        # Not F.pad's "replicate" mode: on CUDA its backward adds in random order.
        x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)  # [B, C, H + 2, W + 2]
        convolved: Tensor = self.conv(x)
        return convolved


class ClimateUNet(nn.Module):
    """Predict the change of every field over one step, judged by area-weighted squared error.

    Args:
        channels: fields of the state.
        widths: channels per level of the U, finest first.
        latitudes: rows of the grid.
    """

    latitude_weight: Tensor

    def __init__(self, channels: int, widths: list[int], latitudes: int) -> None:
        super().__init__()
        self.body = UShape(channels, widths, _sphere_block)
        self.head = nn.Conv2d(widths[0], channels, kernel_size=1)
        self.register_buffer("latitude_weight", latitude_weights(latitudes))

    def forward(self, state: Tensor, target: Tensor) -> Prediction:
        """Give the weighted mean squared error and the next state.

        Shapes:
            state, target and next state ``[B, channels, H, W]``.
        """
        following = state + self.head(self.body(state))
        square = (following - target).square()
        return Prediction((square * self.latitude_weight).mean(), following)


def latitude_weights(latitudes: int) -> Tensor:
    """Weight rows by their area, cos(latitude) at cell centres, mean 1: float32 ``[H, 1]``."""
    step = math.pi / latitudes
    centres = [-math.pi / 2 + (row + 0.5) * step for row in range(latitudes)]
    weights = torch.tensor([math.cos(centre) for centre in centres], device="cpu")
    return (weights / weights.mean()).unsqueeze(1)


def _sphere_block(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        SphereConv(in_channels, out_channels),
        nn.GroupNorm(_GROUPS, out_channels),
        nn.SiLU(),
        SphereConv(out_channels, out_channels),
        nn.GroupNorm(_GROUPS, out_channels),
        nn.SiLU(),
    )
