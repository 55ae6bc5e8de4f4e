"""U-Net for the segmentation of images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from remora.zoo.example import Example
from remora.zoo.inputs import class_maps, fields
from remora.zoo.precision import cast_parameters, float_dtype
from remora.zoo.prediction import Prediction
from remora.zoo.u_shape import UShape, doubling_widths

__all__ = ["SegmentationUNet", "unet"]


def unet(
    *,
    base_width: int,
    levels: int,
    channels: int,
    classes: int,
    resolution: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build a U-Net that gives every pixel a class (Ronneberger et al. 2015, with batch norm).

    Args:
        base_width: channels of the finest level, doubled from level to level.
        levels: resolutions of the U, the coarsest included.
        channels: of the images.
        classes: per pixel.
        resolution: side of the square images in pixels, a multiple of ``2 ** (levels - 1)``.
        batch: samples.
        dtype: of parameters, running statistics and images.

    Shapes:
        image: ``[batch, channels, resolution, resolution]``.
        target: int64 ``[batch, resolution, resolution]``.
    """
    number_format = float_dtype(dtype)
    widths = doubling_widths(base_width, levels, resolution, resolution)
    model = cast_parameters(SegmentationUNet(channels, widths, classes), number_format).train()
    image = fields(batch, channels, resolution, resolution, number_format)
    target = class_maps(batch, resolution, resolution, classes)
    return Example(model, {"image": image, "target": target})


class SegmentationUNet(nn.Module):
    """A U of double convolutions and a 1x1 classifier, with its cross entropy.

    Args:
        channels: of the images.
        widths: channels per level, finest first.
        classes: per pixel.
    """

    def __init__(self, channels: int, widths: list[int], classes: int) -> None:
        super().__init__()
        self.body = UShape(channels, widths, _double_convolution)
        self.head = nn.Conv2d(widths[0], classes, kernel_size=1)

    def forward(self, image: Tensor, target: Tensor) -> Prediction:
        """Give the mean cross entropy and the logits.

        Shapes:
            image ``[B, channels, H, W]``, target int64 ``[B, H, W]``; logits
            ``[B, classes, H, W]``.
        """
        logits = self.head(self.body(image))
        return Prediction(F.cross_entropy(logits, target), logits)


def _double_convolution(in_channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
