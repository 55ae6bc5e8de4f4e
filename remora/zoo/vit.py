"""Vision transformer: an encoder over image patches with a class token."""

from __future__ import annotations

from transformers import ViTConfig, ViTForImageClassification

from remora.zoo.example import Example
from remora.zoo.inputs import class_labels, fields
from remora.zoo.precision import cast_parameters, float_dtype

__all__ = ["vit"]


def vit(
    *,
    layers: int,
    width: int,
    heads: int,
    inner_width: int,
    patch: int,
    resolution: int,
    classes: int,
    dropout: float,
    batch: int,
    dtype: str,
) -> Example:
    """Build ViT for image classification (Dosovitskiy et al. 2020).

    Args:
        layers: number of blocks.
        width: hidden size, a multiple of ``heads``.
        heads: attention heads.
        inner_width: width inside the MLP.
        patch: side of a patch in pixels, a divisor of ``resolution``.
        resolution: side of the square images in pixels.
        classes: number of labels.
        dropout: probability after embedding, attention output and MLP.
        batch: samples.
        dtype: of parameters and images.

    Shapes:
        pixel_values: ``[batch, 3, resolution, resolution]``.
        labels: int64 ``[batch]``.
    """
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner_width,
        image_size=resolution,
        patch_size=patch,
        hidden_dropout_prob=dropout,
        num_labels=classes,
        problem_type="single_label_classification",
        attn_implementation="sdpa",
    )
    number_format = float_dtype(dtype)
    model = cast_parameters(ViTForImageClassification(config), number_format).train()
    images = fields(batch, 3, resolution, resolution, number_format)
    return Example(model, {"pixel_values": images, "labels": class_labels(batch, classes)})
