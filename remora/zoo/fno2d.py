"""FNO: a neural operator that mixes a field's low Fourier modes, for flow and climate fields."""

from __future__ import annotations

import torch
from neuralop.models import FNO
from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.example import Example
from remora.zoo.inputs import fields
from remora.zoo.prediction import Prediction

__all__ = ["FieldRegression", "fno2d"]


def fno2d(
    *,
    layers: int,
    width: int,
    modes: int,
    in_channels: int,
    out_channels: int,
    resolution: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build a two-dimensional Fourier neural operator (Li et al. 2020).

    Args:
        layers: Fourier layers.
        width: hidden channels.
        modes: Fourier modes kept per direction, at most ``resolution``.
        in_channels: fields in.
        out_channels: fields out.
        resolution: grid points per direction.
        batch: samples.
        dtype: ``"float32"`` only, since there is no 16-bit complex arithmetic.

    Raises:
        ValueError: another dtype, or more modes than grid points.

    Shapes:
        field: ``[batch, in_channels, resolution, resolution]``.
        target: ``[batch, out_channels, resolution, resolution]``.
    """
    if dtype != "float32":
        raise ValueError(f"dtype is {dtype!r}; fno2d allows float32 only")
    if modes > resolution:
        raise ValueError(f"modes is {modes}; at most the resolution, {resolution}, is allowed")
    operator = FNO(
        n_modes=(modes, modes),
        in_channels=in_channels,
        out_channels=out_channels,
        hidden_channels=width,
        n_layers=layers,
    )
    model = FieldRegression(operator).train()
    field = fields(batch, in_channels, resolution, resolution, torch.float32)
    target = fields(batch, out_channels, resolution, resolution, torch.float32, seed=1)
    return Example(model, {"field": field, "target": target})


class FieldRegression(nn.Module):
    """A map between fields, judged by its mean squared error.

    Args:
        operator: maps ``[B, C_in, H, W]`` to ``[B, C_out, H, W]``.
    """

    def __init__(self, operator: nn.Module) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, field: Tensor, target: Tensor) -> Prediction:
        """Give the mean squared error against ``target`` and the predicted field."""
        predicted = self.operator(field)
        return Prediction(F.mse_loss(predicted, target), predicted)
