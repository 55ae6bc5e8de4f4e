"""The model files that ship, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

import remora.conf

CONF = Path(remora.conf.__file__).parent

TINY = (
    "gpt2_tiny",
    "llama_tiny",
    "qwen3_tiny",
    "bert_tiny",
    "t5_tiny",
    "mamba2_tiny",
    "vit_tiny",
    "swin_test",
    "resnet_tiny",
    "convnext_test",
    "unet_tiny",
    "fno2d_tiny",
    "climate_unet_tiny",
)
FULL = (
    "gpt2",
    "gpt2_medium",
    "llama_1b",
    "llama_7b",
    "qwen3_0_6b",
    "bert_base",
    "t5_small",
    "mamba2_130m",
    "vit_base",
    "swin_tiny",
    "resnet50",
    "resnet101",
    "convnext_tiny",
    "unet",
    "fno2d",
    "climate_unet",
)


def load(group: str, name: str) -> dict[str, Any]:
    with (CONF / group / f"{name}.yaml").open() as file:
        content: dict[str, Any] = yaml.safe_load(file)
    return content


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))
