"""ConvNeXt: depthwise convolutions in the layout of a transformer block."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import ConvNextConfig, ConvNextForImageClassification

from remora.zoo.example import Example
from remora.zoo.inputs import class_labels, fields
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["convnext"]


def convnext(
    *,
    depths: Sequence[int],
    widths: Sequence[int],
    patch: int,
    resolution: int,
    classes: int,
    drop_path: float,
    batch: int,
    dtype: str,
) -> Example:
    """Build ConvNeXt for image classification (Liu et al. 2022).

    Args:
        depths: blocks per stage; every stage after the first halves the grid.
        widths: channels per stage.
        patch: side of a patch of the stem in pixels.
        resolution: side of the square images in pixels.
        classes: number of labels.
        drop_path: probability at which the last block is skipped, rising linearly from 0.
        batch: samples.
        dtype: of parameters and images.

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
    config = ConvNextConfig(
        num_stages=len(depths),
        depths=list(depths),
        hidden_sizes=list(widths),
        patch_size=patch,
        image_size=resolution,
        drop_path_rate=drop_path,
        num_labels=classes,
        problem_type="single_label_classification",
    )
    number_format = float_dtype(dtype)
    model = cast_parameters(ConvNextForImageClassification(config), number_format).train()
    images = fields(batch, 3, resolution, resolution, number_format)
    return Example(model, {"pixel_values": images, "labels": class_labels(batch, classes)})
