"""Number formats of parameters and inputs."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["cast_parameters", "float_dtype"]

_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def float_dtype(name: str) -> torch.dtype:
    """Translate a name such as ``"bfloat16"``.

    Raises:
        ValueError: the name is none of float64, float32, bfloat16, float16.
    """
    if name not in _DTYPES:
        raise ValueError(f"dtype is {name!r}; allowed are {', '.join(_DTYPES)}")
    return _DTYPES[name]


def cast_parameters(model: ModuleT, dtype: torch.dtype) -> ModuleT:
    """Convert real floating-point parameters in place and return the model.

    Buffers keep their precision, because rotary frequencies and position tables lose meaning in
    16 bits; the running statistics of batch norm follow its parameters, as its kernels require.
    """
    for module in model.modules():
        own: list[Tensor] = list(module.parameters(recurse=False))
        if isinstance(module, _BatchNorm):
            own += module.buffers(recurse=False)
        for tensor in own:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
    return model
