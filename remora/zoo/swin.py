"""Swin: a hierarchical transformer whose attention stays inside shifted windows."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import SwinConfig, SwinForImageClassification

from remora.zoo.example import Example
from remora.zoo.inputs import class_labels, fields
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["swin"]


def swin(
    *,
    depths: Sequence[int],
    width: int,
    heads: Sequence[int],
    window: int,
    patch: int,
    resolution: int,
    classes: int,
    drop_path: float,
    batch: int,
    dtype: str,
) -> Example:
    """Build Swin for image classification (Liu et al. 2021).

    Args:
        depths: blocks per stage; every stage after the first halves the grid.
        width: channels of the first stage, doubled from stage to stage.
        heads: attention heads per stage.
        window: side of an attention window in patches.
        patch: side of a patch in pixels.
        resolution: side of the square images in pixels.
        classes: number of labels.
        drop_path: probability at which the last block is skipped, rising linearly from 0.
        batch: samples.
        dtype: of parameters and images.

    Raises:
        ValueError: ``depths`` and ``heads`` differ in length.

    Shapes:
        pixel_values: ``[batch, 3, resolution, resolution]``.
        labels: int64 ``[batch]``.
    """
    if len(depths) != len(heads):
        raise ValueError(f"depths has {len(depths)} entries and heads {len(heads)}: one per stage")
    config = SwinConfig(
        image_size=resolution,
        patch_size=patch,
        embed_dim=width,
        depths=list(depths),
        num_heads=list(heads),
        window_size=window,
        drop_path_rate=drop_path,
        num_labels=classes,
        problem_type="single_label_classification",
    )
    number_format = float_dtype(dtype)
    model = cast_parameters(SwinForImageClassification(config), number_format).train()
    images = fields(batch, 3, resolution, resolution, number_format)
    return Example(model, {"pixel_values": images, "labels": class_labels(batch, classes)})
