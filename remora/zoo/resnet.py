"""ResNet: bottleneck blocks of convolutions and batch norm."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import ResNetConfig, ResNetForImageClassification

from remora.zoo.example import Example
from remora.zoo.inputs import class_labels, fields
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["resnet"]


def resnet(
    *,
    depths: Sequence[int],
    stem_width: int,
    widths: Sequence[int],
    resolution: int,
    classes: int,
    batch: int,
    dtype: str,
) -> Example:
    """Build ResNet for image classification (He et al. 2015; stride in the 3x3 convolution).

    Args:
        depths: bottleneck blocks per stage; every stage after the first halves the grid.
        stem_width: channels after the stem.
        widths: output channels per stage.
        resolution: side of the square images in pixels.
        classes: number of labels.
        batch: samples.
        dtype: of parameters, running statistics and images.

    Raises:
        ValueError: ``depths`` and ``widths`` differ in length.

    Shapes:
        pixel_values: ``[batch, 3, resolution, resolution]``.
        labels: int64 ``[batch]``.
    """
    if len(depths) != len(widths):
        raise ValueError(
            f"depths has {len(depths)} entries and widths {len(widths)}: one per stage"
        )
    config = ResNetConfig(
        embedding_size=stem_width,
        hidden_sizes=list(widths),
        depths=list(depths),
        layer_type="bottleneck",
        num_labels=classes,
        problem_type="single_label_classification",
    )
    number_format = float_dtype(dtype)
    model = cast_parameters(ResNetForImageClassification(config), number_format).train()
    images = fields(batch, 3, resolution, resolution, number_format)
    return Example(model, {"pixel_values": images, "labels": class_labels(batch, classes)})
