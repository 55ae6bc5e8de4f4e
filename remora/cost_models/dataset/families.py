"""Families of architectures: what is left out as a whole to see how a cost model carries over."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CALIBRATION", "FAMILIES", "OTHER", "family_of"]

CALIBRATION = "calibration"
"""Networks of generic blocks that stand for no architecture: always allowed in training."""

OTHER = "other"
"""Every architecture that is not in :data:`FAMILIES`."""

FAMILIES: Mapping[str, str] = {
    "gpt2": "decoder",
    "llama": "decoder",
    "qwen3": "decoder",
    "bert": "encoder",
    "vit": "encoder",
    "swin": "encoder",
    "t5": "encoder-decoder",
    "mamba2": "state-space",
    "resnet": "convnet",
    "convnext": "convnet",
    "unet": "unet",
    "climate_unet": "unet",
    "fno2d": "spectral",
    "calibration": CALIBRATION,
}
"""Family by name of the function of the zoo that builds the architecture."""

_ZOO = "remora.zoo."


def family_of(target: str) -> str:
    """Return the family of ``package.module:function``; those outside the zoo are ``other``."""
    module, _, function = target.partition(":")
    return FAMILIES.get(function, OTHER) if module.startswith(_ZOO) else OTHER
